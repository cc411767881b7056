"""Services that are declared by classes alone, with a field of every type, on Kafka."""

from __future__ import annotations

from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path

import httpx
import pytest
from hypothesis import Phase, given, settings

from pipeline.adapters.avro.registry import Registry
from pipeline.adapters.avro.schemas.files import schema_files
from pipeline.adapters.json.reading import from_json
from pipeline.adapters.json.writing import to_json
from pipeline.client import Accepted, Client
from pipeline.errors import EncodeError
from pipeline.topology import load
from pipeline.verify import verify
from tests.helpers.support import Shop, until
from tests.helpers.values import BRANCHES, COMMANDS
from tests.typed import accounts as a
from tests.typed import trees as t

WAIT_S = 60.0


@pytest.fixture
def shop(kafka: str, tmp_path: Path) -> Iterator[Shop]:
    topology = load("tests.typed", tmp_path)
    for each in schema_files(topology.services.values(), tmp_path):
        each.path.write_text(each.text)
    Registry(tmp_path).register()
    shop = Shop(kafka, tmp_path, topology)
    yield shop
    shop.close()


def test_every_type_goes_through_commands_tables_sql_json_and_verify(shop: Shop, tmp_path: Path) -> None:
    worker = shop.worker("--schemas", str(tmp_path))
    (address,) = until("it serves", worker.addresses)
    sent: dict[str, a.Open] = {}

    with Client(shop.bootstrap, shop.topology) as client:

        @settings(max_examples=40, phases=[Phase.generate])
        @given(COMMANDS)
        def send(command: a.Open) -> None:
            key = f"account-{len(sent)}"
            sent[key] = command
            client.send("accounts", key, command)

        send()
        client.flush()
        last = client.send("accounts", "last", next(iter(sent.values())), wait=WAIT_S)
        assert isinstance(last, Accepted)
        (event,) = last.events
        assert event == a.Opened(*a.values(next(iter(sent.values()))))
    shop.settle()

    for key, command in sent.items():
        for table in ("holders", "ledgers"):
            told = httpx.get(f"{address}/v1/tables/{table}/{key}").json()
            assert from_json(a.Holder, told["row"], "row") == a.Holder(*a.values(command)), table
        state = httpx.get(f"{address}/v1/tables/accounts/{key}").json()["row"]
        assert from_json(a.Account, state, "row").last == a.Opened(*a.values(command))
        asked = httpx.post(f"{address}/v1/commands/accounts/{key}-again?wait=60", json=told["row"] | {"type": "Open"})
        assert asked.status_code == 200, asked.text
    shop.settle()
    report = verify(shop.bootstrap, shop.topology)
    assert not report.findings, report.findings
    assert report.checked["events"] == 2 * len(sent) + 1


def test_messages_that_contain_themselves_go_the_same_way(shop: Shop, tmp_path: Path) -> None:
    worker = shop.worker("--schemas", str(tmp_path))
    (address,) = until("it serves", worker.addresses)
    sent: list[t.Branch] = []
    deepest = t.Branch("leaf", Decimal(0))
    for _ in range(60):
        deepest = t.Branch("", Decimal(0), None, (deepest,))
    deeper = deepest
    for _ in range(10):
        deeper = t.Branch("", Decimal(0), None, (deeper,))

    with Client(shop.bootstrap, shop.topology) as client:

        @settings(max_examples=30, phases=[Phase.generate])
        @given(BRANCHES)
        def send(tree: t.Branch) -> None:
            sent.append(tree)
            client.send("gardens", f"garden-{len(sent) % 7}", t.Plant(tree))

        send()
        client.flush()
        outcome = client.send("gardens", "deep", t.Plant(deepest), wait=WAIT_S)
        assert isinstance(outcome, Accepted)
        assert outcome.events == (t.Planted(deepest),)
        with pytest.raises(EncodeError, match="nested more than 64 deep"):
            client.send("gardens", "deep", t.Plant(deeper))
    shop.settle()

    for n in range(7):
        planted = [tree for number, tree in enumerate(sent, 1) if number % 7 == n]
        state = httpx.get(f"{address}/v1/tables/gardens/garden-{n}").json()["row"]
        assert from_json(t.Garden, state, "row") == t.Garden(tuple(planted))
        row = from_json(t.Tree, httpx.get(f"{address}/v1/tables/trees/garden-{n}").json()["row"], "row")
        found = []
        while row is not None:
            assert row.newest is not None
            assert (row.name, row.grown) == (row.newest.name, row.newest.grown)
            found.append(row.newest)
            row = row.earlier
        assert found[::-1] == planted
    asked = httpx.post(f"{address}/v1/commands/gardens/deep?wait=60", json={"type": "Plant", "tree": to_json(deepest)})
    assert asked.status_code == 200, asked.text
    refused = httpx.post(f"{address}/v1/commands/gardens/deep", json={"type": "Plant", "tree": to_json(deeper)})
    assert refused.status_code == 422, refused.text
    assert "nested more than 64 deep" in refused.text
    shop.settle()
    report = verify(shop.bootstrap, shop.topology)
    assert not report.findings, report.findings
