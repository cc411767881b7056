"""Commands that wait for a unique value to be reserved, as the log of an aggregate's commands tells of them.

The answers stand in that log, each behind the command that waits for it; who got what is judged where it is decided.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from pipeline.errors import UndecodableRecord
from pipeline.flow import is_later
from pipeline.model import Aggregate, CommandMessage, Rejected, ReplyMessage, StateMessage


class Answer(NamedTuple):
    """What a reservation was answered. `offset`: of the command that waits; `rejected`: None where it has the value."""

    offset: int
    unique: str
    rejected: Rejected | None


class Reserving:
    """The reservations of one partition of an aggregate. `decode`: reads replies, or raises UndecodableRecord."""

    def __init__(self, aggregate: Aggregate[Any, Any, Any], decode: Callable[[bytes | None], Any]) -> None:
        self._unique, self._initial, self._decode = aggregate.unique, aggregate.initial, decode
        self._granted: dict[Any, set[str]] = {}  # names of the values that the first of a key has by now

    def answer(self, value: bytes | None) -> Answer | None:
        """What a record of the command topic answers; None where it is a command, or nothing at all."""
        if not self._unique:
            return None
        try:
            reply: ReplyMessage = self._decode(value)
            place, unique, _ = reply.command_id.rsplit("/", 2)
            offset = int(place.rpartition("/")[2])
        except (UndecodableRecord, ValueError):
            return None
        return Answer(offset, unique, reply.body if isinstance(reply.body, Rejected) else None)

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
