"""Helpers for projections: windows by the events' own time, and the best of many. The calendar is arithmetic."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

from pipeline.errors import TopologyError

E = TypeVar("E")
SECOND_MS, DAY_MS = 1_000, 86_400_000
FIRST_MS, END_MS = -62_135_596_800_000, 253_402_300_800_000  # of the years 1 to 9999
ISO = re.compile(r"(\d{4})-(\d\d)-(\d\d)(?:[T ](\d\d):(\d\d)(?::(\d\d)(?:\.(\d{3})\d*)?)?)?Z?")


@dataclass(frozen=True, slots=True)
class Tumbling:
    """Windows of one length that lie end to end. Times are milliseconds since the epoch, as whole numbers.

    `size_ms`: how long each is. A window's beginning is written to the second in keys, or to the millisecond if its
    length is less than a second. `offset_ms`: where the first one begins, after the epoch (which was a Thursday).
    `at(event)`: when it happened; left out, when the broker stored the command that it answers.
    `grace_ms`: an event that is stored later than so long after the end of its window is too late; None: never.
    """

    size_ms: int
    at: Callable[[Any], int] | None = None
    grace_ms: int | None = None
    offset_ms: int = 0

    def __post_init__(self) -> None:
        for name, value, least in (("size_ms", self.size_ms, 1), ("grace_ms", self.grace_ms or 0, 0)):
            if type(value) is not int or value < least:
                raise TopologyError(
                    f"Tumbling({name}={value!r}): give a whole number of milliseconds, at least {least}"
                )
        if type(self.offset_ms) is not int:
            raise TopologyError(f"Tumbling(offset_ms={self.offset_ms!r}): give a whole number of milliseconds")

    def name(self, at_ms: int) -> str:
        """Return what the window that the moment is in is called in keys: its beginning."""
        return moment_text(self.start(at_ms), millis=self.size_ms < SECOND_MS)

    def start(self, at_ms: int) -> int:
        """When the window begins that the moment is in."""
        return at_ms - (at_ms - self.offset_ms) % self.size_ms

    def is_late(self, at_ms: int, stored_ms: int) -> bool:
        """Whether what happened then and was stored then comes too late."""
        return self.grace_ms is not None and stored_ms >= self.start(at_ms) + self.size_ms + self.grace_ms


def top(
    entries: tuple[E, ...], entry: E, n: int, *, of: Callable[[E], object], by: Callable[[E], Any]
) -> tuple[E, ...]:
    """The `n` entries with the highest `by`, best first, with `entry` in place of the one that is `of` the same.

    Of equals, who came first stays first. Exact as long as no entry's rank falls: who was pushed out is forgotten.
    """
    others = [other for other in entries if of(other) != of(entry)]
    return tuple(sorted([*others, entry], key=by, reverse=True)[:n])


def moment_ms(text: str) -> int:
    """`2009-12-01T07:45:00` (a day alone is its midnight) in milliseconds since the epoch, read as UTC. ValueError."""
    found = ISO.fullmatch(text)
    if found is None:
        raise ValueError(f"{text!r} is no time such as 2009-12-01T07:45:00")
    year, month, day, hour, minute, second, milli = (int(part or 0) for part in found.groups())
    days = _days(year, month, day)
    if _civil(days) != (year, month, day) or hour > 23 or minute > 59 or second > 59:
        raise ValueError(f"{text!r} is no day and time of the calendar")
    return days * DAY_MS + ((hour * 60 + minute) * 60 + second) * 1000 + milli


def moment_text(at_ms: int, *, millis: bool = False) -> str:
    """Format a moment to the second, as `2009-12-01T07:45:00Z`, or to the millisecond. Texts sort as their moments do.

    Raises ValueError for a moment that is not in the years 1 to 9999, whose texts would not.
    """
    if not FIRST_MS <= at_ms < END_MS:
        raise ValueError(f"{at_ms} ms since the epoch is not in the years 1 to 9999")
    days, ms = divmod(at_ms, DAY_MS)
    year, month, day = _civil(days)
    seconds = ms // 1000
    fraction = f".{ms % 1000:03}" if millis else ""
    return f"{year:04}-{month:02}-{day:02}T{seconds // 3600:02}:{seconds // 60 % 60:02}:{seconds % 60:02}{fraction}Z"


# Years begin in March here, so that the leap day is their last; an era is 400 of them.


def _days(year: int, month: int, day: int) -> int:
    """The days since the epoch."""
    year -= month <= 2
    era, of_era = divmod(year, 400)
    of_year = (153 * (month - 3 if month > 2 else month + 9) + 2) // 5 + day - 1
    return era * 146_097 + of_era * 365 + of_era // 4 - of_era // 100 + of_year - 719_468


def _civil(days: int) -> tuple[int, int, int]:
    """Year, month and day."""
    era, of_era = divmod(days + 719_468, 146_097)
    year = (of_era - of_era // 1460 + of_era // 36_524 - of_era // 146_096) // 365
    of_year = of_era - (365 * year + year // 4 - year // 100)
    march = (5 * of_year + 2) // 153
    month = march + 3 if march < 10 else march - 9
    return era * 400 + year + (month <= 2), month, of_year - (153 * march + 2) // 5 + 1
