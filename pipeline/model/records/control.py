"""Records that the engine itself writes to a service's topics, beside what their schemas say.

Such a record has no value, and a header that says what it is. It is folded by being stepped over: who reads it as data
meets a value that is null, as a deletion's, and nothing worse.
"""

from __future__ import annotations

from collections.abc import Iterable

CONTROL = "pipeline-control"
BARRIER = (CONTROL, b"barrier")  # who has committed past it has folded all that was stored before it


def is_barrier(value: bytes | None, headers: Iterable[tuple[str, bytes | str | None]] | None) -> bool:
    """Whether a record of that value and those headers is a barrier."""
    return value is None and BARRIER in (headers or ())
