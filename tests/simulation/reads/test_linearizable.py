"""Reads in the simulated world: linearizable ones are so whoever is asked; those of owners and standbys are not."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pytest

from pipeline.engine.copies.read_view import ReadView
from pipeline.engine.ports import TP
from pipeline.errors import TableUnavailable
from pipeline.model import BARRIER, StateMessage
from pipeline.model.records.partitioning import partition_of
from pipeline.server.reads.local_tables import LocalTables
from pipeline.testing.simulation import Fault, Schedule, Sent
from pipeline.testing.simulation.judge.oracle import Oracle, oracle_of
from pipeline.testing.simulation.worker import Worker
from pipeline.testing.simulation.world import World
from pipeline.topology import Topology
from tests.helpers.linearizable import Operation, is_linearizable
from tests.simulation.worlds.tills import SCHEMAS, TILLS, Take, Till, decide_till, evolve_till

TOPOLOGY = Topology("tills", {"tills": TILLS}, SCHEMAS)
KEYS = ("till-1", "till-2")
LOOK_S, PATIENCE_S = 0.03, 30.0
SEEDS = 50


@dataclass(slots=True)
class Read:
    """A read that has begun. `after`: the offset that the table has to be past."""

    began_s: float
    worker: Worker
    life: int
    key: str
    after: int | None


@dataclass(slots=True)
class Readers:
    """Clients of a world: who reads what, and what they are told."""

    world: World
    level: str
    rng: random.Random
    history: dict[str, list[Operation]] = field(default_factory=lambda: {key: [] for key in KEYS})
    reads: list[Read] = field(default_factory=list)
    answered: int = 0

    def begin(self, until_s: float) -> None:
        """Reads from time to time."""
        self.world.kafka.clock.later(self.rng.uniform(0.0, 0.12), lambda: self._ask(until_s))

    def _ask(self, until_s: float) -> None:
        clock, key = self.world.kafka.clock, self.rng.choice(KEYS)
        partition = partition_of(key.encode(), self.world.schedule.partitions)
        claimants = [worker for worker in self.world.workers if self._view(worker, partition) is not None]
        if claimants:
            worker = self.rng.choice(claimants)
            after = None
            if self.level == "linearizable":
                after = self.world.kafka.append(TP("tills.command", partition), None, None, [BARRIER])
            self._look(Read(clock.now_s, worker, id(worker.lane), key, after))
        if clock.now_s < until_s:
            self.begin(until_s)

    def _view(self, worker: Worker, partition: int) -> ReadView | None:
        view = worker.lane.views.get(("tills", partition)) if worker.lane is not None else None
        if view is None or view.restoring or (view.copy is not None and self.level != "eventual"):
            return None
        # The store itself: a reader's own calls are no steps of the worker.
        return view._replace(store=worker.stores[f"tills.command-{partition}"])

    def _look(self, read: Read) -> None:
        """Answers, if the table has got there; asks a paused worker again later, and a dead one no more."""
        clock, worker = self.world.kafka.clock, read.worker
        if worker.lane is None or id(worker.lane) != read.life or clock.now_s > read.began_s + PATIENCE_S:
            return
        partition = partition_of(read.key.encode(), self.world.schedule.partitions)
        view = self._view(worker, partition)
        if view is None:
            return
        if worker.state != "paused":
            tables = LocalTables(lambda: {("tills", partition): view})
            try:
                if read.after is None or tables.position("tills", partition) > read.after:
                    value: StateMessage | None = tables.value("tills", partition, read.key.encode())
                    told = Till() if value is None else value.body
                    self.history[read.key].append(Operation(read.began_s, clock.now_s, told=told))
                    self.answered += 1
                    return
            except TableUnavailable:
                return
        clock.later(LOOK_S, lambda: self._look(read))

    def writes(self) -> None:
        """Adds what was written. A write has ended once anybody can read its first event."""
        world = self.world
        for key in KEYS:
            partition = partition_of(key.encode(), world.schedule.partitions)
            for record in world.kafka.log(TP("tills.command", partition)).archive:
                if record.key() == key.encode():
                    command = world.oracle.codec["tills.command"].decode(record.value())
                    ended_s = self.seen_s.get((partition, command.id), float("inf"))
                    began_s = record.timestamp()[1] / 1000 - self.epoch_s
                    self.history[key].append(Operation(began_s, ended_s, command.body))

    seen_s: dict[tuple[int, str], float] = field(default_factory=dict)
    watched: dict[TP, int] = field(default_factory=dict)
    epoch_s: float = 0.0

    def watch(self, topic: str) -> None:
        """Notes when events can be read."""
        if topic == "tills.event":
            for log in self.world.kafka.topics[topic].logs:
                start, self.watched[log.tp] = self.watched.get(log.tp, 0), log.stable_end
                for record in log.archive if start < log.stable_end else ():
                    if start <= record.offset() < log.stable_end and record.decided:
                        event = self.world.oracle.codec[topic].decode(record.value())
                        self.seen_s.setdefault((log.tp.partition, event.command_id), self.world.kafka.clock.now_s)


@pytest.fixture(scope="module")
def oracle() -> Oracle:
    return oracle_of(TOPOLOGY)


def schedule(seed: int, level: str) -> Schedule:
    """Writers, and a zombie: a worker that stands still until others have its partitions, and then goes on."""
    rng = random.Random(f"linearizable {seed}")
    at_ms, sent = 0, []
    for n in range(14):
        at_ms += rng.randrange(100, 1500)
        sent.append(Sent(at_ms, "tills", rng.choice(KEYS), Take(n % 4 + 1)))
    kinds: list[Callable[[], Fault]] = [
        lambda: Fault("pause", "step", rng.randrange(40, 500), rng.choice((7.0, 8.0, 10.0)), 0.0),
        lambda: Fault(
            "pause",
            rng.choice(("producer.commit:before", "consumer.poll:before", "store.write:before")),
            rng.randrange(2, 12),
            rng.choice((6.5, 8.0)),
            0.0,
        ),
        lambda: Fault("crash", "step", rng.randrange(40, 500), 0.5, 0.5),
        lambda: Fault("unknown", "producer.commit:after", rng.randrange(2, 12)),
        lambda: Fault("late", "producer.commit:before", rng.randrange(2, 12), 0.2),
        lambda: Fault("expel", "step", rng.randrange(40, 500), 0.0, 0.0),
    ]
    faults = [kinds[seed % 2](), *[rng.choice(kinds)() for _ in range(rng.randrange(3))]]
    switches = tuple(n for n in range(1, 2500) if rng.random() < 0.05)
    return Schedule(tuple(sent), tuple(faults), switches, workers=2, standby=level == "eventual" and seed % 2 == 0)


def violations(oracle: Oracle, seed: int, level: str) -> tuple[int, int]:
    """Keys whose history is not linearizable, and how many reads were answered."""
    world = World(oracle, schedule(seed, level))
    readers = Readers(world, level, random.Random(f"readers {seed}"))
    readers.epoch_s = world.kafka.clock.time_ms() / 1000 - world.kafka.clock.now_s
    wake = world.kafka.changed

    def changed(name: str) -> None:
        readers.watch(name)
        wake(name)

    world.kafka.changed = changed
    readers.begin(22.0)
    assert world.run() == []
    readers.writes()

    def apply(till: Any, command: Any) -> Any:
        events = decide_till(command, till)
        assert isinstance(events, list)
        for event in events:
            till = evolve_till(till, event)
        return till

    wrong = sum(not is_linearizable(history, Till(), apply) for history in readers.history.values())
    return wrong, readers.answered


def test_linearizable_reads_are_linearizable_whatever_happens(oracle: Oracle) -> None:
    answered = 0
    for seed in range(SEEDS):
        wrong, count = violations(oracle, seed, "linearizable")
        assert wrong == 0, f"seed {seed}"
        answered += count
    assert answered > 50 * SEEDS


@pytest.mark.parametrize("level", ["owner", "eventual"])
def test_the_same_search_finds_that_other_reads_are_not(oracle: Oracle, level: str) -> None:
    assert sum(violations(oracle, seed, level)[0] > 0 for seed in range(15)) >= 3
