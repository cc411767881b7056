"""A worker process of the simulated world: opens lanes as `pipeline.worker.main.LaneHost` does, in a greenlet."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

from greenlet import greenlet

from pipeline.adapters.memory import (
    SESSION_S,
    MemoryGroupConsumer,
    MemoryLogReader,
    MemoryProducer,
    MemoryStore,
    MemoryStores,
)
from pipeline.drive import drive
from pipeline.engine.context import LanePorts, LaneSettings
from pipeline.engine.copies.histories import Histories
from pipeline.engine.copies.history_follower import POSITION
from pipeline.engine.loop.identity import Identity, make_sure_of
from pipeline.engine.loop.lane import Lane
from pipeline.engine.loop.supervision import Call, Now, Pause, Step, Turn, supervise
from pipeline.engine.parking.parking_log import Audit
from pipeline.engine.plan import ServicePlan
from pipeline.engine.ports import TP, Positions, Store
from pipeline.engine.state.table import TableSpec
from pipeline.engine.stats import LaneStats
from pipeline.errors import Ending, LaneFatal, NameTaken, NotParked, RecordsLost, TableUnavailable, UndecodableRecord
from pipeline.testing.points import At, pointed
from pipeline.testing.simulation.judge.past import SNAPSHOT_EVERY
from pipeline.testing.simulation.operators import act_on_service, look_at_paused

if TYPE_CHECKING:
    from pipeline.testing.simulation.schedule import Operation
    from pipeline.testing.simulation.world import World


class Killed(Ending):
    """The process is killed."""


class SimulatedClock:
    """The clock of one machine: its date may be wrong, its seconds are right."""

    def __init__(self, world: World) -> None:
        self._clock = world.kafka.clock
        self.skew_s = 0.0

    def monotonic_s(self) -> float:
        return self._clock.now_s

    def time_ms(self) -> int:
        return self._clock.time_ms() + int(self.skew_s * 1000)


class _Committing(MemoryProducer):
    """A producer whose commits can be late, and appear in the story."""

    def __init__(self, worker: Worker) -> None:
        super().__init__(worker.world.kafka, worker.name, worker.wait, worker.at)
        self._worker = worker

    def commit(self, positions: Positions, group: object, patience_s: float = 60.0) -> None:
        worker = self._worker
        if worker.late_s is not None:
            delay_s, worker.late_s = worker.late_s, None
            self.commit_late(positions, group, delay_s)
        super().commit(positions, group, patience_s)
        if worker.world.telling:
            where = ", ".join(f"{tp.topic}-{tp.partition}@{p.offset}" for tp, p in sorted(positions.items()))
            worker.world.tell(worker.name, f"commits {where}")


class _Opening(NamedTuple):
    """A worker's `Stores`, or `SharedStores`."""

    open: Callable[..., Any]


