"""One command followed by its id: all of its request, what was refused and why, and what is parked."""

from __future__ import annotations

import io
from collections.abc import Iterator
from typing import Any

import pytest
from rich.console import Console

from pipeline.adapters.avro.registry import Registry
from pipeline.errors import UnknownCommand
from pipeline.explain.run import tell, tell_of_id
from pipeline.explain.show_trace import show_trace
from pipeline.explain.story import Story
from pipeline.testing import TestDriver
from pipeline.testing.simulation.judge.history import SimulatedHistory
from pipeline.topology import Topology
from pipeline.verify.sources.history import Entry
from topologies import inventory, orders, users

LAMP, TEA = orders.Line("LAMP", 2, 1500), orders.Line("TEA", 2, 1500)


@pytest.fixture(scope="module")
def driver(shop_topology: Topology) -> Iterator[TestDriver]:
    with TestDriver(shop_topology) as driver:
        driver.send("inventory", "LAMP", inventory.RegisterProduct("a lamp"), inventory.ReceiveStock(10))
        driver.send("inventory", "TEA", inventory.RegisterProduct("tea"), inventory.ReceiveStock(1))
        driver.send("users", "anna", users.RegisterUser("Anna", "France", "anna@example.org"))
        for number, lines in (("1", (LAMP,)), ("2", (LAMP, TEA))):
            driver.send("orders", number, orders.PlaceOrder("anna", "", "2009-12-01T10:00", lines, "saga"))
        yield driver


@pytest.fixture
def traced(driver: TestDriver, shop_topology: Topology) -> Any:
    history, registry = SimulatedHistory(driver._world), Registry(shop_topology.schemas)
    return lambda id_: tell_of_id(history, shop_topology, registry, id_, "yesterday")


@pytest.fixture
def told(driver: TestDriver, shop_topology: Topology) -> Any:
    history, registry = SimulatedHistory(driver._world), Registry(shop_topology.schemas)
    return lambda *asked: tell(history, shop_topology, registry, *asked)


def page(story: Story, width: int = 80) -> str:
    console = Console(file=io.StringIO(), width=width)
    show_trace(console, story)
    return console.file.getvalue()  # type: ignore[attr-defined]


def test_any_id_of_a_request_leads_to_all_of_it(traced: Any, told: Any) -> None:
    whole = told("orders", "1").as_json()
    steps = whole["steps"]
    ids = {step["command_id"] for step in steps} | {
        record["correlation_id"] for step in steps for record in step["events"]
    }
    assert len(ids) > 8
    for id_ in ids:
        found = traced(id_).as_json()
        assert found["steps"] == steps, id_
        assert found["rows"] == whole["rows"]
    assert traced("checkout_saga/1").as_json()["steps"] == steps


def test_it_says_what_was_refused_and_where_the_saga_stands(traced: Any, told: Any) -> None:
    story = traced(told("orders", "2").steps[0].command_id)
    text = page(story)
    assert "REFUSED: out_of_stock" in text
    assert "(an undoing)" in page(story, 200)
    assert text.splitlines()[-1] == "in full: pipeline explain orders 2 --version 1"
    assert "saga checkout_saga 2: undone" in text
    assert max(len(line) for line in text.splitlines() if "ms" in line[:12]) <= 80
    assert story.as_json()["sagas"][0]["status"] == "undone"


def test_an_id_that_is_not_there_says_where_to_look(traced: Any) -> None:
    with pytest.raises(
        UnknownCommand, match=r"no command or event with the id 'nothing'.* since yesterday.*--since 7d"
    ):
        traced("nothing")


def test_what_is_parked_is_said_with_its_cause(shop_topology: Topology) -> None:
    registry = Registry(shop_topology.schemas)
    with TestDriver(shop_topology) as driver:
        driver.send("users", "anna", users.RegisterUser("Anna", "France"))
        history = SimulatedHistory(driver._world)
        story = tell(history, shop_topology, registry, "users", "anna")
        event = story.steps[0].events[0]
        place = [("parked-source-topic", event.tp.topic), ("parked-source-partition", str(event.tp.partition))]
        place += [("parked-source-offset", str(event.entry.offset)), ("parked-done", "")]
        cause = [("parked-action", "parked"), ("parked-cause", "ValueError: no such country")]
        headers = [(name, text.encode()) for name, text in (*place, *cause)]
        changed = history.records

        def records(tp: Any) -> Any:
            yield from changed(tp)
            if tp.topic == "reports.parked" and tp.partition == 0:
                yield Entry(0, b"anna", None, 0, tuple(headers))

        history.records = records  # type: ignore[method-assign]
        story = tell_of_id(history, shop_topology, registry, story.steps[0].command_id, "yesterday")
        assert story.as_json()["steps"][0]["parked"] == [
            {"service": "reports", "action": "parked", "cause": "ValueError: no such country"}
        ]
        assert "step 1 is parked in reports: ValueError: no such country; see: pipeline parked show" in page(story, 200)
