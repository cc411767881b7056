"""Bringing the states of taken partitions up to their event logs, where another revision has decided before."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from pipeline.engine.beside.built_ahead import build_name, built_place
from pipeline.engine.beside.states import States
from pipeline.engine.ports import TP, LogReader
from pipeline.errors import LaneFatal, RecordsLost

if TYPE_CHECKING:
    from pipeline.engine.context import LaneContext
    from pipeline.engine.loop.assignment import Assignment
    from pipeline.engine.loop.task import Task
    from pipeline.engine.loop.transaction import Transaction

RECORDS = 4_000  # read at once
BUDGET_S = 0.2  # of a turn, so that other partitions go on


class CatchingUp:
    """Folds the events that states lack, a bounded number a turn. `busy`: whether there are any."""

    def __init__(self, context: LaneContext, tasks: Assignment, transaction: Transaction) -> None:
        self._ports, self._stats, self._clock = context.ports, context.stats, context.ports.clock
        self._group = context.plan.group
        self._tasks, self._transaction = tasks, transaction
        self._reader: LogReader | None = None
        self._read: dict[TP, int] = {}  # what is read, and from where the reader goes on
        self._waiting: list[Task] = []
        self.busy = False

    def level(self, claimed: Sequence[Task]) -> list[Task]:
        """Return those whose states lack nothing, so that they may fold: of the ones just claimed, and earlier ones."""
        self._waiting = [task for task in (*self._waiting, *claimed) if task.running]
        level = [task for task in self._waiting if not task.behind]
        self._waiting = [task for task in self._waiting if task.behind]
        return level

    def look(self) -> None:
        """Look what is to be done, and say so."""
        behind = self._tasks.behind()
        self.busy = bool(behind)
        for tp, states in behind.items():
            self._stats.building["{}-{}".format(*tp)] = {
                "steps": [f"revision {states.spec.aggregate.revision} of {states.spec.aggregate.name}"],
                "folded": min(states.at, states.end),
                "of": states.end,
            }

    def fold(self) -> int:
        """Fold some. Returns how many events. Raises FoldError, RecordsLost."""
        now_s = self._clock.monotonic_s()
        behind = list(self._tasks.behind().values())
        for states in behind:
            if states.shared and not states.touched:  # the commit that takes them over is done
                self._take_over(states)
            if not states.shared and states.at >= states.end:
                states.advance(states.end)
        able = [states for states in behind if not states.shared and states.resume_s <= now_s]
        missing = {states.log: states for states in able if states.at < states.end}
        self._aim(missing)
        folded, until_s = 0, now_s + BUDGET_S
        while missing:
            some = self._fold_some(missing, until_s)
            folded += some
            if not some or self._clock.monotonic_s() > until_s:
                break
        return folded

    def _take_over(self, states: States) -> None:
        """End a build of these states. Raises LaneFatal if it has written since they were restored."""
        self._ports.producer.fence(build_name(self._group, states.spec))
        place = built_place(states.spec, states.log.partition)
        if (end := self._ports.reader.ends([place])[place]) > states.restored:
            raise LaneFatal(f"{place.topic}-{place.partition} was built up to {end} meanwhile")
        states.shared = False

    def _aim(self, missing: dict[TP, States]) -> None:
        """Read each log from where its states stand."""
        if self._reader is None:
            if not missing:
                return
            self._reader = self._ports.replays()
        wanted = {tp: states.at for tp, states in missing.items()}
        if stale := [tp for tp, at in self._read.items() if wanted.get(tp) != at]:
            self._reader.unfollow(stale)
            for tp in stale:
                del self._read[tp]
        if new := {tp: at for tp, at in wanted.items() if tp not in self._read}:
            self._reader.follow(new)
            self._read |= new

    def _fold_some(self, missing: dict[TP, States], until_s: float) -> int:
        assert self._reader is not None
        polled = self._reader.poll(RECORDS, 0)
        for tp in polled.out_of_range:
            aggregate = missing[tp].spec.aggregate
            raise RecordsLost(
                f"revision {aggregate.revision} of {aggregate.name!r} has to fold {tp.topic}-{tp.partition} from "
                f"offset {self._read[tp]} on, which the log does not hold any more"
            )
        total = 0
        here = sorted((polled.batches.keys() | polled.ends.keys()) & missing.keys())
        self._read |= dict.fromkeys(here, -1)  # an abort at one of them has all of them read again
        for tp in here:
            states, records = missing[tp], polled.batches.get(tp, [])
            ahead = [record for record in records if record.offset() < states.end]
            if ahead:
                self._transaction.begin()
            folded = states.fold(ahead, until_s, self._clock)
            total += folded
            if folded == len(ahead) and (len(records) > folded or polled.ends.get(tp, 0) >= states.end):
                states.advance(states.end)
            self._read[tp] = states.at if folded == len(records) else -1  # what is left is read again
            if states.at >= states.end or states.resume_s > self._clock.monotonic_s():
                del missing[tp]
        return total

    def close(self) -> None:
        """Close the reader."""
        if self._reader is not None:
            self._reader.close()