class Worker:
    """One service in one process, restarted again and again. `name`: its name in the group, service and slot."""

    def __init__(self, world: World, plan: ServicePlan, slot: int, home: str = "home") -> None:
        self.world, self.plan, self.name = world, plan, f"{plan.service.name}-{slot}"
        self.identity = Identity(self.name, 0, home)
        self.clock = SimulatedClock(world)
        self.disk = MemoryStores()
        self.stats = LaneStats()
        self.stores: dict[str, MemoryStore] = {}
        self.lane: Lane | None = None
        self.consumer: MemoryGroupConsumer | None = None
        self.reader: MemoryLogReader | None = None
        self.past: MemoryLogReader | None = None  # of the histories
        self.greenlet: greenlet | None = None
        self.state = "down"  # "ready", "waiting" until `wake_s`, "paused"
        self.wake_s = 0.0
        self.stopping = False
        self.at: At = partial(world.at, self)
        self.late_s: float | None = None  # by how many seconds the next commit is late
        self.again_s = 1.0  # until a restart after an orderly stop
        self.asked: deque[tuple[Operation, TP, bytes, int]] = deque()  # operators' actions
        self.busy_s = 0.0  # how long each call takes on a machine that is overloaded
        self.torn_share = 0.0  # the share of unflushed writes that the next crash loses

    # --- life ---------------------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Start a new process, unless one runs."""
        if self.state == "down":
            self.stopping, self.late_s, self.busy_s, self.stats = False, None, 0.0, LaneStats()
            self.greenlet = greenlet(self._live, self.world.hub)
            self.world.tell(self.name, "starts")
            self.world.make_ready(self)

    def _live(self) -> None:
        again_s: float | None = None
        with suppress(Killed):
            again_s = self._lanes()
        self._gone()
        if again_s is not None and self not in self.world.twins:
            self.world.kafka.clock.later(again_s, self.start)

    def _gone(self) -> None:
        self.state, self.lane = "down", None
        if self.consumer is not None:
            self.consumer.silence()
            self.consumer = None
        self.disk.crash(lambda writes: writes - int(writes * self.torn_share))
        self.stores.clear()
        self.asked.clear()
        self.world.look_at_disk(self)

    def _lanes(self) -> float | None:
        """Run one lane after the other. Return after how many seconds the process is restarted; None: it is not."""
        try:
            drive(supervise(self.name, self.stats, self._open_lane), self._do)
        except Exception as error:
            ended = f"the worker {self.name} ended: {type(error).__name__}: {error}"
            self.world.tell(self.name, ended)
            if isinstance(error, RecordsLost | UndecodableRecord) and self.world.mishaps.refuses(self):
                return None
            if not isinstance(error, (LaneFatal, NameTaken)):
                self.world.wrong(ended, error)
            return 1.0
        return self.again_s

    def _do(self, step: Step) -> Lane | Now | None:
        match step:
            case Call(call, error):
                if error is not None:
                    self.world.tell(self.name, f"{type(error).__name__}: {error}")
                return call()
            case Turn(lane):
                held, folded = self.stats.held, self.stats.records
                lane.turn()
                if held and self.stats.records != folded:
                    self.world.wrong(f"{self.name} folds, though it is held")
                look_at_paused(self.world, self)
                self._operate(lane)
            case Pause(seconds):
                self.lane = None
                self.wait(seconds)
        return Now(self.clock.monotonic_s(), self.stopping)

    def _operate(self, lane: Lane) -> None:
        """Run the operators' actions."""
        while self.asked:
            operation, tp, key, offset = self.asked.popleft()
            audit = Audit("operator", f"at {operation.at_ms} ms")
            try:
                if operation.action in ("pause", "resume"):
                    act_on_service(self.world, self, lane, operation, audit)
                    continue
                if operation.action == "redrive":
                    told = lane.redrive(tp, key, operation.limit, audit)
                else:
                    told = lane.discard(tp, key, offset if operation.limit == 1 else None, operation.limit, audit)
                self.world.tell(self.name, f"{operation.action}: {told.done} done, {told.left} left")
            except (NotParked, TableUnavailable) as error:
                self.world.tell(self.name, f"{operation.action}: {error}")

    def _open_lane(self) -> Lane:
        kafka, at, service = self.world.kafka, self.at, self.plan.service.name
        protocol = self.world.schedule.protocol
        consumer = MemoryGroupConsumer(kafka, service, str(self.identity), "", protocol, self.wait)
        make_sure_of(self.identity, consumer, self.clock, self.wait, SESSION_S + 3.0)
        self.consumer = consumer
        self.world.opens(self)
        producer = _Committing(self)
        reader = self.reader = MemoryLogReader(kafka, self.name, self.wait)
        settings = LaneSettings(
            records_per_poll_max=self.world.records_per_poll,
            idle_wait_s=self.world.idle_wait_s,
            fired_per_turn_max=2,
            restore_wait_s=0.25,
            standby=self.world.schedule.standby,
            raising_share=self.world.raising[0],
            raising_at_least=self.world.raising[1],
        )
        stores, histories = _Opening(self.open_store), None
        if self.plan.histories:
            self.past = MemoryLogReader(kafka, self.name, self.wait)
            histories = Histories(
                self.plan, pointed("reader", self.past, at), stores, self.clock, self.stats, SNAPSHOT_EVERY
            )
        ports = LanePorts(
            pointed("consumer", consumer, at),
            pointed("producer", producer, at),
            pointed("reader", reader, at),
            stores,
            self.clock,
            lambda: pointed("reader", MemoryLogReader(kafka, self.name, self.wait), at),
            _Opening(self.open_shared),
            histories,
            None if self.world.tracers is None else self.world.tracers.of(service),
        )
        self.lane = Lane(self.plan, ports, settings, self.stats)
        return self.lane

    def open_store(self, name: str) -> Store:
        return self._opened(name, lambda: self.disk.open(name))

    def open_shared(self, source: TP, tables: Sequence[TableSpec]) -> Store:
        database = self.world.database(self.plan)
        return self._opened(f"{source.topic}-{source.partition}", lambda: database.open(source, tables))

    def _opened(self, name: str, open_it: Callable[[], MemoryStore]) -> Store:
        self.at("stores.open:before")
        store = self.stores[name] = open_it()
        self.at("stores.open:after")
        return pointed("store", store, self._touching(store))

    def _touching(self, store: MemoryStore) -> At:
        def at(point: str) -> None:
            self.world.touched = store
            self.at(point)  # damage strikes the store in use

        return at

    # --- the scheduler's ----------------------------------------------------------------------------------------------

    def wait(self, seconds: float) -> None:
        """Let other workers run until there are records or the time is over."""
        self.state, self.wake_s = "waiting", self.world.kafka.clock.now_s + seconds
        self.world.switch()

    def pause(self, seconds: float) -> None:
        """Hang: no heartbeats, no progress, and no notice of it afterwards."""
        consumer = self.consumer
        if consumer is not None:
            consumer.silence()
        self.state = "paused"
        incarnation = self.greenlet
        self.world.kafka.clock.later(seconds, lambda: self.resume(incarnation))
        self.world.switch()
        if consumer is not None:
            consumer.beat()

    def toil(self) -> None:
        """Let a slow call's time pass: heartbeats go on, nothing else does."""
        self.state, incarnation = "paused", self.greenlet
        self.world.kafka.clock.later(self.busy_s, lambda: self.resume(incarnation))
        self.world.switch()

    def resume(self, incarnation: greenlet | None) -> None:
        """End the pause."""
        if self.state == "paused" and self.greenlet is incarnation:
            if not self.busy_s:
                self.world.tell(self.name, "goes on")
            self.world.make_ready(self)

    # --- state --------------------------------------------------------------------------------------------------------

    @property
    def is_member(self) -> bool:
        """Whether it has a lane, and is a member of its group."""
        members = self.world.kafka.group(self.plan.service.name).members.values()
        return self.lane is not None and any(member.instance == str(self.identity) for member in members)

    @property
    def is_level(self) -> bool:
        """Whether its lane folds all assigned partitions, and its replicas and histories have caught up."""
        if self.lane is None or self.state != "waiting" or self.stats.restoring or self.lane._tasks.waiting:
            return False
        if self.lane._tasks.behind():
            return False
        for replica, _, _ in self.plan.replicas:
            store = self.stores.get(f"replica.{replica.name}")
            for log in self.world.kafka.topics[replica.source.topic].logs:
                tp: TP = log.tp
                if store is None or (store.position(f"replica:{tp.topic}-{tp.partition}") or 0) < log.end:
                    return False
        running = self.lane._tasks.running()
        return all(not task.beside.building and self._is_remembered(task.tp) for task in running)

    @property
    def has_followed(self) -> bool:
        """Whether its standbys have caught up."""
        assert self.lane is not None
        tasks = self.lane._tasks
        ends = {tp: self.world.kafka.log(tp).end for copy in tasks._standbys.values() for tp in copy._tables}
        return not tasks._unattended and all(copy.has_reached(ends) for copy in tasks._standbys.values())

    def _is_remembered(self, source: TP) -> bool:
        """Return whether the history of that command partition, if it has one, has caught up."""
        assert self.lane is not None
        spec = self.plan.histories.get(source.topic)
        if spec is None:
            return True
        name, n = spec.aggregate.name, source.partition
        if (name, n) not in self.lane.histories:
            return False
        store = self.stores[f"history.{name}-{n}"]
        return (store.position(POSITION) or 0) >= self.world.kafka.log(TP(spec.topic, n)).end
