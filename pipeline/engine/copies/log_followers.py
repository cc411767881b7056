"""Following logs outside the group: one reader serves all local copies of a lane.

It is stepped between batches, so that a restore never stops the partitions that run.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Protocol

from pipeline.engine.ports import TP, LogReader, Record

# rocksdict holds the interpreter while it writes; so many rows take a few milliseconds.
ROWS_PER_WRITE = 2_000


class Follower(Protocol):
    """A local copy of one or several partitions."""

    def apply(self, tp: TP, records: Sequence[Record]) -> None: ...
    def reached(self, tp: TP, end: int) -> None:
        """Called once all stable records below `end` are applied."""

    def begin_again(self) -> Iterable[TP]:
        """Wipe the copy, as a log no longer holds what it needs next. Return the partitions to read from the start."""


class LogFollowers:
    """All followed partitions of one lane, over one log reader."""

    def __init__(self, reader: LogReader) -> None:
        self._reader = reader
        self._copies: dict[TP, Follower] = {}

    def follow(self, copy: Follower, starts: Mapping[TP, int | None]) -> None:
        """Read each partition from its offset (None: the log's beginning) into `copy`."""
        if starts:
            self._copies |= dict.fromkeys(starts, copy)
            self._reader.follow(starts)

    def unfollow(self, partitions: Iterable[TP]) -> None:
        """Stop following these partitions; no error if one is not followed."""
        gone = [tp for tp in partitions if self._copies.pop(tp, None)]
        if gone:
            self._reader.unfollow(gone)

    def follows(self, copy: Follower) -> bool:
        """Whether anything is followed for that copy."""
        return any(other is copy for other in self._copies.values())

    def forget(self, copy: Follower) -> None:
        """Stops following all that is followed for that copy."""
        self.unfollow([tp for tp, other in self._copies.items() if other is copy])

    def step(self) -> bool:
        """Apply what has arrived, without waiting. False if nothing has."""
        if not self._copies:
            return False
        polled = self._reader.poll(ROWS_PER_WRITE, 0)
        for tp, records in polled.batches.items():
            if copy := self._copies.get(tp):
                copy.apply(tp, records)
        for tp, end in polled.ends.items():
            if copy := self._copies.get(tp):
                copy.reached(tp, end)
        for tp in polled.out_of_range:
            if copy := self._copies.get(tp):
                self.forget(copy)
                self.follow(copy, dict.fromkeys(copy.begin_again()))
        return bool(polled.batches)
