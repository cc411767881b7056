"""Commands that wait for a unique value to be reserved, as the log of an aggregate's commands tells of them.

The replies stand in that log, each behind the command that waits for it; who got what is judged where it is decided.
"""

from __future__ import annotations

from typing import Any

from pipeline.flow import is_later
from pipeline.model import Aggregate, CommandMessage, StateMessage


class Reserving:
    """The reservations of one partition of an aggregate."""

    def __init__(self, aggregate: Aggregate[Any, Any, Any]) -> None:
        self._unique, self._initial = aggregate.unique, aggregate.initial
        self._granted: dict[Any, set[str]] = {}  # names of the values that the first of a key has by now

    def waits(
        self, key: Any, command: CommandMessage, time_ms: int, before: StateMessage | None, after: StateMessage | None
    ) -> bool:
        """Whether a command, stored then, that leads from one state to another has to wait first."""
        if not self._unique or is_later(command, time_ms):
            return False
        old, new = (self._initial if state is None else state.body for state in (before, after))
        granted = self._granted.get(key, set())
        values = ((unique.name, unique.value(old), unique.value(new)) for unique in self._unique)
        return any(now is not None and now != was and name not in granted for name, was, now in values)

    def grant(self, key: Any, unique: str) -> None:
        """The first that waits has that value now."""
        self._granted.setdefault(key, set()).add(unique)

    def settled(self, key: Any) -> None:
        """The first that waited has been decided."""
        self._granted.pop(key, None)
