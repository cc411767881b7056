"""Decisions that read a copy, in the simulated world: whatever strikes, what is recorded is what was read."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from pipeline.adapters.memory import MemoryStores
from pipeline.engine import plan
from pipeline.engine.copies.replica import ReplicaCopy
from pipeline.engine.ports import TP
from pipeline.flow import Copies
from pipeline.testing import Simulation, TestDriver
from pipeline.testing.simulation.simulation import known_oracle
from pipeline.testing.simulation.world import World
from tests.simulation.worlds.rates import JAMMED, TOPOLOGY, Code, DropRate, Sell, SetRate, Sold, sales, schedule


@pytest.mark.parametrize("first", range(0, 150, 25))
def test_nothing_is_wrong(first: int) -> None:
    for seed in range(first, first + 25):
        simulation = Simulation(TOPOLOGY, seed, schedule=schedule(seed), mend=Code.mend)
        if simulation.run().findings:
            simulation.check()


def test_without_replies_rejections_are_not_judged_and_events_are() -> None:
    forgetful = replace(TOPOLOGY.services["sales"], aggregates=[replace(sales, idempotency=None)])
    topology = replace(TOPOLOGY, services={**TOPOLOGY.services, "sales": forgetful})
    for seed in range(40):
        once = [sent._replace(id="") for sent in schedule(seed).commands]  # else the same id may come in the same ms
        world = World(known_oracle(topology), replace(schedule(seed), commands=tuple(once)), mend=Code.mend)
        assert world.run() == [], seed


def records_the_position_after(patch: pytest.MonkeyPatch) -> None:
    """One too far, as where the offset of the last record is taken for the next."""

    def find(self: ReplicaCopy, key: str) -> tuple[int, int, Any]:
        partition, end, row = original(self, key)
        return partition, end + 1, row

    original = ReplicaCopy.find
    patch.setattr(ReplicaCopy, "find", find)


def records_the_position_of_the_decision_before(patch: pytest.MonkeyPatch) -> None:
    class Late(Copies):
        before: str | None = None

        def decide(self, *given: Any) -> Any:
            decision = super().decide(*given)
            self.before, self.position = self.position, self.before
            return decision

    patch.setattr(plan, "Copies", Late)  # the engine's; the judge has its own


def records_nothing(patch: pytest.MonkeyPatch) -> None:
    class Silent(Copies):
        def decide(self, *given: Any) -> Any:
            decision = super().decide(*given)
            self.position = None
            return decision

    patch.setattr(plan, "Copies", Silent)


def reads_rows_that_have_been_replaced(patch: pytest.MonkeyPatch) -> None:
    """A cache that nobody tells of changes."""
    rows: dict[tuple[int, str], Any] = {}

    def find(self: ReplicaCopy, key: str) -> tuple[int, int, Any]:
        partition, end, row = original(self, key)
        return partition, end, rows.setdefault((id(self), key), row)

    original = ReplicaCopy.find
    patch.setattr(ReplicaCopy, "find", find)


PLANTED = (
    records_the_position_after,
    records_the_position_of_the_decision_before,
    records_nothing,
    reads_rows_that_have_been_replaced,
)


@pytest.mark.parametrize("plant", PLANTED, ids=lambda plant: plant.__name__)
def test_a_planted_bug_is_found(plant: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    known_oracle(TOPOLOGY)
    with monkeypatch.context() as patch:
        plant(patch)
        worlds = (World(known_oracle(TOPOLOGY), schedule(seed), mend=Code.mend) for seed in range(40))
        assert any(world.run() for world in worlds)


def test_what_was_read_is_recorded_in_events() -> None:
    with TestDriver(TOPOLOGY, partitions=1) as driver:
        driver.send("sales", "shop", Sell(2, ("franc",)))
        driver.send("rates", "franc", SetRate(3))
        driver.send("sales", "shop", Sell(2, ("franc",)))
        driver.send("rates", "franc", SetRate(4), DropRate())
        driver.send("sales", "shop", Sell(2, ("franc",)), Sell(1, ()))
        ((key, sold),) = driver.records("sales.event")
        assert (key, sold.body) == ("shop", Sold(6))
        assert sold.read == "rates.event/0@1", "the record at 0, and the marker of its transaction"
        answers = [reply for _, reply in driver.records("sales.replies")]
        shown = [(getattr(reply.body, "reason", "accepted"), reply.read) for reply in answers]
        assert [reason for reason, _ in shown] == ["no_rate", "accepted", "no_rate", "accepted"]
        assert shown[0][1] is None, "there was nothing to be read"
        assert shown[1][1] == sold.read
        assert shown[2][1] == f"rates.event/0@{driver._world.kafka.topics['rates.event'].logs[0].end - 1}"
        assert shown[3][1] is None, "it reads nothing"


def test_a_parked_command_is_decided_with_the_copy_of_when_it_is_redriven() -> None:
    with TestDriver(TOPOLOGY, partitions=1, park=True) as driver:
        driver.send("rates", "lira", SetRate(JAMMED))
        Code.mend(False)
        try:
            driver.send("sales", "shop", Sell(1, ("lira",)))
        finally:
            Code.mend(True)
        assert driver.parked()
        driver.send("rates", "lira", SetRate(7))
        driver.redrive()
        ((_, sold),) = driver.records("sales.event")
        assert sold.body == Sold(7)


@pytest.mark.parametrize(("slow_s", "decided"), [(10.0, "accepted"), (60.0, "no_rate")])
def test_at_the_start_decisions_wait_for_the_copy_but_not_for_ever(slow_s: float, decided: str) -> None:
    with TestDriver(TOPOLOGY, partitions=1) as driver:
        driver.send("rates", "franc", SetRate(3))
        world = driver._world
        (worker,) = [each for each in world.workers if each.plan.service.name == "sales"]
        worker.stopping = True
        world.make_ready(worker)
        driver.advance(0.5)
        worker.disk = MemoryStores()  # it has lost its copy
        world.kafka.slow_down([TP("rates.event", 0)], slow_s)
        driver.send_unseen("sales", "shop", Sell(2, ("franc",)))
        driver.advance(9.0)
        assert not driver.records("sales.replies")
        driver.advance(40.0)
        ((_, reply),) = driver.records("sales.replies")
        assert getattr(reply.body, "reason", "accepted") == decided
        driver.advance(30.0)
