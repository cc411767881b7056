"""Histories on real Kafka: right after a kill, wherever one asks, whoever holds the partition; HTTP and by hand."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections import defaultdict
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import httpx
import pytest
from confluent_kafka import TopicPartition

from pipeline.adapters.avro.codec import codecs
from pipeline.adapters.json.writing import row_json, to_json
from pipeline.client.queries import QueryClient
from pipeline.demo.commands import Asked
from pipeline.engine.copies.histories import SNAPSHOT_EVERY
from pipeline.errors import HistoryIncomplete, InvalidMoment, NoHistory, UnknownKey, UnknownTable
from pipeline.flow import events_to_state
from pipeline.model import EventMessage, StateMessage
from tests.helpers.support import Shop, Worker, until
from topologies import inventory as inv

KEYS = ("TEA", "POT", "a/b c")
ROUNDS = 250  # more than two snapshots of each key


def asked(first: int, last: int) -> Iterator[Asked]:
    for n in range(first, last):
        for key in KEYS:
            yield Asked("inventory", key, inv.ReceiveStock(n + 1) if n else inv.RegisterProduct(f"product {key}"))


def logged(shop: Shop) -> dict[str, list[EventMessage]]:
    """The event log by key."""
    decode = codecs(shop.topology.schemas)("inventory.event", EventMessage, inv.inventory.event).decode
    found = defaultdict(list)
    for record in shop.records("inventory.event"):
        found[record.key().decode()].append(decode(record.value()))
    return found


def as_json(event: EventMessage) -> dict[str, Any]:
    told = {**event._asdict(), "event": to_json(event.body, tagged=True)} | {"body": None}
    del told["read"]  # inventory reads no copies
    return told


def fold(events: list[EventMessage]) -> dict[str, Any]:
    state = events_to_state(inv.inventory, b"k", None, events) or StateMessage(0, 0, inv.inventory.initial)
    told: dict[str, Any] = json.loads(json.dumps(row_json(state)))
    return told if events else told | {"time_ms": None}


def compare(shop: Shop, client: QueryClient) -> None:
    """Each history is what the log holds, and each state the fold of its events."""
    for key, events in logged(shop).items():
        assert [each | {"body": None} for each in client.history("inventory", key)] == [as_json(e) for e in events]
        for version in (0, 1, 7, SNAPSHOT_EVERY - 1, SNAPSHOT_EVERY, SNAPSHOT_EVERY + 1, len(events)):
            state = client.state_as_of("inventory", key, version)
            assert {name: state[name] for name in ("row", "version", "time_ms")} == fold(events[:version])
            assert state["last"] == state["current"] == len(events)


def status(worker: Worker) -> dict[str, Any]:
    told: dict[str, Any] = httpx.get(f"{worker.addresses()[0]}/v1/status").json()["inventory"]
    return told


def by_hand(shop: Shop, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "pipeline", "history", *arguments, "--bootstrap", shop.bootstrap]
    return subprocess.run(command, capture_output=True, text=True, timeout=90, check=False, env={"COLUMNS": "160"})


def test_a_history_is_right_after_a_kill_wherever_one_asks(shop: Shop) -> None:
    owner, other = shop.worker("--service", "inventory", "--slot", "0"), shop.worker("--service", "users")
    until("both serve", lambda: owner.addresses() and other.addresses())
    shop.send(asked(0, ROUNDS // 2))
    until("it is in the middle", lambda: status(owner)["history_events"] > ROUNDS // 4)
    shop.send(asked(ROUNDS // 2, ROUNDS))
    owner.kill()
    owner = shop.worker("--service", "inventory", "--slot", "0")
    shop.settle("inventory")
    with shop.query() as client:
        compare(shop, client)
        assert [len(events) for events in logged(shop).values()] == [ROUNDS] * len(KEYS)

        # What was built once is not built again; what is thrown away is.
        assert owner.stop() == 0
        owner = shop.worker("--service", "inventory", "--slot", "0")
        until("it serves", owner.addresses)
        compare(shop, client)
        assert status(owner)["history_events"] == 0
        assert owner.stop() == 0
        shutil.rmtree(shop.home / "state" / "inventory" / "0" / "history")
        owner = shop.worker("--service", "inventory", "--slot", "0")
        until("it serves", owner.addresses)
        compare(shop, client)
        assert status(owner)["history_events"] == ROUNDS * len(KEYS)
        assert status(owner)["histories_building"] == 0

    check_pages(f"{other.addresses()[0]}/v1/history/inventory")
    check_times(shop)

    # A second worker takes partitions over, and builds their histories.
    shop.worker("--service", "inventory", "--slot", "1")
    until("it has given some up", lambda: status(owner)["assigned"] == shop.partitions("inventory") // 2)
    with shop.query() as client:
        compare(shop, client)


def check_pages(url: str) -> None:
    """Over HTTP, at a worker of another service."""
    versions: list[int] = []
    after: int | None = 0
    while after is not None:
        page = httpx.get(f"{url}/a%2Fb%20c", params={"after": after, "limit": 60}).json()
        versions += [event["version"] for event in page["events"]]
        assert (page["first"], page["last"], page["current"]) == (1, ROUNDS, ROUNDS)
        after = page["next"]
    assert versions == list(range(1, ROUNDS + 1))
    assert httpx.get(f"{url}/TEA", params={"after": ROUNDS}).json()["events"] == []
    assert len(httpx.get(f"{url}/TEA").json()["events"]) == 100
    assert httpx.get(f"{url}/TEA/state").json()["version"] == ROUNDS
    for path, code, says in [
        ("nothing", 404, "inventory 'nothing' has no events"),
        ("nothing/state?as_of=1", 404, "has no events"),
        (f"TEA/state?as_of={ROUNDS + 1}", 404, f"is at version {ROUNDS}; version {ROUNDS + 1} does not exist yet"),
        ("TEA/state?as_of=yesterday", 400, "neither a version"),
        ("TEA/state?as_of=-1", 400, "neither a version"),
        ("TEA?after=x", 400, "after='x' is not a number from 0"),
        ("TEA?limit=1001", 400, "limit='1001' is not a number from 1 to 1000"),
        ("%ff", 400, "not UTF-8"),
        ("../revenue/France", 404, "is no aggregate"),
        ("../nothing/x", 404, "no table 'nothing'"),
    ]:
        refused = httpx.get(f"{url}/{path}")
        assert (refused.status_code, refused.headers["Content-Type"].split(";")[0]) == (
            code,
            "application/problem+json",
        )
        assert says in refused.json()["detail"]


def check_times(shop: Shop) -> None:
    """The state as of a time, however the time is written; and what is refused."""
    events = logged(shop)["TEA"]
    with shop.query() as client:
        for event in (events[0], events[ROUNDS // 2], events[-1]):
            due = fold([each for each in events if each.time_ms <= event.time_ms])
            time = datetime.fromtimestamp(event.time_ms / 1000, UTC)
            for written in (event.time_ms, time, time.isoformat(), time.replace(tzinfo=None).isoformat()):
                assert client.state_as_of("inventory", "TEA", written)["row"] == due["row"]
        assert client.state_as_of("inventory", "TEA", events[0].time_ms - 1)["version"] == 0
        assert client.state_as_of("inventory", "TEA", "2009-12-01")["version"] == 0
        assert client.state_as_of("inventory", "TEA", "2999-12-31")["version"] == ROUNDS
        with pytest.raises(InvalidMoment):
            client.state_as_of("inventory", "TEA", "yesterday")
        with pytest.raises(UnknownKey):
            list(client.history("inventory", "nothing"))
        with pytest.raises(NoHistory):
            list(client.history("revenue", "France/2009-12-01"))
        with pytest.raises(UnknownTable):
            list(client.history("nothing", "x"))


def test_a_log_that_has_been_cut_is_told(shop: Shop) -> None:
    first = shop.worker("--service", "inventory", "--slot", "0")
    shop.send(asked(0, 20))
    shop.settle("inventory")
    until("it has all", lambda: status(first)["history_events"] == 20 * len(KEYS))
    assert first.stop() == 0
    other = shop.worker("--service", "inventory", "--slot", "1")
    shop.send(asked(20, 40))
    shop.settle("inventory")
    assert other.stop() == 0
    last: dict[int, tuple[int, str, int]] = {}  # by partition: where its last event stands, whose, and which
    versions: dict[str, int] = defaultdict(int)
    for record in shop.records("inventory.event"):
        versions[record.key().decode()] += 1
        last[record.partition()] = (record.offset(), record.key().decode(), versions[record.key().decode()])
    cut = [TopicPartition("inventory.event", n, offset) for n, (offset, _, _) in last.items()]
    for future in shop.admin.delete_records(cut).values():
        future.result()
    again = shop.worker("--service", "inventory", "--slot", "0")
    shop.settle("inventory")
    with shop.query() as client:
        for _, key, version in last.values():
            assert [event["version"] for event in client.history("inventory", key)] == [version]
            assert client.get("inventory", key)["version"] == version == 40
            for as_of in (3, version, "2009-12-01"):
                with pytest.raises(HistoryIncomplete):
                    client.state_as_of("inventory", key, as_of)
        for key in {*KEYS} - {key for _, key, _ in last.values()}:
            with pytest.raises(HistoryIncomplete, match="holds none of its events"):
                list(client.history("inventory", key))
    assert status(again)["wiped"] == {"out_of_range": len(last)}
    assert "has lost its beginning: its first event is version 40" in again.log.read_text()
    key = next(key for _, key, _ in last.values())
    assert "versions 1 to 39 are no longer in the event log" in by_hand(shop, "inventory", key).stdout


def test_by_hand(shop: Shop) -> None:
    shop.worker("--service", "inventory")
    shop.send(asked(0, 3), [Asked("inventory", "TEA", inv.TakeStock("o[1]", 4))])
    shop.settle("inventory")
    shown = by_hand(shop, "inventory", "TEA")
    assert shown.returncode == 0, shown.stderr
    for text in (
        "ProductRegistered",
        'description="product TEA"',
        "StockReceived",
        "quantity=3",
        'order="o[1]"',
        "Z\n",
    ):
        assert text in shown.stdout
    events = [json.loads(line) for line in by_hand(shop, "inventory", "TEA", "--json").stdout.splitlines()]
    assert [event["version"] for event in events] == [1, 2, 3, 4]
    assert events[3]["event"] == {"type": "StockTaken", "order": "o[1]", "quantity": 4}
    some = by_hand(shop, "inventory", "TEA", "--after", "1", "--limit", "2", "--json").stdout.splitlines()
    assert [json.loads(line)["version"] for line in some] == [2, 3]
    then = json.loads(by_hand(shop, "inventory", "TEA", "--as-of", "2", "--json").stdout)
    assert (then["version"], then["row"]["on_hand"]) == (2, 2)
    table = by_hand(shop, "inventory", "TEA", "--as-of", events[2]["time"]).stdout
    assert "version 3" in table
    assert "on_hand" in table
    differences = by_hand(shop, "inventory", "TEA", "--diff", "3", "4", "--json").stdout.splitlines()
    assert [json.loads(line) for line in differences] == [
        {"field": "on_hand", "before": 5, "after": 1},
        {"field": "taken", "before": 0, "after": 4},
    ]
    table = by_hand(shop, "inventory", "TEA", "--diff", "0", "2999-01-01").stdout
    assert "before its first event" in table
    assert "description" in table
    assert "no field differs" in by_hand(shop, "inventory", "TEA", "--diff", "4", "4").stdout
    for arguments, says in [
        (("inventory", "nothing"), "inventory 'nothing' has no events"),
        (("inventory", "TEA", "--as-of", "9"), "is at version 4; version 9 does not exist yet"),
        (("inventory", "TEA", "--as-of", "yesterday"), "neither a version"),
        (("nothing", "TEA"), "no table 'nothing'"),
    ]:
        failed = by_hand(shop, *arguments)
        assert (failed.returncode, "Traceback" in failed.stderr) == (2, False)
        assert says in failed.stderr
