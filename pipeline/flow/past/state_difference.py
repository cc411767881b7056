"""state, state -> what differs between them."""

from __future__ import annotations

from collections.abc import Iterator
from enum import Enum
from typing import Any, NamedTuple


class Absent(Enum):
    """Stands for a missing value, which differs from a value of None."""

    ABSENT = "absent"


ABSENT = Absent.ABSENT


class Difference(NamedTuple):
    """A field that differs, such as `lines[2].quantity`; `path` is empty if the whole differs."""

    path: str
    before: Any
    after: Any


def state_difference(before: Any, after: Any, path: str = "") -> Iterator[Difference]:
    """The fields that differ between two states, in the order of their fields.

    States are as JSON holds them: objects are compared by field, lists by place; whatever else is there, or there only
    once, is compared as a whole.
    """
    if isinstance(before, dict) and isinstance(after, dict):
        for name in dict.fromkeys([*before, *after]):
            where = f"{path}.{name}" if path else str(name)
            yield from state_difference(before.get(name, ABSENT), after.get(name, ABSENT), where)
    elif isinstance(before, list | tuple) and isinstance(after, list | tuple):
        for n in range(max(len(before), len(after))):
            old, new = (items[n] if n < len(items) else ABSENT for items in (before, after))
            yield from state_difference(old, new, f"{path}[{n}]")
    elif type(before) is not type(after) or before != after:
        yield Difference(path, before, after)
