"""The lane: how a service runs. A synchronous loop over injected adapters; it never sleeps, spawns or reads a clock.

One turn is `poll`, `fold` for each batch it returned, `settle`. In a worker one thread makes the turns, with a Faust
agent between poll and fold; a test or a simulator just calls `turn`.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from pipeline.errors import TransactionAborted
from pipeline.runtime.checkpoint import checkpoint
from pipeline.runtime.follow import Following, ReplicaCopy, Restore
from pipeline.runtime.ports import TP, Clock, GroupConsumer, LogReader, Polled, Producer, Record, Store, Stores
from pipeline.runtime.stats import LaneStats
from pipeline.runtime.table import RowCodec
from pipeline.runtime.task import Task
from pipeline.runtime.wiring import Wiring

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class LaneSettings:
    """How much a lane takes at once."""

    records_per_poll_max: int = 4_000
    commit_interval_s: float = 0.1
    records_per_commit_max: int = 50_000
    idle_wait_s: float = 0.05
    restore_wait_s: float = 0.002  # while a changelog is being fetched by the other consumer


class Batch(NamedTuple):
    """Records of one partition, in order."""

    tp: TP
    records: list[Record]


class ReadView(NamedTuple):
    """Where to read a table of one partition; holds committed rows only. `restoring`: rows may still be missing."""

    store: Store
    prefix: bytes
    codec: RowCodec
    restoring: bool


class Lane:
    """One service in one process: its consumer, its producer, the tables of the partitions it holds."""

    def __init__(
        self,
        wiring: Wiring,
        consumer: GroupConsumer,
        producer: Producer,
        reader: LogReader,
        stores: Stores,
        clock: Clock,
        settings: LaneSettings | None = None,
    ) -> None:
        self.wiring, self.settings, self.stats = wiring, settings or LaneSettings(), LaneStats()
        self.views: dict[tuple[str, int], ReadView] = {}  # read by other threads
        self._consumer, self._producer, self._stores, self._clock = consumer, producer, stores, clock
        self._following = Following(reader)
        self._reader = reader
        self._replica_stores: list[Store] = []
        self._tasks: dict[TP, Task] = {}
        self._arrived: list[TP] = []  # assigned, committed offset not known yet
        self._restores: dict[TP, Restore] = {}
        self._ends: dict[TP, int] = {}  # partitions read to their end, and where that is
        self._rewound = False  # whether partitions were rewound since the last poll: what it brought is void
        self._in_transaction = False
        self._folded = 0  # records since the last commit
        self._committed_s = clock.monotonic_s()
        self._more = False  # whether the last poll brought anything

    # --- the turn -----------------------------------------------------------------------------------------------------

    def open(self) -> None:
        """Joins the group and begins to follow what the replicas need."""
        for replica, events, rows in self.wiring.replicas:
            store = self._stores.open(f"replica.{replica.name}")
            self._replica_stores.append(store)
            copy = ReplicaCopy(replica, events, rows, store, self.stats)
            starts = copy.starts(self._reader.partitions(replica.source.topic))
            self._following.follow(copy, starts)
            for tp in starts:
                self.views[replica.name, tp.partition] = ReadView(store, copy.prefix(tp.partition), rows, False)
        if self.wiring.inlets:
            self._consumer.subscribe(sorted(self.wiring.inlets), self)

    def turn(self) -> None:
        """One round of everything."""
        for batch in self.poll():
            self.fold(batch)
        self.settle()

    def poll(self) -> list[Batch]:
        """Reads what is there, at most for the idle time; also goes on with restores and replicas."""
        followed = self._following.step()
        self._start_arrived()
        self._finish_restores()
        wait_s = self._wait_s(followed)
        self._rewound = False
        polled = self._consumer.poll(self.settings.records_per_poll_max, wait_s)
        if self._rewound:
            # A rebalance within the poll has aborted and rewound; what was read before it is to be read again.
            self._rewind()
            polled = Polled()
        self._more = bool(polled.batches)
        self._ends = polled.ends
        return [Batch(tp, records) for tp, records in polled.batches.items() if self._runs(tp)]

    def _wait_s(self, followed: bool) -> float:
        """How long to wait for records: not at all while there is other work to do."""
        if followed or self._uncommitted():
            return 0
        return self.settings.restore_wait_s if self._restores or self._arrived else self.settings.idle_wait_s

    def fold(self, batch: Batch) -> None:
        """Runs the steps on one batch. Effects are in the open transaction and in memory, nowhere else."""
        if self._rewound or not self._runs(batch.tp):
            return
        try:
            self._begin()
            self._tasks[batch.tp].fold(batch.records)
        except TransactionAborted as aborted:
            self._start_over(aborted)
        self._folded += len(batch.records)

    def settle(self) -> None:
        """Makes a checkpoint when it is due: at the interval, or at once when there is nothing more to read."""
        for tp, end in self._ends.items():
            if self._runs(tp):  # steps over transaction markers, which no record stands for
                self._tasks[tp].position = max(end, self._tasks[tp].position or 0)
        self._ends = {}
        if not self._uncommitted():
            return
        due = self._clock.monotonic_s() - self._committed_s >= self.settings.commit_interval_s
        if due or not self._more or self._folded >= self.settings.records_per_commit_max:
            self._checkpoint()

    def close(self) -> None:
        """Commits, leaves and closes; the process may end."""
        if self._uncommitted():
            self._checkpoint()
        self._consumer.close()
        self._release()

    def abandon(self) -> None:
        """Closes without committing, after an error: the next start goes on from the last commit."""
        if self._in_transaction:
            self._producer.abort()
        self._release()

    def _release(self) -> None:
        self._close_tasks(list(self._tasks))
        for store in self._replica_stores:
            store.close()
        self._reader.close()
        self._producer.close()

    # --- the transaction ----------------------------------------------------------------------------------------------

    def _runs(self, tp: TP) -> bool:
        task = self._tasks.get(tp)
        return task is not None and task.running

    def _uncommitted(self) -> list[Task]:
        return [task for task in self._tasks.values() if task.uncommitted]

    def _begin(self) -> None:
        if not self._in_transaction:
            self._producer.begin()
            self._in_transaction = True

    def _checkpoint(self) -> None:
        started = self._clock.monotonic_s()
        self._begin()
        try:
            checkpoint(self._uncommitted(), self._producer, self._consumer.group(), self._clock)
        except TransactionAborted as aborted:
            self._start_over(aborted)
        else:
            self._in_transaction = False
            self.stats.checkpoints += 1
        self._folded = 0
        self._committed_s = self._clock.monotonic_s()
        self.stats.checkpoint_s += self._committed_s - started

    def _start_over(self, aborted: TransactionAborted) -> None:
        log.warning("%s: %s; folding again from the last commit", self.wiring.service.name, aborted)
        self._abort()
        self._rewind()

    def _abort(self) -> None:
        """Drops the open transaction and all that was folded into it."""
        self.stats.aborts += 1
        if self._in_transaction:
            self._producer.abort()
            self._in_transaction = False
        for task in self._tasks.values():
            task.drop()

    def _rewind(self) -> None:
        """Reads on where the last commit left off."""
        self._rewound, self._ends = True, {}
        for task in self._tasks.values():
            if task.running:
                self._consumer.start(task.tp, task.committed)

    # --- assignments, called from within the consumer's poll ----------------------------------------------------------

    def assigned(self, partitions: Sequence[TP]) -> None:
        """Opens the tasks, paused. They start once their tables are up to date, in later turns."""
        for tp in partitions:
            inlet = self.wiring.inlets[tp.topic]
            store = self._stores.open(f"{tp.topic}-{tp.partition}") if inlet.tables else None
            task = self._tasks[tp] = Task(tp, inlet, store, self._producer, self.stats, self.wiring.parked)
            task.flushed_s = self._clock.monotonic_s()
            self._show(task, restoring=True)
        self._arrived += partitions
        self._count()
        log.info("%s: assigned %s", self.wiring.service.name, _names(partitions))

    def revoked(self, partitions: Sequence[TP]) -> None:
        """Commits what is folded while membership still allows it, then gives the partitions up."""
        if self._uncommitted():
            self._checkpoint()
        self._close_tasks(partitions)
        log.info("%s: revoked %s", self.wiring.service.name, _names(partitions))

    def lost(self, partitions: Sequence[TP]) -> None:
        """Membership is gone and others may own the partitions already: nothing of the open transaction may commit."""
        self._abort()
        self._close_tasks(partitions)
        self._rewind()
        log.warning("%s: lost %s", self.wiring.service.name, _names(partitions))

    def _close_tasks(self, partitions: Sequence[TP]) -> None:
        for tp in partitions:
            task = self._tasks.pop(tp, None)
            if task is None:
                continue
            if tp in self._arrived:
                self._arrived.remove(tp)
            if restore := self._restores.pop(tp, None):
                self._following.unfollow(restore.open)
            for table in task.tables:
                self.views.pop((table.name, tp.partition), None)
            task.close()
        self._count()

    def _start_arrived(self) -> None:
        """Finds out where newly assigned tasks stand, and plans what their tables lack."""
        if not self._arrived:
            return
        committed = self._consumer.committed(self._arrived)
        if committed is None:
            return  # a commit is under way somewhere; the next turn asks again
        arrived, self._arrived = self._arrived, []
        tasks = [self._tasks[tp] for tp in arrived]
        changelogs = [TP(table.changelog, task.tp.partition) for task in tasks for table in task.tables]
        ends = self._reader.ends(changelogs)  # after the committed offsets: what they cover lies below these ends
        for task in tasks:
            restore = self._restores[task.tp] = Restore(task, committed[task.tp], ends, self.stats)
            self._following.follow(restore, restore.starts())

    def _finish_restores(self) -> None:
        for tp, restore in list(self._restores.items()):
            self._following.unfollow(restore.complete())
            if restore.open:
                continue
            del self._restores[tp]
            restore.finish()
            task = restore.task
            task.position = task.committed = restore.committed
            task.running = True
            self._show(task, restoring=False)
            self._consumer.start(tp, restore.committed)
        self._count()

    def _show(self, task: Task, *, restoring: bool) -> None:
        for table in task.tables:
            view = ReadView(table.store, table.prefix, table.codec, restoring)
            self.views[table.name, task.tp.partition] = view

    def _count(self) -> None:
        self.stats.assigned = len(self._tasks)
        self.stats.restoring = len(self._arrived) + len(self._restores)


def _names(partitions: Sequence[TP]) -> str:
    """`orders.event 0 1 3, users.event 2`."""
    numbers: dict[str, list[str]] = {}
    for tp in sorted(partitions):
        numbers.setdefault(tp.topic, []).append(str(tp.partition))
    return ", ".join(f"{topic} {' '.join(each)}" for topic, each in numbers.items()) or "nothing"
