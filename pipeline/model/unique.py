"""A value that only one aggregate of a kind may have, as it is declared."""

from __future__ import annotations

import hmac
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from pipeline.model.records.keys import no_text


@dataclass(frozen=True, slots=True)
class Unique:
    """A value of an aggregate's state that no other aggregate of its kind may have, such as a user's e-mail address.

    `name`: of the aggregate that holds the reservations; it belongs to the same service, has topics of its own, and
    schemas like any other (docs/uniqueness.md has them).
    `value(state)`: the value, so normalised that equal ones are the same text; None if the state has none.

    A command after which the state would have another value waits until that value is reserved, and is rejected as
    `taken` if another aggregate has it. A value that is given up is free again.
    """

    name: str
    value: Callable[[Any], str | None]


def reservation_key(secret: bytes, value: str) -> str:
    """Return the key of a value's reservation. Without the service's secret, the value cannot be guessed from it.

    Raises TypeError if the value is not text.
    """
    if not isinstance(value, str):
        raise TypeError(f"a unique value must be text or None, not {no_text(value)}")
    return hmac.digest(secret, value.encode(), "sha256").hex()
