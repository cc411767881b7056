"""Workers of two versions of a service in one world: the newer writes kinds of messages that the older lacks.

Partitions move both ways. The older code stands before what it cannot know; nothing is lost to its projections, that of
the service itself and that of another.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from pipeline import Aggregate, Projection, Service, renamed
from pipeline.adapters.avro.codec import codecs
from pipeline.adapters.avro.registry import Registry
from pipeline.adapters.avro.schemas.files import schema_files
from pipeline.engine.plan import ServicePlan
from pipeline.testing.simulation.judge.history import SimulatedHistory
from pipeline.testing.simulation.judge.oracle import Oracle
from pipeline.testing.simulation.schedule import from_seed
from pipeline.testing.simulation.worker import Worker
from pipeline.testing.simulation.world import World
from pipeline.topology import Topology
from pipeline.verify import judge
from tests.simulation.test_revisions import KINDS
from tests.simulation.worlds.seeds import FRESH

SEEDS = 10


@dataclass(frozen=True, slots=True)
class Drive:
    km: int


@dataclass(frozen=True, slots=True)
class Tow:
    """A command that only the newer code has."""

    km: int


@dataclass(frozen=True, slots=True)
class Driven:
    km: int


@renamed("Driven")
@dataclass(frozen=True, slots=True)
class TripMade:
    km: int


@dataclass(frozen=True, slots=True)
class Towed:
    """An event that only the newer code has."""

    km: int


@dataclass(frozen=True, slots=True)
class Van:
    km: int = 0


def services(command: Any, event: Any, made: type) -> dict[str, Service]:
    def decide(command: Any, _: Van) -> list[Any]:
        return [Towed(command.km) if isinstance(command, Tow) else made(command.km)]

    def evolve(van: Van, event: Any) -> Van:
        return Van(van.km + event.km)

    vans = Aggregate("vans", command=command, event=event, initial=Van(), decide=decide, evolve=evolve)
    own, others = (Projection(name, [vans.events], Van(), evolve) for name in ("odometers", "board"))
    return {
        "vans": Service("vans", aggregates=[vans], projections=[own]),
        "boards": Service("boards", projections=[others]),
    }


OLD, NEW = services(Drive, Driven, Driven), services(Drive | Tow, TripMade | Towed, TripMade)


def commands(rng: random.Random) -> Iterator[tuple[str, str, Any]]:
    for _ in range(rng.randrange(5, 40)):
        yield "vans", f"van-{rng.randrange(4)}", rng.choice((Drive, Drive, Tow))(rng.randrange(1, 30))


class Upgraded(Oracle):
    """Judges by the newer code's verify, and by the tables of the owners."""

    def disk(self, world: World, worker: Worker) -> list[str]:
        return []

    def judge(self, world: World) -> list[str]:
        report = judge(SimulatedHistory(world), self.topology)
        return [*sorted(map(str, report.findings)), *self._disks.tables(world)]


@pytest.fixture(scope="module")
def schemas(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """The older code's repository, and the newer's, where the same files have changed."""
    old, new = tmp_path_factory.mktemp("old"), tmp_path_factory.mktemp("new")
    for directory, versions in ((old, [OLD]), (new, [OLD, NEW])):
        for version in versions:
            for each in schema_files([*version.values()], directory):
                each.path.write_text(each.text)
            Registry(directory).register()
    return old, new


def history(schemas: tuple[Path, Path], seed: int) -> list[str]:
    """Each worker begins with the older code, and has the newer in the end; in between it may go back."""
    oracle = Upgraded(Topology("fleet", NEW, schemas[1]), codecs(schemas[1]))
    schedule = from_seed(seed, commands)
    schedule = replace(
        schedule, operations=(), mended_ms=0, faults=tuple(f for f in schedule.faults if f.kind in KINDS)
    )
    world = World(oracle, schedule)
    rng, make = random.Random(f"upgrade {seed}"), codecs(schemas[0])
    for each in Registry(schemas[1]).versions(["vans.command", "vans.event"]):
        make.registry.learn(each.id, each.topic, each.schema)  # as it is published
    older = {name: ServicePlan(service, make) for name, service in OLD.items()}
    end_ms = max(sent.at_ms for sent in schedule.commands)
    deployed: dict[str, ServicePlan] = {}

    def deploy(worker: Worker, plan: ServicePlan) -> None:
        world._to_come -= 1
        deployed[worker.name] = plan
        worker.stopping = True

    for worker in world.workers:
        new, old = worker.plan, older[worker.plan.service.name]
        worker.plan, worker.again_s = old, rng.choice((0.1, 1.0, 8.0))
        plans = rng.choice(([new], [new, old, new]))
        for at_ms, plan in zip(sorted(rng.randrange(end_ms + 10_000) for _ in plans), plans, strict=True):
            world._to_come += 1
            world.kafka.clock.later(at_ms / 1000 or 1e-6, lambda w=worker, p=plan: deploy(w, p))
    start = Worker.start

    def started(worker: Worker) -> None:
        if worker.state == "down":
            worker.plan = deployed.get(worker.name, worker.plan)
        start(worker)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Worker, "start", started)
        return world.run()


@pytest.mark.parametrize("first", [0, FRESH])
def test_partitions_go_back_to_older_code(schemas: tuple[Path, Path], first: int) -> None:
    assert {seed: found for seed in range(first, first + SEEDS) if (found := history(schemas, seed))} == {}


def test_a_kind_that_is_skipped_is_found(schemas: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pipeline.adapters.avro.codec.has_kinds_to_come", lambda *_: False)
    found = (history(schemas, seed) for seed in range(SEEDS))
    assert any("board" in finding for findings in found for finding in findings)


def test_a_new_name_that_is_skipped_is_found(schemas: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pipeline.adapters.avro.codec.has_kinds_to_come", lambda *_: False)
    monkeypatch.setattr("pipeline.adapters.avro.wire.resolution.Resolution._was_named", lambda *_: False)
    monkeypatch.setattr(f"{__name__}.Tow", Drive)
    found = (history(schemas, seed) for seed in range(SEEDS))
    assert any("board" in finding for findings in found for finding in findings)
