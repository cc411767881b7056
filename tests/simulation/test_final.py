"""What must be true once nothing is under way, by `pipeline verify` and by the simulator; and damage that shows."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from pipeline.adapters.avro.registry import Registry
from pipeline.engine.ports import TP
from pipeline.errors import TopologyError
from pipeline.model import Invariant, StateMessage, Summary, TopicKind
from pipeline.model.records.partitioning import partition_of
from pipeline.testing import TestDriver
from pipeline.testing.simulation.judge.history import SimulatedHistory
from pipeline.topology import load
from pipeline.verify import Report, judge
from pipeline.verify.checks.final import FinalCheck
from tests.helpers.market import ALL_OR_NOTHING, MARKET, SALE, Buy, Confirm, Hold, Move, Release, Restock
from tests.simulation.sagas.test_sagas import answers_to_sagas_are_not_sent


@pytest.fixture
def driver() -> Iterator[TestDriver]:
    """A market in which some deals have come about."""
    with TestDriver(MARKET) as driver:
        for key in ("tea", "pot", "purse", "a", "b"):
            driver.send("goods", key, Restock(5))
        yield driver


def deal(driver: TestDriver) -> None:
    driver.send("sale", "o1", Buy("o1", 2, 1))
    driver.send("sale", "o2", Buy("o2", 9, 1))
    driver.send("move", "m1", Move("m1", 1, ("a", "b")))


def verified(driver: TestDriver, *services: str) -> Report:
    return judge(SimulatedHistory(driver._world), MARKET, services)


def damage(driver: TestDriver, aggregate: str, key: str, state: Any) -> None:
    """Puts another state onto the changelog."""
    topic, world = TopicKind.STATE.topic(aggregate), driver._world
    value = world.oracle.codec[topic].encode(StateMessage(9, 1_000, state))
    world.kafka.append(TP(topic, partition_of(key.encode(), 2)), key.encode(), value)


def test_all_is_well(driver: TestDriver) -> None:
    deal(driver)
    report = verified(driver)
    assert (report.findings, report.notes) == ([], [])
    assert (report.checked["invariants"], report.checked["sagas"]) == (1, 3)


def test_an_invariant_that_does_not_hold(driver: TestDriver) -> None:
    deal(driver)
    tea = driver.row("goods", "tea").body
    damage(driver, "goods", "tea", replace(tea, gone=tea.gone + 1))
    (found,) = [finding for finding in verified(driver).findings if finding.kind == "broken_invariant"]
    assert (found.expected, found.found) == (ALL_OR_NOTHING.name, "3 of tea are gone, and deals took 2")
    assert str(found) in driver._world.oracle.judge(driver._world)


def test_an_invariant_that_raises(driver: TestDriver, monkeypatch: pytest.MonkeyPatch) -> None:
    odd = Invariant("there is tea", ("goods",), lambda rows: [rows["goods"]["no tea"]])
    report = judge(SimulatedHistory(driver._world), replace(MARKET, invariants=(odd,)))
    assert [(finding.kind, finding.found) for finding in report.findings] == [("raised", "KeyError('no tea')")]


def test_what_is_held_for_nobody(driver: TestDriver) -> None:
    deal(driver)
    driver.send("goods", "tea", Hold("x", 1))
    report = verified(driver)
    (found,) = report.findings
    assert (found.kind, found.topic, found.key, found.found) == ("in_flight", "goods", "tea", "held for x")
    assert report.notes == ["under way: 1 of goods"]
    assert driver._world.oracle.judge(driver._world) == [str(found)]
    driver.send("goods", "tea", Release("x"))
    assert verified(driver).clean


def test_what_is_broken_while_something_is_under_way_is_a_note(driver: TestDriver) -> None:
    driver.send("goods", "tea", Hold("x", 1))
    driver.send("goods", "pot", Hold("y", 1), Confirm("y"))
    report = verified(driver)
    assert set(report.found) == {"in_flight"}
    assert "1 not so, or not yet: what is gone went to deals that came about" in report.notes[-1]


def test_a_saga_goes_on_at_the_end_of_a_timer_or_never(driver: TestDriver, monkeypatch: pytest.MonkeyPatch) -> None:
    answers_to_sagas_are_not_sent(monkeypatch)
    driver.send("sale", "o1", Buy("o1", 2, 1))
    report = verified(driver)
    assert report.findings == []  # it will hear of the time-out
    assert report.notes == ["under way: 2 of goods, 1 of sale"]
    driver.advance(60)
    (found,) = [finding for finding in verified(driver).findings if finding.topic == "sale"]
    assert (found.kind, found.key) == ("in_flight", "o1")
    assert found.found == "stuck, waits for undo-reserve.0, undo-reserve.1"


def test_a_saga_that_has_asked_nobody_waits_for_a_message(driver: TestDriver, monkeypatch: pytest.MonkeyPatch) -> None:
    deal(driver)
    saga = replace(SALE, summary=lambda state: Summary("running", "approval", 1, (), ""))
    deals = replace(MARKET.services["deals"], sagas=[saga])
    topology = replace(MARKET, services={**MARKET.services, "deals": deals}, invariants=())
    report = Report()
    FinalCheck(topology, Registry(MARKET.schemas))(SimulatedHistory(driver._world), 0, report)
    assert (report.findings, report.notes) == ([], ["under way: 2 of sale"])


def test_what_is_parked_may_move_the_rest_on() -> None:
    with TestDriver(MARKET, park=True) as driver:
        driver.send("goods", "tea", Restock(1), Hold("x", 1))
        world = driver._world
        world.kafka.append(TP("goods.command", partition_of(b"pot", 2)), b"pot", b"no Avro")
        driver.advance(1)
        assert set(verified(driver).found) == {"in_flight"}  # that one will never have an effect
        driver.send("goods", "pot", Restock(1))  # waits behind it
        report = verified(driver)
        assert (report.findings, report.notes) == ([], ["under way: 1 of goods, 1 parked"])


def test_where_services_are_at_work_nothing_is_final(driver: TestDriver) -> None:
    driver.send_unseen("goods", "tea", Hold("x", 1))
    report = verified(driver)
    assert report.findings == []
    assert "the services are at work" in report.notes[-1]


def test_of_some_services_alone_nothing_is_final(driver: TestDriver) -> None:
    driver.send("goods", "tea", Hold("x", 1))
    assert verified(driver, "market").clean


# --- declared ---------------------------------------------------------------------------------------------------------


def test_invariants_are_loaded_with_the_services(tmp_path: Path) -> None:
    for name in MARKET.services:
        (tmp_path / f"{name}.py").write_text(
            f'from tests.helpers.market import MARKET\nservice = MARKET.services["{name}"]\n'
        )
    beside = tmp_path / "invariants.py"
    beside.write_text("from tests.helpers.market import ALL_OR_NOTHING\ninvariants = [ALL_OR_NOTHING]\n")
    assert load(str(tmp_path)).invariants == (ALL_OR_NOTHING,)
    beside.write_text("invariants = ALL_OR_NOTHING = 1\n")
    with pytest.raises(TopologyError, match="no list of"):
        load(str(tmp_path))


def test_an_invariant_of_a_table_that_nobody_keeps() -> None:
    with pytest.raises(TopologyError, match=r"needs the table .gods.*goods, move, sale"):
        replace(MARKET, invariants=(Invariant("all is well", ("gods",), lambda rows: []),))
