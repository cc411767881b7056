"""The tasks of a lane, from assignment over restore to running and back, and its copies of other workers' data.

What the lane folds is in `Task`, how tables get up to date in `TableRecovery`; here is which of them there are.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from functools import partial
from typing import TYPE_CHECKING

from pipeline.engine.beside.states import States, standbys_lacking
from pipeline.engine.copies.log_followers import LogFollowers
from pipeline.engine.copies.read_view import ReadView, views_of
from pipeline.engine.copies.recovery import TableRecovery, at_least
from pipeline.engine.copies.replica import ReplicaCopy
from pipeline.engine.copies.replica_gate import ReplicaGate
from pipeline.engine.loop.checkpoint import FLUSH_S, flush_when_due
from pipeline.engine.loop.standings import Committed, Standings, TopicWatch
from pipeline.engine.loop.task import Task
from pipeline.engine.places import Places
from pipeline.engine.ports import TP, LogFacts, Position, Store
from pipeline.engine.state.partition_counts import partition_counts
from pipeline.engine.state.positions import CAUGHT_UP_MS
from pipeline.engine.state.sagas import SagaTable
from pipeline.engine.state.table import SharedTable
from pipeline.errors import BrokerUnreachable, DatabaseUnusable, LaneFatal, NotParked, RecordsLost
from pipeline.model import TopicKind

if TYPE_CHECKING:
    from pipeline.engine.context import LaneContext

log = logging.getLogger(__name__)

STANDBY_LOOK_S = 1.0  # how often the age of standbys is measured


class Assignment:
    """The partitions, tasks and copies of one lane."""

    def __init__(self, context: LaneContext) -> None:
        self._context, ports = context, context.ports
        self.views: dict[tuple[str, int], ReadView] = {}  # read by other threads
        self._plan, self._stats, self._settings = context.plan, context.stats, context.settings
        self._reader, self._stores, self._shared, self._clock = ports.reader, ports.stores, ports.shared, ports.clock
        self._following, self._histories = LogFollowers(ports.reader, ports.clock), ports.histories
        self._standings, self._topics = Standings(context, self._following), TopicWatch(context)
        self._standby = context.settings.standby
        self._replicas: list[ReplicaCopy] = []
        self._awaiting = ReplicaGate(context.plan.service.name, [], {}, 0.0)
        self._tasks: dict[TP, Task] = {}
        self._arrived: list[TP] = []  # assigned, committed offset not known yet
        self._unaimed: list[TP] = []  # it is known; restore not begun
        self._facts: dict[str, LogFacts] = {}
        self._restores: dict[TP, tuple[TableRecovery, Position | None]] = {}  # and what was committed
        self._standbys: dict[TP, TableRecovery] = {}
        self._unattended: list[TP] = []  # partitions of others that have no standby here yet
        self.places = Places(context, self._tasks, self._restores, self._standbys, self._replicas)
        self._lacking: dict[TP, str] = {}  # standbys with states that their owners do not write, and why
        self._read_on: list[tuple[Task, SagaTable]] = []  # tables of sagas that are being looked through
        self._looked_s, self._flushed_s = 0.0, self._clock.monotonic_s()
        self.unbuilt = dict.fromkeys(self._plan.built_from, "it is not known yet whether the table is whole; ask again")

    def open(self) -> None:
        """Start following the logs of replicas and standbys."""
        for replica, events, rows in self._plan.replicas:
            store = self._stores.open(f"replica.{replica.name}")
            copy = ReplicaCopy(replica, events, rows, self._plan.queue_codec, store, self._stats)
            self._replicas.append(copy)
            age_s = partial(self._age_of, copy) if self._settings.replica_ages else None
            starts = copy.starts(self._reader.facts([replica.source.topic])[replica.source.topic])
            self._following.follow(copy, starts)
            for tp in starts:
                queue, folded = copy.queues[tp.partition], copy.places[tp]
                self.views[replica.name, tp.partition] = ReadView(
                    store, copy.prefix(tp.partition), rows, folded, age_s=age_s, held=queue
                )
                waiting = TopicKind.QUEUE.topic(f"{self._plan.service.name}.{replica.name}")
                self.views[waiting, tp.partition] = ReadView(store, queue.prefix, self._plan.queue_codec, folded)
        read = {name for source_topic in self._plan.source_topics.values() for name in source_topic.reads}
        if copies := [copy for copy in self._replicas if copy.replica.name in read]:
            ends = self._reader.ends([tp for copy in copies for tp in copy.places])
            until_s = self._clock.monotonic_s() + self._settings.copy_wait_s
            self._awaiting = ReplicaGate(self._plan.service.name, copies, ends, until_s)
        if self._standby:
            topics = [
                source_topic.topic for source_topic in self._plan.source_topics.values() if source_topic.keeps_locally
            ]
            facts = self._reader.facts(topics)
            self._unattended = [TP(topic, n) for topic in topics for n in range(facts[topic].partitions)]

    # --- what the lane asks -------------------------------------------------------------------------------------------

    def __getitem__(self, tp: TP) -> Task:
        return self._tasks[tp]

    def runs(self, tp: TP) -> bool:
        """Whether the lane folds that partition now."""
        task = self._tasks.get(tp)
        return task is not None and task.running and not task.behind

    def running(self) -> list[Task]:
        """The tasks that are running."""
        return [task for task in self._tasks.values() if task.running and not task.behind]

    def behind(self) -> dict[TP, States]:
        """The states that lack events still, by the partition of the commands that wait for them."""
        tasks = self._tasks.items()
        return {tp: task.states for tp, task in tasks if task.running and task.states and task.states.behind}

    def uncommitted(self) -> list[Task]:
        """The tasks that a checkpoint would move on."""
        return [task for task in self._tasks.values() if task.uncommitted]

    @property
    def waiting(self) -> bool:
        """Whether some tasks are not running yet."""
        return bool(self._arrived or self._restores)

    def drop(self) -> None:
        """Drop what was folded since the last commit."""
        for task in self._tasks.values():
            task.roll_back()

    # --- from assignment to running -----------------------------------------------------------------------------------

    def add(self, partitions: Sequence[TP]) -> None:
        """Open the tasks of newly assigned partitions; `step` starts them once their tables are up to date."""
        for tp in partitions:
            source_topic = self._plan.source_topics[tp.topic]
            if tp in self._unattended:
                self._unattended.remove(tp)
            warm = self._standbys.pop(tp, None)
            copy = warm or TableRecovery(tp, source_topic, self._open_store(tp), self._clock, self._stats)
            finders = {each.replica.name: each.find for each in self._replicas}
            task = Task(tp, source_topic, copy.store, self._context, finders)
            task.flushed_s = self._clock.monotonic_s()
            self._tasks[tp] = task
            self._restores[tp] = copy, None
            self._show(tp, copy, restoring=True)
        self._arrived += partitions
        self._stats.joined = True
        self._count()

    def step(self, committed: Committed) -> tuple[bool, list[Task]]:
        """One round of following and restoring, without waiting.

        Returns whether anything was followed, and the tasks that may fold from now on.
        """
        self._topics.look(self.running(), self._facts)
        followed = self._following.step()
        self._read_on = [(task, table) for task, table in self._read_on if task.running and table.read_on()]
        self._follow_others()
        self._flush_the_quiet()
        self._look_after_copies(committed)
        self._aim_arrived(committed)
        for tp, notes in self._standings.step(committed).items():
            self._tasks[tp].noted = notes
        self._aim_certain()
        complete = [tp for tp, (copy, _) in self._restores.items() if self._is_complete(tp, copy)]
        now_s, source_topics = self._clock.monotonic_s(), self._plan.source_topics
        complete = [tp for tp in complete if not self._awaiting.waits(source_topics[tp.topic].reads, now_s)]
        started = [self._start(tp, committed) for tp in complete]
        if started:
            self._count()
        if self._histories is not None:
            self._histories.add(task.tp for task in started)
            followed |= not self.waiting and self._histories.step()
        return followed, started

    def _aim_arrived(self, committed: Committed) -> None:
        """Read the committed positions of newly assigned tasks, and see which may be folded from there."""
        if not self._arrived or (offsets := committed(self._arrived)) is None:
            return  # a commit is under way somewhere; the next turn asks again
        arrived, pairs = self._arrived, self._plan.co_partitioned()
        self._facts |= self._reader.facts(sorted({topic for tp in arrived for topic in (tp.topic, *pairs[tp.topic])}))
        if (counts := partition_counts(arrived, offsets, self._facts, committed)) is None:
            return  # the same
        self._arrived = []
        for tp in arrived:
            self._tasks[tp].parking.partitions = counts[tp.topic]
            standing = self._tasks[tp].standing_in(self._facts)
            self._tasks[tp].stand(standing)
            self._standings.aim(tp, offsets[tp], standing)
            self._restores[tp] = self._restores[tp][0], offsets[tp]
        self._unaimed += arrived
        self._standings.read_notes()

    def _aim_certain(self) -> None:
        """Set the targets of the recoveries of tasks that are in no doubt: before, nothing is wiped."""
        certain = [tp for tp in self._unaimed if not self._standings.doubts(tp)]
        if not certain:
            return
        self._unaimed = [tp for tp in self._unaimed if tp not in certain]
        cold = [tp for tp in certain if not self._following.follows(self._restores[tp][0])]
        changelogs = [changelog for tp in certain for changelog in self._changelogs(tp)]
        changelogs += [states.log for tp in certain if (states := self._tasks[tp].states)]
        ends = self._reader.ends(changelogs)  # after the committed offsets: what they cover lies below these ends
        for tp in certain:
            copy, committed = self._restores[tp]
            starts = copy.begin(at_least(ends, committed, tp.partition), self._facts) if tp in cold else {}
            copy.set_target(committed, ends)
            self._following.follow(copy, {tp: start for tp, start in starts.items() if tp in copy.unfinished})
            if states := self._tasks[tp].states:
                states.end = ends[states.log]

    def _is_complete(self, tp: TP, copy: TableRecovery) -> bool:
        if tp in self._arrived or tp in self._unaimed:
            return False
        copy.check()
        self._following.unfollow(copy.complete())
        return not copy.unfinished

    def _start(self, tp: TP, ask: Committed) -> Task:
        copy, committed = self._restores.pop(tp)
        task = self._tasks[tp]
        try:
            task.changelogs = copy.finish(committed)
        except RecordsLost:
            if (now := ask([tp])) is None or now[tp] is not None:
                raise LaneFatal("another worker has had its partitions while this one stood still") from None
            raise
        task.position = task.committed = None if committed is None else committed.offset
        task.pause = None if committed is None else committed.pause
        if committed is not None and committed.steps:  # else a tool has set the offset to where the notes are
            task.noted = {**task.noted, **committed.steps}
        if task.states is not None:
            task.states.begin(committed, task.noted, task.changelogs)
        task.unflushed = copy.unflushed
        held = len(task.queue.held)
        if held:
            log.info("%s-%d: %d keys have parked records", *tp, held)
        task.running = True
        if self._settings.watch_sagas:
            self._read_on += [(task, table) for table in task.watch_sagas()]
        self._show(tp, copy, restoring=False)
        return task

    def remove(self, partitions: Sequence[TP], *, owned: bool) -> None:
        """Close the tasks. `owned`: until now no other worker can have written to their changelogs."""
        self._standings.remove(partitions)
        self._stats.joined &= owned
        for tp in partitions:
            task = self._tasks.pop(tp, None)
            if task is None:
                continue
            for waiting in (self._arrived, self._unaimed):
                if tp in waiting:
                    waiting.remove(tp)
            if restoring := self._restores.pop(tp, None):
                self._following.forget(restoring[0])
            elif owned:
                task.store.write([], {CAUGHT_UP_MS: self._clock.time_ms()})
            task.leave()
            self._hide(tp)
            task.store.close()
        if self._histories is not None:
            self._histories.remove(partitions)
        if self._standby:
            self._unattended += [tp for tp in partitions if self._plan.source_topics[tp.topic].keeps_locally]
        self._count()

    # --- replicas that hold keys --------------------------------------------------------------------------------------

    def held_by_replicas(self) -> int:
        """The number of keys that replicas hold."""
        return sum(replica.held for replica in self._replicas)

    def try_replicas_again(self) -> tuple[int, str | None]:
        """Fold what waits in all replicas. Return how many keys are free now, and why one of the others is not."""
        told = [replica.try_all_again() for replica in self._replicas]
        return sum(freed for freed, _ in told), next((why for _, why in told if why), None)

    def holding_replica(self, name: str, partition: int, key: bytes) -> ReplicaCopy:
        """The replica of that name, of which events of that key wait. Raises NotParked."""
        for replica in self._replicas:
            if replica.replica.name == name and partition < len(replica.queues) and key in replica.queues[partition]:
                return replica
        raise NotParked(f"the replica {name!r} holds no key {key!r}")

    def close(self, *, owned: bool) -> None:
        """Close everything."""
        self._standby, self._unattended = False, []
        self.remove(list(self._tasks), owned=owned)
        for tp, copy in self._standbys.items():
            self._hide(tp)
            copy.store.close()
        self._standbys.clear()
        self.views.clear()
        for replica in self._replicas:
            replica.store.close()
        if self._histories is not None:
            self._histories.close()

    # --- standbys -----------------------------------------------------------------------------------------------------

    def _follow_others(self) -> None:
        """Follow, as a standby, the changelogs of partitions that other workers own."""
        if not self._unattended:
            return
        sources, self._unattended = self._unattended, []
        changelogs = [changelog for tp in sources for changelog in self._changelogs(tp)]
        ends = self._reader.ends(changelogs)
        facts = self._reader.facts(sorted({changelog.topic for changelog in changelogs}))
        for tp in sources:
            copy = self._standbys[tp] = TableRecovery(
                tp, self._plan.source_topics[tp.topic], self._open_store(tp), self._clock, self._stats
            )
            self._following.follow(copy, copy.begin(ends, facts))
            self._show(tp, copy, restoring=False)
        self._count()

    def _look_after_copies(self, committed: Committed) -> None:
        """Measure the lag of standbys and replicas from time to time; reads report it."""
        now = self._clock.monotonic_s()
        copies = [*self._standbys.values(), *(self._replicas if self._settings.replica_ages else [])]
        if not copies or now - self._looked_s < STANDBY_LOOK_S:
            return
        self._looked_s = now
        try:
            ends = self._reader.ends([tp for copy in copies for tp in copy.places])
        except BrokerUnreachable as error:  # they grow older, no more
            log.warning("%s: copies: %s", self._plan.service.name, error)
            return
        for copy in copies:
            copy.sample_lag(ends, now)
        specs = {tp: folds for tp in self._standbys if (folds := self._plan.source_topics[tp.topic].folds)}
        if specs and (told := committed(list(specs))) is not None:
            self._lacking = standbys_lacking(specs, told)

    def _age_of(self, replica: ReplicaCopy) -> float | None:
        return replica.lag.age_s(self._clock.monotonic_s())

    def _flush_the_quiet(self) -> None:
        """Bound what a crash leaves to roll forward if no checkpoint comes by."""
        now = self._clock.monotonic_s()
        if now - self._flushed_s < FLUSH_S:
            return
        self._flushed_s = now
        for task in self.running():
            flush_when_due(task, 0, self._clock)
        for copy in (*self._standbys.values(), *self._replicas):
            copy.flush()
        if self._histories is not None:
            self._histories.flush()

    # --- small things -------------------------------------------------------------------------------------------------

    def _open_store(self, tp: TP) -> Store:
        source_topic = self._plan.source_topics[tp.topic]
        if source_topic.keeps_locally:
            return self._stores.open(f"{tp.topic}-{tp.partition}")
        shared = [spec for spec in source_topic.tables if spec.make is SharedTable]
        if self._shared is None:
            raise DatabaseUnusable(
                f"{shared[0].name!r} is kept in {source_topic.database.value}, and no database is given"
            )
        return self._shared.open(tp, shared)

    def _changelogs(self, tp: TP) -> Iterator[TP]:
        for spec in self._plan.source_topics[tp.topic].tables:
            yield TP(spec.changelog, tp.partition)

    def _show(self, tp: TP, copy: TableRecovery, *, restoring: bool) -> None:
        source_topic, standby = self._plan.source_topics[tp.topic], tp in self._standbys
        why = partial(self._why_unbuilt, tp)
        for name, view in views_of(source_topic, copy, restoring=restoring, standby=standby, unbuilt=why).items():
            self.views[name, tp.partition] = view

    def _why_unbuilt(self, tp: TP, table: str) -> str | None:
        """Why a table of that partition cannot be read, if it lacks something."""
        task, folds = self._tasks.get(tp), self._plan.source_topics[tp.topic].folds
        if folds is None or table != folds.aggregate.name:
            return self.unbuilt.get(table)
        return self._lacking.get(tp) if task is None or task.states is None else task.states.why_behind

    def _hide(self, tp: TP) -> None:
        for spec in self._plan.source_topics[tp.topic].tables:
            self.views.pop((spec.name, tp.partition), None)

    def _count(self) -> None:
        tables = [table for task in self._tasks.values() for table in task.tables if table.cached]
        for table in tables:
            table.cache.limit(self._settings.cache_bytes // len(tables))
        self._stats.assigned, self._stats.restoring = len(self._tasks), len(self._restores)
        self._stats.standbys = len(self._standbys)
        self._stats.pause(self._plan.service.name, [task.pause for task in self._tasks.values() if task.pause])
        self.count_queues()

    def count_queues(self) -> None:
        """Update the counts of parked keys and records."""
        counts = [task.queue.waiting for task in self._tasks.values()]
        self._stats.held_keys, self._stats.queued = sum(keys for keys, _ in counts), sum(n for _, n in counts)
        queues = (task.queue.since_ms for task in self._tasks.values()) if self._stats.queued else ()
        self._stats.parked_since_ms = min(filter(None, queues), default=0)
