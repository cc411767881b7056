"""Following logs outside the group: one reader serves all local copies of a lane.

It is stepped between batches, so that a restore never stops the partitions that run.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

from pipeline.engine.parking.unknown import AGAIN_S
from pipeline.engine.ports import TP, Clock, LogReader, Record, Store
from pipeline.engine.state.table import Pairs
from pipeline.engine.stats import LaneStats, Wipe

log = logging.getLogger(__name__)
T = TypeVar("T")

# rocksdict holds the interpreter while it writes; so many rows take a few milliseconds.
ROWS_PER_WRITE = 2_000


@dataclass(slots=True)
class Lag(Generic[T]):
    """Since when a copy may lack something."""

    caught_up_s: float = -math.inf  # when it was last known to lack nothing
    goal: tuple[T, float] | None = None  # ends to get to, and when they were asked for

    def sample(self, ends: T, asked_s: float, has_reached: Callable[[T], bool]) -> bool:
        """Note whether the copy has reached the ends of an earlier sample; return that. `ends` are those of `asked_s`.

        Under a steady load it never gets to the ends of now, but soon to those of the sample before.
        """
        if self.goal is None:
            self.goal = ends, asked_s
        goal, goal_s = self.goal
        if not has_reached(goal):
            return False
        self.caught_up_s, self.goal = goal_s, (ends, asked_s)
        return True

    def age_s(self, now_s: float) -> float | None:
        """The lag in seconds; None if the copy has never caught up. Safe from any thread."""
        return None if self.caught_up_s == -math.inf else now_s - self.caught_up_s


class Followed(Protocol):
    """What takes in logs."""

    def apply(self, tp: TP, records: Sequence[Record]) -> int | None:
        """Apply the next records of a log. Return the offset of one that cannot be read yet, if there is one."""

    def reached(self, tp: TP, end: int) -> None:
        """Note that all stable records below `end` are applied."""

    def begin_again(self) -> Iterable[TP]:
        """Begin anew, as a log no longer holds what is needed next. Return the partitions to read from the start."""


class Follower:
    """A local copy of logs, in a store of its own. It begins anew for the named reasons only (`Wipe`)."""

    def __init__(self, name: str, store: Store, stats: LaneStats, places: Mapping[TP, str]) -> None:
        """`places`: of each log, the name of the position up to which it is applied."""
        self.store, self.places = store, places
        self.lag, self.unflushed = Lag[Mapping[TP, int]](), 0
        self._name, self._stats = name, stats
        self._marks: Mapping[str, int] = {}  # positions that say what it is a copy of
        if store.damage is not None:
            log.warning("%s could not be used: %s", name, store.damage)
            stats.wipe(Wipe.DAMAGED)

    def apply(self, tp: TP, records: Sequence[Record]) -> int | None:
        """Apply the next records of a log. Return the offset of one that cannot be read yet, if there is one."""
        raise NotImplementedError

    def reached(self, tp: TP, end: int) -> None:
        """Note that all stable records below `end` are applied."""
        # Records that came in the same poll may lie behind the end that was told before them.
        if end > (self.stored(tp) or 0):
            self._write([], tp, end)

    def begin_again(self) -> Iterable[TP]:
        """Wipe the copy, as a log no longer holds what it needs next. Return the partitions to read from the start."""
        self._wipe(Wipe.OUT_OF_RANGE)
        self._sign()
        return self.places

    def stored(self, tp: TP) -> int | None:
        """The offset up to which that log is applied; None if nothing is."""
        return self.store.position(self.places[tp])

    def has_reached(self, ends: Mapping[TP, int]) -> bool:
        """Whether its logs are applied up to these ends."""
        return all((self.stored(tp) or 0) >= ends[tp] for tp in self.places)

    def sample_lag(self, ends: Mapping[TP, int], asked_s: float) -> bool:
        """Note whether the copy has caught up, and return that; see Lag.sample."""
        return self.lag.sample(ends, asked_s, self.has_reached)

    def flush(self) -> None:
        """Bound what a crash leaves to read again."""
        self.unflushed = 0
        self.store.flush()

    def _sign(self) -> None:
        self.store.write([], self._marks)

    def _write(self, rows: Pairs, tp: TP, position: int) -> None:
        self.store.write(rows, {self.places[tp]: position})
        self.unflushed += len(rows)

    def _wipe(self, why: Wipe) -> None:
        log.warning("%s: wiped and read again: %s", self._name, why.value)
        self._stats.wipe(why)
        self.lag, self.unflushed = Lag(), 0
        self.store.wipe()


class LogFollowers:
    """All followed partitions of one lane, over one log reader."""

    def __init__(self, reader: LogReader, clock: Clock) -> None:
        self._reader, self._clock = reader, clock
        self._copies: dict[TP, Followed] = {}
        self._still: dict[TP, tuple[int, float]] = {}  # those that stand before a record, its offset, until when

    def follow(self, copy: Followed, starts: Mapping[TP, int | None]) -> None:
        """Read each partition from its offset (None: the log's beginning) into `copy`."""
        if starts:
            self._copies |= dict.fromkeys(starts, copy)
            self._reader.follow(starts)

    def unfollow(self, partitions: Iterable[TP]) -> None:
        """Stop following these partitions; no error if one is not followed."""
        gone = [tp for tp in partitions if self._copies.pop(tp, None) and not self._still.pop(tp, None)]
        if gone:
            self._reader.unfollow(gone)

    def follows(self, copy: Followed) -> bool:
        """Whether anything is followed for that copy."""
        return any(other is copy for other in self._copies.values())

    def forget(self, copy: Followed) -> None:
        """Stop following all that is followed for that copy."""
        self.unfollow([tp for tp, other in self._copies.items() if other is copy])

    def step(self) -> bool:
        """Apply what has arrived, without waiting. False if nothing has."""
        if not self._copies:
            return False
        if self._still:
            self._try_again()
        polled = self._reader.poll(ROWS_PER_WRITE, 0)
        for tp, records in polled.batches.items():
            if (copy := self._copies.get(tp)) and (offset := copy.apply(tp, records)) is not None:
                self._reader.unfollow([tp])
                self._still[tp] = offset, self._clock.monotonic_s() + AGAIN_S
        for tp, end in polled.ends.items():
            if (copy := self._copies.get(tp)) and tp not in self._still:
                copy.reached(tp, end)
        for tp in polled.out_of_range:
            if copy := self._copies.get(tp):
                self.forget(copy)
                self.follow(copy, dict.fromkeys(copy.begin_again()))
        return bool(polled.batches)

    def _try_again(self) -> None:
        """Read on where a copy stands before a record that it could not read."""
        now_s = self._clock.monotonic_s()
        due = {tp: offset for tp, (offset, until_s) in self._still.items() if until_s <= now_s}
        for tp in due:
            del self._still[tp]
        if due:
            self._reader.follow(due)
