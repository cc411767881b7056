"""Building the steps of a lane that are new: what the others have folded is read again, by a reader of its own.

The states of a new revision come first, as commands wait for them.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from pipeline.engine.beside.catching_up import CatchingUp
from pipeline.engine.ports import TP, LogReader, Record
from pipeline.errors import RecordsLost
from pipeline.model.records.step_notes import StepNotes, mark

if TYPE_CHECKING:
    from pipeline.engine.context import LaneContext
    from pipeline.engine.loop.alone import Alone
    from pipeline.engine.loop.assignment import Assignment
    from pipeline.engine.loop.task import Task
    from pipeline.engine.loop.transaction import Transaction

log = logging.getLogger(__name__)

RECORDS = 1_000  # read in a turn
BUDGET_S = 0.2  # of a turn, so that the others go on
LOOK_S = 1.0  # between looks at what other workers build


class Building:
    """Folds for new steps what their tasks have folded already, a bounded number of records a turn.

    `busy`: whether anything is left to be built here. `checkpoint` commits what the lane has folded.
    """

    def __init__(
        self,
        context: LaneContext,
        tasks: Assignment,
        transaction: Transaction,
        alone: Alone,
        checkpoint: Callable[[], None],
    ) -> None:
        self._plan, self._ports, self._stats = context.plan, context.ports, context.stats
        self._service, self._clock = context.plan.service.name, context.ports.clock
        self._tasks, self._transaction, self._alone, self._checkpoint = tasks, transaction, alone, checkpoint
        self._catching_up = CatchingUp(context, tasks, transaction)
        self.level = self._catching_up.level
        self._reader: LogReader | None = None
        self._read: dict[TP, int] = {}  # what is read, and from where the reader goes on
        self._most = RECORDS
        self._aborts, self.busy = 0, False
        self._looked_s = -LOOK_S
        self._partitions: dict[str, int] = {}

    # --- what is left to do -------------------------------------------------------------------------------------------

    def look(self) -> None:
        """Look what is left to be built, here and elsewhere."""
        tasks = self._tasks_here()
        self._stats.building = {
            f"{tp.topic}-{tp.partition}": {
                "steps": [step.name for step in task.beside.building],
                "folded": task.beside.position,
                "of": task.position or 0,
            }
            for tp, task in tasks.items()
        }
        self._catching_up.look()
        self.busy = bool(tasks) or self._catching_up.busy
        if self._tasks.unbuilt and self._clock.monotonic_s() - self._looked_s >= LOOK_S:
            self._look_everywhere()

    def _tasks_here(self) -> dict[TP, Task]:
        return {task.tp: task for task in self._tasks.running() if task.beside.building}

    def _look_everywhere(self) -> None:
        """Find out which projections lack something still. What has been built once stays so."""
        unbuilt = self._tasks.unbuilt
        topics = sorted({topic for name in unbuilt for topic in self._plan.built_from[name][1]})
        if not self._partitions:
            facts = self._ports.reader.facts(topics)
            self._partitions = {topic: facts[topic].partitions for topic in topics}
        places = [TP(topic, n) for topic in topics for n in range(self._partitions[topic])]
        here: dict[TP, StepNotes] = {task.tp: task.beside.notes for task in self._tasks.running()}
        elsewhere = [tp for tp in places if tp not in here]
        told = self._ports.consumer.committed(elsewhere) if elsewhere else {}
        if told is None:
            return  # a commit is under way somewhere; the next turn asks again
        self._looked_s = self._clock.monotonic_s()
        notes: Mapping[TP, StepNotes] = here | {tp: each.steps for tp, each in told.items() if each is not None}
        for name in list(unbuilt):
            step, sources = self._plan.built_from[name]
            known = [notes[tp] for tp in places if tp.topic in sources and notes.get(tp)]
            built = sum(mark(step) in each and each[mark(step)].level for each in known)
            if built == len(known):
                del unbuilt[name]
            else:
                unbuilt[name] = (
                    f"{name!r} is new and is being built: {built} of {len(known)} partitions of its sources are in; "
                    "ask again"
                )

    # --- folding ------------------------------------------------------------------------------------------------------

    def fold(self) -> int:
        """Fold some records into the open transaction. Returns how many. Raises TransactionAborted."""
        return self._catching_up.fold() + self._build()

    def _build(self) -> int:
        tasks = self._tasks_here()
        if not tasks and self._reader is None:
            return 0
        if self._stats.aborts != self._aborts:  # one of these records may be why
            self._aborts, self._most = self._stats.aborts, max(1, self._most // 4)
        self._aim(tasks)
        folded = self._fold_some(tasks) if tasks else 0
        if folded and self._most < RECORDS:
            self._most = min(RECORDS, self._most * 2)
        return folded

    def _aim(self, tasks: dict[TP, Task]) -> None:
        """Read each partition from where its new steps stand."""
        if self._reader is None:
            self._reader = self._ports.replays()
        now_s = self._clock.monotonic_s()
        wanted = {tp: task.beside.position for tp, task in tasks.items() if task.beside.resume_s <= now_s}
        if stale := [tp for tp, at in self._read.items() if wanted.get(tp) != at]:
            self._reader.unfollow(stale)
            for tp in stale:
                del self._read[tp]
        if new := {tp: at for tp, at in wanted.items() if tp not in self._read}:
            self._reader.follow(new)
            self._read |= new

    def _fold_some(self, tasks: dict[TP, Task]) -> int:
        assert self._reader is not None
        polled = self._reader.poll(self._most, 0)
        until_s, total = self._clock.monotonic_s() + BUDGET_S, 0
        for tp in polled.out_of_range:
            raise RecordsLost(
                f"{', '.join(step.name for step in tasks[tp].beside.building)} of {self._service!r} is new and has to "
                f"fold {tp.topic}-{tp.partition} from offset {self._read[tp]} on, which the log "
                'does not hold any more; declare it with another name, or with start="now"'
            )
        here = sorted((polled.batches.keys() | polled.ends.keys()) & self._read.keys())
        self._read |= dict.fromkeys(here, -1)  # an abort at one of them has all of them read again
        for tp in here:
            task, records = tasks[tp], polled.batches.get(tp, [])
            there = task.position or 0
            ahead = [record for record in records if record.offset() < there]
            folded = 0
            if ahead and self._most == 1:
                folded = self._fold_alone(task, ahead[0])
            elif ahead:
                self._transaction.begin()
                folded = task.beside.fold(ahead, until_s)
            total += folded
            if folded == len(ahead) and (len(records) > folded or polled.ends.get(tp, 0) >= there):
                task.beside.advance(there)
            # What is left of the batch is read again.
            self._read[tp] = task.beside.position if folded == len(records) else -1
        return total

    def _fold_alone(self, task: Task, record: Record) -> int:
        """Fold a record in a transaction of its own, and park it if the broker refuses what comes of it."""
        if self._tasks.uncommitted():
            self._checkpoint()
            if self._stats.aborts != self._aborts:
                return 0
        self._alone.fold(task.beside, record)
        self._aborts = self._stats.aborts
        return int(task.beside.position > record.offset())

    def close(self) -> None:
        """Close the readers."""
        self._catching_up.close()
        if self._reader is not None:
            self._reader.close()
