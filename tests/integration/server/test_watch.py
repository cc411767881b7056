"""Rows watched on real Kafka: what is seen of a key is what its row topic holds, whatever happens to workers."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import threading
from collections import defaultdict
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import pytest

from pipeline import AsyncQueryClient, Token
from pipeline.adapters.avro.codec import codecs
from pipeline.adapters.json.writing import row_json
from pipeline.client import Accepted, Client
from pipeline.errors import BadRequest, ForeignToken, UnknownTable
from pipeline.flow import Lineage
from pipeline.server.pages.watch import row_codec
from tests.helpers.support import Shop, until
from topologies import orders as o
from topologies import users as u

pytestmark = pytest.mark.long


WAIT_S = 60.0
KEYS = [f"user-{n}" for n in range(4)]
TABLES = ("users", "customers")


@pytest.fixture
def client(shop: Shop) -> Iterator[Client]:
    with Client(shop.bootstrap, shop.topology, "tests") as made:
        yield made


def rows_of(shop: Shop, table: str) -> dict[str, list[tuple[Token, Any]]]:
    """What stands on a table's row topic, by key, with the token of each."""
    topic = Lineage(shop.topology.services.values()).rows[table]
    codec = row_codec(shop.topology, codecs(shop.topology.schemas), table, topic)
    found = defaultdict(list)
    for record in shop.records(topic):
        value = record.value()
        row = {"row": None} if value is None else row_json(codec.decode(value))
        found[record.key().decode()].append((Token.of({(topic, record.partition()): record.offset()}), row))
    return found


def comes_back(customer: str) -> o.ReturnGoods:
    return o.ReturnGoods(customer, "France", "2009-12-01T10:00:00", (o.Line("TEA", 1, 1000),))


def told(event: dict[str, Any]) -> tuple[Token, Any]:
    return event["position"], {name: value for name, value in event.items() if name not in ("key", "position")}


def test_what_is_watched_is_what_the_row_topic_holds(shop: Shop, client: Client) -> None:
    services = ("--service", "users", "--service", "orders", "--service", "reports")
    arguments = [(*services, "--slot", slot) for slot in "01"]
    workers = [shop.worker(*each) for each in arguments]
    until("both serve", lambda: all(worker.addresses() for worker in workers))
    with shop.query() as query:
        for key in KEYS:
            sent = client.send("users", key, u.RegisterUser("first", "France"), wait=WAIT_S)
            assert isinstance(sent, Accepted)
            query.get(
                "customers", key, at_least=sent.position, wait=60
            )  # who watches before is told that there is none
    seen: dict[tuple[str, str], list[tuple[Token, Any]]] = {(t, key): [] for t in TABLES for key in KEYS}
    over = threading.Event()

    async def watch() -> None:
        async with AsyncQueryClient(shop.bootstrap, shop.topology, 60.0) as query:

            async def one(table: str, key: str) -> None:
                async for event in query.watch(table, key, since=""):
                    seen[table, key].append(told(event))

            watching = [asyncio.create_task(one(*place)) for place in seen]
            ending = asyncio.create_task(asyncio.to_thread(over.wait))
            done, _ = await asyncio.wait([*watching, ending], return_when=asyncio.FIRST_COMPLETED)
            for each in watching:
                each.cancel()
            assert done == {ending}, done

    with ThreadPoolExecutor(1) as pool:
        watchers = pool.submit(asyncio.run, watch())
        try:
            until("all watch", lambda: watchers.done() or all(seen["users", key] for key in KEYS))
            for turn, worker in enumerate([0, 1]):
                workers[worker].kill()
                for n in range(5):  # while nobody, or the other one, holds the partitions
                    for key in KEYS:
                        client.send("users", key, u.ChangeName(f"{turn}-{n}"))
                        client.send("orders", f"C-{turn}-{n}-{key}", comes_back(key))
                client.flush()
                workers[worker] = shop.worker(*arguments[worker])
                for key in KEYS:
                    client.send("users", key, u.ChangeName(f"{turn}-last"), wait=WAIT_S)
            shop.settle("users", "orders", "reports")
            expected = {table: rows_of(shop, table) for table in TABLES}
            for table, key in seen:
                rows, so_far = expected[table][key], seen[table, key]
                until(f"{key} of {table} is told", lambda rows=rows, so_far=so_far: so_far[-1][0] == rows[-1][0])
                assert so_far == rows
        finally:
            over.set()
        watchers.result()
    assert expected["users"][KEYS[0]][-1][1]["row"]["name"] == "1-last"
    assert expected["customers"][KEYS[0]][-1][1]["row"]["refunded"] == 10_000


