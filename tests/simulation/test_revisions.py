"""Workers of two revisions in one world: they come and go, partitions move both ways, and all is right in the end."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest

from pipeline.adapters.avro.codec import codecs
from pipeline.engine.beside import states
from pipeline.engine.copies.recovery import TableRecovery
from pipeline.engine.plan import ServicePlan
from pipeline.model.records.step_notes import NOTHING
from pipeline.testing.simulation.judge.history import SimulatedHistory
from pipeline.testing.simulation.judge.oracle import Oracle
from pipeline.testing.simulation.schedule import from_seed
from pipeline.testing.simulation.worker import Worker
from pipeline.testing.simulation.world import World
from pipeline.topology import Topology
from pipeline.verify import judge
from tests.helpers import accounts as a
from tests.simulation.worlds.seeds import FRESH

SEEDS = 40


def thrice(account: a.Account, event: a.Paid) -> a.Account:
    """Counts each payment three times, in a state of the same class: one of the other revision could be read."""
    return a.Account(account.balance + 3 * event.amount)


NEXT = replace(a.FIRST, evolve=thrice, revision=2)


def commands(rng: random.Random) -> Iterator[tuple[str, str, Any]]:
    for _ in range(rng.randrange(5, 40)):
        yield "accounts", rng.choice(a.KEYS[:4]), a.Pay(rng.randrange(-10, 30))


class Upgraded(Oracle):
    """Judges by verify, and by the tables of the owners; other disks have what another revision left there."""

    def disk(self, world: World, worker: Worker) -> list[str]:
        return []

    def judge(self, world: World) -> list[str]:
        report = judge(SimulatedHistory(world), self.topology)
        return [*sorted(map(str, report.findings)), *self._disks.tables(world)]


@pytest.fixture(scope="module")
def oracle(tmp_path_factory: pytest.TempPathFactory) -> Oracle:
    schemas = tmp_path_factory.mktemp("schemas")
    a.write_schemas(schemas, a.FIRST, NEXT)
    return Upgraded(Topology("bank", {"bank": a.service(NEXT)}, schemas), codecs(schemas))


def history(oracle: Oracle, seed: int) -> list[str]:
    """Each worker begins with the first revision, and has the next in the end; in between it may go back."""
    schedule = from_seed(seed, commands)
    schedule = replace(
        schedule, operations=(), mended_ms=0, faults=tuple(f for f in schedule.faults if f.kind in KINDS)
    )
    world = World(oracle, schedule)
    (new,), rng = oracle.plans, random.Random(f"upgrade {seed}")
    old = ServicePlan(a.service(a.FIRST), codecs(oracle.topology.schemas))
    world.kafka.create_topic("accounts.state", schedule.partitions, compacted=True)
    end_ms = max(sent.at_ms for sent in schedule.commands)
    for worker in world.workers:
        worker.plan, worker.again_s = old, rng.choice((0.1, 1.0, 8.0))
        plans = rng.choice(([new], [new], [new, old, new]))
        for at_ms, plan in zip(sorted(rng.randrange(end_ms + 10_000) for _ in plans), plans, strict=True):
            world._to_come += 1
            world.kafka.clock.later(at_ms / 1000 or 1e-6, lambda w=worker, p=plan: deploy(world, w, p))
    start = Worker.start

    def started(worker: Worker) -> None:
        if worker.state == "down":
            worker.plan = deployed.get(worker.name, old)
        start(worker)

    deployed: dict[str, ServicePlan] = {}

    def deploy(world: World, worker: Worker, plan: ServicePlan) -> None:
        world._to_come -= 1
        deployed[worker.name] = plan
        worker.stopping = True

    Worker.start = started  # type: ignore[method-assign]
    try:
        return world.run()
    finally:
        Worker.start = start  # type: ignore[method-assign]


KINDS = ("crash", "pause", "stop", "abort", "fence", "unknown", "late", "unreachable", "rebalance", "expel", "slow")


@pytest.mark.parametrize("first", [0, FRESH])
def test_an_upgrade_in_the_middle_of_a_history(oracle: Oracle, first: int) -> None:
    assert {seed: found for seed in range(first, first + SEEDS) if (found := history(oracle, seed))} == {}


def served_as_they_are(monkeypatch: pytest.MonkeyPatch) -> None:
    """States of the old revision are taken for those of the new one."""
    monkeypatch.setattr(states, "lacking", lambda *_: NOTHING)
    monkeypatch.setattr(TableRecovery, "_useless", lambda *_: None)


def decided_too_early(monkeypatch: pytest.MonkeyPatch) -> None:
    """Commands do not wait for what states lack."""
    monkeypatch.setattr(states.States, "behind", property(lambda _: False))


@pytest.mark.parametrize("plant", [served_as_they_are, decided_too_early])
def test_a_planted_bug_is_found(oracle: Oracle, plant: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    plant(monkeypatch)
    assert any(history(oracle, seed) for seed in range(SEEDS))
