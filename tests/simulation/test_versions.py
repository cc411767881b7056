"""Two versions of the same projections in one world: each right by itself, and alike where they should be."""

from __future__ import annotations

from dataclasses import replace

import pytest

from pipeline.adapters.memory import MemoryGroupConsumer
from pipeline.engine.ports import TP
from pipeline.testing import Simulation, TestDriver
from pipeline.testing.simulation.worker import Worker
from pipeline.testing.simulation.world import World
from pipeline.topology import Topology
from tests.simulation.worlds import tills as t
from tests.simulation.worlds.seeds import FRESH, PER_TEST

BEGINS_S = 1.0  # a world's clock


def both(service: t.Service) -> t.Service:
    """With a second version of each of its projections that means the same."""
    return replace(service, projections=[*service.projections, *(replace(p, version=2) for p in service.projections)])


BOTH = Topology("tills", {name: both(service) for name, service in t.TOPOLOGY.services.items()}, t.SCHEMAS)


@pytest.fixture
def late(monkeypatch: pytest.MonkeyPatch) -> None:
    """Who folds the second versions comes when half of the commands have been sent."""
    start = Worker.start

    def later(worker: Worker) -> None:
        clock, schedule = worker.world.kafka.clock, worker.world.schedule
        begin_s = BEGINS_S + sum(sent.at_ms for sent in schedule.commands) / len(schedule.commands) / 1000
        if worker.plan.service.part_of and clock.now_s < begin_s:
            clock.later(begin_s - clock.now_s, lambda: start(worker))
        else:
            start(worker)

    monkeypatch.setattr(Worker, "start", later)


def rows(world: World, topic: str) -> dict[bytes, bytes]:
    """What stands on a row topic, without the schemas' ids."""
    records = [record for log in world.kafka.topics[topic].logs for record in log.archive if record.decided]
    last = {record.key(): record.value() for record in records}
    return {key: value[5:] for key, value in last.items() if value is not None}


@pytest.mark.parametrize("first", [0, FRESH])
@pytest.mark.usefixtures("late")
def test_each_is_right_and_those_that_never_raised_are_alike(first: int) -> None:
    alike = 0
    for seed in range(first, first + PER_TEST):
        simulation = Simulation(BOTH, seed, commands=t.commands, mend=t.Code.mend)
        world = World(simulation._oracle, simulation.schedule, mend=t.Code.mend)
        assert world.run() == [], seed
        if not world.schedule.mended_ms:  # else an operator may have done about the one what he has not about the other
            # Keyed like its source, so it sees the events of a key in the order that they have there.
            assert rows(world, "open_tills.row") == rows(world, "open_tills_v2.row"), seed
            alike += len(rows(world, "open_tills_v2.row"))
    assert alike > PER_TEST / 2


@pytest.mark.usefixtures("late")
def test_one_that_does_not_begin_at_the_beginning_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    bounds = MemoryGroupConsumer.bounds

    def at_the_end(consumer: MemoryGroupConsumer, partition: TP) -> tuple[int, int]:
        first, end = bounds(consumer, partition)
        return (end if partition.topic == "tills.event" and len(consumer._topics) == 1 else first), end

    monkeypatch.setattr(MemoryGroupConsumer, "bounds", at_the_end)
    found = [Simulation(BOTH, seed, commands=t.commands, mend=t.Code.mend).run().findings for seed in range(20)]
    assert any("open_tills_v2" in finding for findings in found for finding in findings)
    assert not any("open_tills.row" in finding for findings in found for finding in findings)


def test_they_differ_by_what_their_functions_do() -> None:
    halved = replace(t.open_tills, version=2, evolve=lambda row, event: t.OpenTill(row.total + 1, row.taken))
    service = replace(t.TILLS, projections=[t.open_tills, halved])
    with TestDriver(Topology("tills", {"tills": service}, t.SCHEMAS)) as driver:
        driver.send("tills", "till-1", t.Take(3), t.Take(4))
        assert driver.row("open_tills", "till-1") == t.OpenTill(7, 2)
        assert driver.row("open_tills_v2", "till-1") == t.OpenTill(2, 0)