def test_where_a_watch_begins(shop: Shop, client: Client) -> None:
    worker = shop.worker("--service", "users", "--service", "reports", "--service", "orders")
    other = shop.worker("--service", "inventory")
    until("they serve", lambda: worker.addresses() and other.addresses())
    client.send("users", "anna", u.RegisterUser("0", "France"), wait=WAIT_S)
    for n in range(1, 5):
        sent = client.send("users", "anna", u.ChangeName(f"{n}"), wait=WAIT_S)
    assert isinstance(sent, Accepted)
    rows = rows_of(shop, "users")["anna"]
    assert [row["version"] for _, row in rows] == [1, 2, 3, 4, 5]
    with shop.query() as query:
        present = next(query.watch("users", "anna"))
        assert (present["row"]["name"], present["version"]) == ("4", 5)
        assert query.get("users", "anna", at_least=present["position"] | sent.position)["version"] == 5
        after = query.watch("users", "anna", since=rows[1][0])
        assert [told(next(after)) for _ in range(3)] == rows[2:]
        assert next(query.watch("customers", "anna", since=sent.position))["row"]["registered"]
        absent = query.watch("users", "nobody")
        assert next(absent)["row"] is None
        client.send("users", "nobody", u.RegisterUser("Nobody", "France"), wait=WAIT_S)
        assert next(absent)["row"]["name"] == "Nobody"
        with pytest.raises(UnknownTable):
            next(query.watch("people", "anna"))
        with pytest.raises(ForeignToken):
            next(query.watch("users", "anna", since="inventory.command/0@1"))
        replica = shop.topology.services["orders"].replicas[0].name
        with pytest.raises(BadRequest, match="is a replica"):
            next(query.watch(replica, "anna"))

    for address in (worker.addresses()[0], other.addresses()[0]):  # whoever is asked
        with httpx.stream(
            "GET", f"{address}/v1/tables/users/anna/watch", headers={"Last-Event-ID": rows[-2][0]}, timeout=30.0
        ) as response:
            assert response.headers["Content-Type"] == "text/event-stream"
            lines = (line for line in response.iter_lines() if not line.startswith(("retry", ":")) and line)
            assert next(lines) == f"id: {rows[-1][0]}"
            assert json.loads(next(lines).removeprefix("data: "))["version"] == 5
            # With a heartbeat comes from where to go on, though nothing has happened to the key.
            assert next(lines) > f"id: {rows[-1][0]}"
        assert httpx.get(f"{address}/v1/tables/users/anna/watch", params={"from": "1"}).status_code == 400
        assert httpx.get(f"{address}/v1/tables/people/anna/watch").status_code == 404

    async def both() -> list[int]:
        async with AsyncQueryClient(shop.bootstrap, shop.topology) as others:
            events = others.watch("users", "anna", since=rows[0][0])
            return [(await anext(events))["version"] for _ in range(2)]

    assert asyncio.run(both()) == [2, 3]
    command = [sys.executable, "-m", "pipeline", "query", "users", "anna", "--watch", "--json", "--since", rows[2][0]]
    by_hand = subprocess.Popen([*command, "--bootstrap", shop.bootstrap], stdout=subprocess.PIPE, text=True)
    try:
        assert by_hand.stdout is not None
        assert [json.loads(by_hand.stdout.readline())["version"] for _ in range(2)] == [4, 5]
    finally:
        by_hand.kill()
        by_hand.wait()
    assert worker.stop() == 0, "who watches must not hold up the end"
