"""Effects that `decide` may return besides events: set a deadline, cancel one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

NAME_BYTES_MAX = 200
TIME_MS_MAX = 253_402_300_799_999  # the last moment of the year 9999
AFTER_S_MAX = 100 * 366 * 24 * 3600.0


class Effect:
    """An effect of a decision that is not an event; it does not appear in the event log."""

    __slots__ = ()


def _check_name(name: str) -> None:
    if not 0 < len(name.encode()) <= NAME_BYTES_MAX:
        raise ValueError(f"the deadline's name {name!r:.100} does not have 1 to {NAME_BYTES_MAX} bytes")


@dataclass(frozen=True, slots=True)
class Deadline(Effect):
    """Send `command` to the same aggregate at a later time, unless it is cancelled before.

    `name`: the aggregate's own; setting one again replaces it. `after`: seconds, from when the command that is decided
    on was stored. `at`: milliseconds since the epoch. One of the two; ValueError if they cannot be used.
    """

    name: str
    command: Any
    after: float | None = None
    at: int | None = None

    def __post_init__(self) -> None:
        _check_name(self.name)
        if (self.after is None) == (self.at is None):
            raise ValueError(f"deadline {self.name!r}: give after or at")
        if self.after is not None and not 0 <= self.after <= AFTER_S_MAX:
            raise ValueError(f"deadline {self.name!r}: after={self.after} is not from 0 seconds to a hundred years")
        if self.at is not None and not 0 <= self.at <= TIME_MS_MAX:
            raise ValueError(f"deadline {self.name!r}: at={self.at} is not from 0 to {TIME_MS_MAX} ms")


@dataclass(frozen=True, slots=True)
class Cancel(Effect):
    """Cancel the deadline of that name; no error if there is none.

    Its command may have been sent already: `decide` must tell by the state whether it still applies.
    """

    name: str

    def __post_init__(self) -> None:
        _check_name(self.name)
