"""Keys that a topology's functions give: one that is none is an error at the record that gave it, and loses nothing."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any

import pytest

from pipeline import Database, Send, Service
from pipeline.adapters.avro.codec import codecs
from pipeline.engine.steps.ask import AskSender
from pipeline.engine.steps.scheduler import CommandPlace
from pipeline.errors import FoldError, TopologyError
from pipeline.model import CommandMessage
from pipeline.model.projection.windows import Tumbling
from pipeline.model.records.keys import KEY_BYTES_MAX, ROW_KEY_BYTES_MAX
from pipeline.model.saga.saga import Ask
from pipeline.testing import TestDriver
from pipeline.topology import Topology
from tests.helpers.market import MARKET, Command, Confirm
from tests.simulation.worlds import tills as t

# Key, and what the error says of it.
UNFIT = [
    ("", "empty key"),
    (None, "which is NoneType and not str"),
    (5, "which is int and not str"),
    (b"a", "which is bytes and not str"),
    (Database.SQLITE, "which is Database and not str: take its .name (or .value)"),
    ("\ud800", "which UTF-8 cannot hold"),
    ("é" * ROW_KEY_BYTES_MAX, "which has 4000 bytes"),
]
SOUND = ["a", " ", "..", "\n", "\0", "😀" * (KEY_BYTES_MAX // 4)]


def books(**changes: Any) -> Topology:
    """The tills and their books, with another route or reaction."""
    service = t.TOPOLOGY.services["books"]
    projections, reactions = list(service.projections), list(service.reactions)
    if "route" in changes:
        projections = [replace(each, **changes) if each.route is not None else each for each in projections]
    else:
        reactions = [replace(reactions[0], **changes), *reactions[1:]]
    other = Service("books", service.aggregates, reactions, projections, service.replicas)
    return replace(t.TOPOLOGY, services={**t.TOPOLOGY.services, "books": other})


def causes(driver: TestDriver, service: str = "books") -> list[str]:
    records = driver._world.kafka.topics[f"{service}.parked"].logs[0].archive
    return [dict(record.headers())["parked-cause"].decode() for record in records]


def giving(key: Any, kind: str) -> Topology:
    def route(_: str, event: Any) -> list[Any]:
        return [(key, t.Part(event.amount))]

    def react(_: str, event: Any) -> list[Send]:
        return [Send(key, t.Enter("till-1", event.amount))]

    return books(route=route) if kind == "route" else books(react=react)


@pytest.mark.parametrize("kind", ["route", "react"])
@pytest.mark.parametrize(("key", "says"), UNFIT)
def test_the_event_that_gave_an_unfit_key_waits_with_the_name_of_the_function(key: Any, says: str, kind: str) -> None:
    with TestDriver(giving(key, kind), partitions=1, park=True) as driver:
        driver.send("tills", "till-1", t.Take(3))
        assert driver.parked() == [("tills.event", "till-1", 0)]
        assert all(f"giving.<locals>.{kind}" in cause and says in cause for cause in causes(driver)), causes(driver)
        assert driver.records("sums.by_key" if kind == "route" else "books.command") == []


@pytest.mark.parametrize("kind", ["route", "react"])
def test_a_test_of_its_author_raises(kind: str) -> None:
    with pytest.raises(FoldError, match="empty key"), TestDriver(giving("", kind), partitions=1) as driver:
        driver.send("tills", "till-1", t.Take(3))


@pytest.mark.parametrize("key", SOUND)
@pytest.mark.parametrize("kind", ["route", "react"])
def test_any_other_text_is_a_key(key: str, kind: str) -> None:
    with TestDriver(giving(key, kind), partitions=1, park=True) as driver:
        driver.send("tills", "till-1", t.Take(3))
        assert driver.parked() == []
        assert [at for at, _ in driver.records("sums.by_key" if kind == "route" else "books.command")] == [key]


def test_a_window_belongs_to_its_row_and_not_to_a_key_that_is_none() -> None:
    hourly: dict[str, Any] = {"windows": Tumbling(3_600_000), "route": lambda _, e: [(None, t.Part(e.amount))]}
    with TestDriver(books(**hourly), partitions=1, park=True) as driver:
        driver.send("tills", "till-1", t.Take(3))
        assert driver.parked() == [("tills.event", "till-1", 0)]


@pytest.mark.parametrize(("key", "says"), UNFIT)
def test_an_ask_without_a_key_is_an_error_of_its_step(key: Any, says: str) -> None:
    sender = AskSender(
        "sale",
        "sale.command",
        0,
        {"goods": ("goods.command", codecs(MARKET.schemas)("goods.command", CommandMessage, Command))},
    )
    command = CommandMessage("id", "id", None, 0, None)
    with pytest.raises(
        TopologyError, match=f"'sale': its step 'first' gives the command to 'goods' .*{re.escape(says)}"
    ):
        sender.records([Ask("first", "goods", key, Confirm("t"))], b"s1", command, CommandPlace(0, 0, 0))
