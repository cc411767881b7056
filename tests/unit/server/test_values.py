"""Values of every type over HTTP: commands, outcomes, rows that are watched, parked records, the OpenAPI document."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from aiohttp.test_utils import TestClient
from hypothesis import given

from pipeline.adapters.json.writing import json_text, to_json
from pipeline.adapters.memory import MemoryLogReader
from pipeline.client.commands import Commands, outcome_json
from pipeline.client.wire.outcome import Accepted
from pipeline.engine.ports import TP
from pipeline.engine.state.parked_table import ParkedRecord
from pipeline.errors import InvalidCommand
from pipeline.model import CommandMessage, Token
from pipeline.server.openapi import document
from pipeline.server.pages.parked import _shown
from pipeline.server.watch.row_tail import RowTail, Watch
from pipeline.testing import TestDriver
from pipeline.topology import Topology
from tests.helpers import every_type
from tests.helpers.every_type import All, Label, Marked, Point, Put, PutNothing, Stored
from tests.unit.adapters.test_values import EVENTS, slowly, strict
from tests.unit.server.test_watch import Page, event

DATA = b"\xff\0PNG"
ALL = All(
    text="“ü”",
    data=DATA,
    narrow=0.5,
    price=b"\x04\xe2",
    either=b"",
    shape=Point(1.5, "p"),
    named=Label("l"),
    points=(Point(),),
    mixed={"a": b"\0"},
)


@pytest.fixture(scope="module")
def topology(tmp_path_factory: pytest.TempPathFactory) -> Topology:
    directory: Path = tmp_path_factory.mktemp("values") / "schemas"
    return every_type.topology(directory)


@pytest.fixture(scope="module")
def commands(topology: Topology) -> Commands:
    return Commands(topology)


def test_openapi_describes_every_type(topology: Topology) -> None:
    told = strict(json_text(document(topology)))
    text = json.dumps(told)
    assert all(name in text for name in ("Put", "PutNothing", "Stored", "Marked", "Seen", "Label"))


def test_a_command_with_a_field_called_type_gives_its_fields_in_value(commands: Commands) -> None:
    body = {"type": "PutNothing", "value": {"type": "x"}}
    assert commands.from_tagged_json("alls", body) == PutNothing("x")
    assert commands.from_json("alls", "PutNothing", {"type": "x"}) == PutNothing("x")
    for wrong in ({"type": "PutNothing"}, {"type": "PutNothing", "value": {"type": "x"}, "more": 1}):
        with pytest.raises(InvalidCommand, match="PutNothing has a field `type` of its own"):
            commands.from_tagged_json("alls", wrong)
    for body in ([], {"type": 5}, {"value": {}}):
        with pytest.raises(InvalidCommand, match="its name as `type`"):
            commands.from_tagged_json("alls", body)
    with pytest.raises(InvalidCommand, match="takes no command 'Other'"):
        commands.from_tagged_json("alls", {"type": "Other", "value": {}})


def test_a_command_of_every_type_is_read_from_its_json(commands: Commands) -> None:
    told = strict(json_text(to_json(Put(ALL), tagged=True)))
    assert commands.from_tagged_json("alls", told) == Put(ALL)
    assert commands.write("alls", "k", Put(ALL)).value


@slowly
@given(EVENTS)
def test_an_outcome_with_events_of_every_type_comes_back(commands: Commands, told: Stored | Marked) -> None:
    outcome = Accepted(3, (told, Marked("x")), Token("alls.command/0@1"))
    assert commands.outcome_from_json("alls", strict(json_text(outcome_json(outcome)))) == outcome


@pytest.fixture
def driver(topology: Topology) -> Iterator[TestDriver]:
    with TestDriver(topology, partitions=1, park=True) as made:
        made.send("alls", "k", Put(ALL))
        yield made


def test_rows_of_every_type_are_watched(driver: TestDriver, topology: Topology) -> None:
    async def scenario(client: TestClient[Any, Any]) -> None:
        for table in ("alls", "kept", "seen"):
            async with client.get(f"/v1/tables/{table}/k/watch") as response:
                row = (await event(response))["row"]
                row = row["all"] if table == "seen" else row
                assert base64.b64decode(row["data"]) == DATA
                assert row["named"] == {"text": "l", "at": 0}
                driver.send("alls", "k", Put(All(data=b"2")))
                row = (await event(response))["row"]
                assert (row["all"] if table == "seen" else row)["data"] == "Mg=="
            driver.send("alls", "k", Put(ALL))

    Page(driver, topology).run(scenario)


def test_a_row_that_cannot_be_shown_ends_the_watches_of_its_key_alone(driver: TestDriver) -> None:
    tp = TP("kept.row", 0)
    tail = RowTail(MemoryLogReader(driver._world.kafka))
    tail.begin(tp, 0)

    def broken(offset: int, value: bytes | None) -> str:
        raise TypeError("not serialisable")

    driver.send("alls", "other", Put(ALL))
    bad = Watch(tp, b"k", 0, 0, broken, absent=False)
    good = Watch(tp, b"other", 0, 0, lambda offset, value: "told", absent=False)
    assert tail.take(bad)
    assert tail.take(good)
    _, lost = tail.step(0.0)
    assert set(lost) == {bad}
    assert [each.text for each in good.drain()] == ["told"]


def test_a_parked_record_is_shown_with_every_type(driver: TestDriver, commands: Commands) -> None:
    message = CommandMessage("c", "c", None, 1, PutNothing("x"))
    fields: dict[str, Any] = dict.fromkeys(ParkedRecord._fields, 0)
    entry = ParkedRecord(
        **fields | {"value": commands.kind("alls").encode(message), "headers": (("a", b"\xff"),)} | {"done": ()}
    )
    told = strict(json_text(_shown(entry, commands.kind("alls").decode)))
    assert told["record"]["body"] == {"type": "PutNothing", "value": {"type": "x"}}
    assert told["record"]["id"] == "c"
    assert "type" not in told["record"]
    assert told["headers"] == [["a", "/w=="]]
