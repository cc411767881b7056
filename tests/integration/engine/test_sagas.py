"""Sagas and two-phase commits on real Kafka: services that are killed in turn, a participant that is away, a person."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import httpx
import pytest

from pipeline.client import Accepted, Client
from pipeline.client.queries import QueryClient
from pipeline.errors import Contended, NotYet
from pipeline.verify import verify
from tests.helpers.apart import Apart
from tests.helpers.market import MARKET, Buy, Move, Restock
from tests.helpers.support import until

pytestmark = pytest.mark.long


WAIT_S = 60.0
STOCK = {"tea": 40, "pot": 30, "purse": 60, "a": 20, "b": 15}
SALES, MOVES, MOST = 30, 20, 300
PLACES = ("tea", "pot")


class Market(Apart):
    """The market, each service with a worker of its own."""

    def statuses(self) -> list[str]:
        """Of all sales and moves."""
        sales = [row["progress"]["status"] for row in self.rows("sale").values()]
        return sales + [row["transaction"]["state"] for row in self.rows("move").values()]


@pytest.fixture
def market(kafka: str, tmp_path: Path) -> Iterator[Market]:
    made = Market(kafka, tmp_path, MARKET, "tests.helpers.market:MARKET")
    yield made
    made.close()


def test_all_or_nothing_while_services_are_killed_in_turn(market: Market) -> None:
    market.start(*MARKET.services)
    with Client(market.shop.bootstrap, MARKET, "tests") as client:
        for key, amount in STOCK.items():
            assert isinstance(client.send("goods", key, Restock(amount), wait=WAIT_S), Accepted)
        for n in range(max(SALES, MOVES)):
            if n < SALES:
                client.send("sale", f"o{n}", Buy(f"o{n}", 1 + n % 2, 1 + n % 3))
            if n < MOVES:
                client.send("move", f"m{n}", Move(f"m{n}", n + 1, ("a", "b")))
            if n % 5 == 4:
                client.flush()
                market.start(sorted(MARKET.services)[n // 5 % 2])  # killed first
    settled = {"done", "undone", "committed", "aborted"}
    until("all have settled", lambda: len(found := market.statuses()) == SALES + MOVES and set(found) <= settled)
    until(
        "nothing is told any more",
        lambda: not any(row["transaction"]["telling"] for row in market.rows("move").values()),
    )

    sales = [row for row in market.rows("sale").values() if row["progress"]["status"] == "done"]
    moves = [row for row in market.rows("move").values() if row["transaction"]["state"] == "committed"]
    assert 0 < len(sales) < SALES
    assert 0 < len(moves) <= STOCK["b"]
    taken = {
        "tea": sum(row["tea"] for row in sales),
        "pot": sum(row["pot"] for row in sales),
        "purse": sum(row["tea"] + row["pot"] for row in sales),
        "a": len(moves),
        "b": len(moves),
    }
    goods = market.rows("goods")
    for key, amount in STOCK.items():
        row = goods[key]
        assert (row["gone"], row["free"], row["ledger"]["holds"]) == (taken[key], amount - taken[key], []), key
    assert goods["bell"]["free"] == MOVES
    report = verify(market.shop.bootstrap, MARKET)
    assert report.clean, report.findings
    assert report.checked["commands asked of others"] >= 3 * SALES + 2 * MOVES


def test_a_participant_that_is_away_and_a_person(market: Market) -> None:
    market.start("market", "deals")
    with Client(market.shop.bootstrap, MARKET, "tests") as client:
        for key in ("tea", "pot", "purse"):
            client.send("goods", key, Restock(9), wait=WAIT_S)
        market.kill("market")
        client.send("sale", "o1", Buy("o1", 1, 1), wait=WAIT_S)
        client.send("move", "m1", Move("m1", 1, ("tea", "pot")), wait=WAIT_S)
    (sale,) = market.call("saga", "list", "sale")
    assert (sale["key"], sale["status"], sale["step"], sale["waits_for"]) == (
        "o1",
        "running",
        "reserve",
        ["reserve.0", "reserve.1"],
    )
    (move,) = market.call("2pc", "list")
    assert (move["step"], move["blocks"]) == ("voting", ["goods/tea", "goods/pot"])
    pages = f"{market.workers['deals'].addresses()[0]}/v1/sagas"
    assert [each["key"] for each in httpx.get(pages, params={"state": "running"}).json()["sagas"]] == ["m1", "o1"]
    refused = httpx.post(f"{pages}/move/m1/commit", json={"by": "eve", "why": "it is urgent"})
    assert (refused.status_code, refused.json()["reason"]) == (409, "votes_are_missing")
    aborted = httpx.post(f"{pages}/sale/o1/abort", json={"by": "eve", "why": "nobody is there"})
    assert (aborted.status_code, aborted.json()["outcome"]) == (200, "accepted")
    market.call("2pc", "force", "move", "m1", "abort", "--by", "eve", "--why", "nobody is there")
    market.start("market")
    until("both are undone", lambda: sorted(market.statuses()) == ["aborted", "undone"])
    (told,) = market.call("saga", "show", "sale", "o1")
    assert {"type": "Intervention", "action": "abort", "by": "eve", "why": "nobody is there"} in [
        event["event"] for event in told["events"]
    ]
    free = lambda: [row["free"] for row in market.rows("goods").values() if not row["ledger"]["holds"]]  # noqa: E731
    until("all is free again, and the bell was rung for the abort", lambda: sorted(free()) == [1, 9, 9, 9])


def test_rows_are_read_with_all_of_a_two_phase_commit_or_nothing(market: Market) -> None:
    market.start(*MARKET.services)
    market.launch(
        "market", slot=9, name="another"
    )  # tea and pots are of different partitions, and now of different lanes
    until("it has its share", lambda: market.runs("market") and market.runs("another"))
    over = threading.Event()
    together: list[list[int]] = []
    one_by_one: list[list[int]] = []

    def look(read: Callable[[QueryClient], list[Any]], into: list[list[int]]) -> None:
        with market.shop.query() as query:
            while not over.is_set():
                with suppress(Contended, NotYet):
                    into.append([row["row"]["gone"] for row in read(query)])

    def at_once(query: QueryClient) -> list[Any]:
        return query.read_together([("goods", key) for key in PLACES], wait=1)

    def each(query: QueryClient) -> list[Any]:
        return [query.get("goods", key) for key in PLACES]

    def move(number: int) -> None:
        sent = client.send("move", f"m{number}", Move(f"m{number}", number + 1, PLACES), wait=WAIT_S)
        assert isinstance(sent, Accepted)
        query.get("move", f"m{number}", at_least=str(sent.position), wait=WAIT_S)
        until("it is committed", lambda: query.saga("move", f"m{number}")["status"] == "done")

    moves = 0
    with Client(market.shop.bootstrap, MARKET, "tests") as client, market.shop.query() as query:
        for key in PLACES:
            assert isinstance(client.send("goods", key, Restock(MOST), wait=WAIT_S), Accepted)
        readers = [threading.Thread(target=look, args=(each, one_by_one)) for _ in range(2)]
        readers.append(threading.Thread(target=look, args=(at_once, together)))
        for reader in readers:
            reader.start()
        try:  # until one was seen without the other: what is read first has moved on, what is read next has not yet
            while moves < MOVES or not (any(a > b for a, b in one_by_one) or moves == MOST):
                move(moves)
                moves += 1
        finally:
            over.set()
            for reader in readers:
                reader.join()
        row = query.get("goods", "tea", pending="wait")
        assert (row["row"]["gone"], row["pending"]) == (moves, [])
    assert any(a > b for a, b in one_by_one)
    assert len({tuple(read) for read in together}) > 1
    assert all(a == b for a, b in together)
