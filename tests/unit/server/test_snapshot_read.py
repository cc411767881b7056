"""Rows read as one, and reads that see, leave out or wait for what is held: the pages, over a market in memory."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Callable, Collection, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, replace
from types import SimpleNamespace
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer
from yarl import URL

from pipeline.client.owner_request import Blocking, HttpCall
from pipeline.client.requests import Requests
from pipeline.client.wire.read_options import parse_read_options
from pipeline.errors import Contended, NoSuchConsistency, NotYet
from pipeline.model import Ledger, Rejected, Service, StateMessage, Token
from pipeline.model.records.partitioning import partition_of
from pipeline.model.saga.participant import holds
from pipeline.server.endpoints.tables import AGGREGATE, ROW
from pipeline.server.openapi import document
from pipeline.server.owner.dispatch import Dispatcher
from pipeline.server.owner.forward import Forwarding
from pipeline.server.pages import snapshot_read
from pipeline.server.pages.snapshot_read import Pass, SnapshotReadApi, agreed
from pipeline.server.pages.tables import QueryApi
from pipeline.server.reads.held_work import HeldWork
from pipeline.server.reads.local_tables import LocalTables
from pipeline.server.web import as_problems, mount
from pipeline.testing import TestDriver
from pipeline.topology import Topology
from tests.helpers.market import ESCROW, GOODS, MARKET, Confirm, Goods, Hold, Release, Restock, decide, goods

Turn = Callable[[], object]


class Turns:
    """Consistency in a quiet world: tables are where readers need them. Before each look something happens."""

    def __init__(self, tables: Collection[str]) -> None:
        self.todo: list[Turn] = []
        self._tables = tables

    def check(self, table: str, asked: Any) -> None:
        assert table in self._tables

    def token(self, table: str, partition: int, position: int | None) -> Token:
        return Token.of({("goods.command", partition): position - 1}) if position else Token()

    def rows_token(self, table: str, partition: int, rows: int) -> Token:
        return Token()

    async def reach(self, table: str, partition: int, asked: Any) -> None:
        if self.todo:
            self.todo.pop(0)()

    async def change(self, table: str, partition: int, position: int, until_s: float) -> bool:
        if not self.todo:
            return False
        self.todo.pop(0)()
        return True


class Market:
    """A worker that has all of the market or of another topology, or one that has nothing and asks that one."""

    def __init__(self, driver: TestDriver, there: Market | None = None, topology: Topology = MARKET) -> None:
        tables = [name for service in topology.services.values() for name in service.tables()]
        self.driver, self.there, self.turns = driver, there, Turns(tables)
        self.router: Any = SimpleNamespace(
            topology=topology,
            knows=lambda table: True,
            partition=lambda table, key: partition_of(key.encode(), 2),
            partitions=lambda table: 2,
            forget_all=lambda: None,
            workers=lambda service: [],
        )
        lanes = [worker.lane for worker in driver._world.workers if there is None]
        local = LocalTables(lambda: {place: view for lane in lanes if lane for place, view in lane.views.items()})
        self.forwarding = Forwarding(self.router)
        self.dispatcher = Dispatcher(local, self.forwarding)
        self.api = QueryApi(local, self.dispatcher, self.turns, dict, Any)  # type: ignore[arg-type]

    def ask(self, method: str, path: str, **request: Any) -> tuple[int, Any]:
        status, body, _ = asyncio.run(self._ask(method, path, **request))
        return status, body

    async def _ask(self, method: str, path: str, **request: Any) -> tuple[int, Any, Any]:
        async with self.client() as client:
            answer = await client.request(method, path, **request)
            return answer.status, None if answer.status == 304 else await answer.json(), answer.headers

    @asynccontextmanager
    async def client(self) -> AsyncIterator[TestClient[Any, Any]]:
        async with AsyncExitStack() as ends:
            if self.there is not None:
                server = await ends.enter_async_context(TestServer(self.there.app()))
                self.router.holder = lambda table, partition: f"http://{server.host}:{server.port}"
                ends.push_async_callback(self.forwarding.close)
                self.forwarding._session = None  # each question has a loop of its own
            yield await ends.enter_async_context(TestClient(TestServer(self.app())))

    def app(self) -> web.Application:
        app = web.Application(middlewares=[as_problems])
        mount(app, self.dispatcher, {**self.api.pages(), **SnapshotReadApi(self.api).pages()})
        return app

    def read(self, *keys: str, **query: str) -> tuple[int, Any]:
        asked = [{"table": "goods", "key": key} for key in keys]
        return self.ask("POST", "/v1/read", json={"keys": asked}, params=query)

    def after(self, *commands: tuple[str, Any]) -> None:
        """Sent to goods one after another, each before another look."""
        self.turns.todo += [lambda key=key, c=command: self.driver.send("goods", key, c) for key, command in commands]


@pytest.fixture
def market() -> Iterator[Market]:
    with TestDriver(MARKET) as driver:
        for key in ("tea", "pot"):
            driver.send("goods", key, Restock(5))
        yield Market(driver)


def gone(rows: list[Any]) -> list[int]:
    return [row["row"]["gone"] for row in rows]


# --- several as one ---------------------------------------------------------------------------------------------------


def two_phases(*keys: str) -> list[tuple[str, Any]]:
    return [*((key, Hold("t", 1)) for key in keys), *((key, Confirm("t")) for key in keys)]


def test_rows_are_read_as_one(market: Market) -> None:
    status, told = market.read("pot", "none", "tea", "pot")
    assert status == 200
    assert [row and (row["table"], row["key"], row["version"]) for row in told["rows"]] == [
        ("goods", "pot", 1),
        None,
        ("goods", "tea", 1),
        ("goods", "pot", 1),
    ]


@pytest.mark.parametrize("keys", [("tea", "pot"), ("pot", "tea")])
def test_it_waits_for_the_other_part(market: Market, keys: tuple[str, str]) -> None:
    for key in ("tea", "pot"):
        market.driver.send("goods", key, Hold("t", 1))
    market.driver.send("goods", "tea", Confirm("t"))
    market.after(("none", Restock(1)), ("pot", Confirm("t")))
    assert gone(market.read(*keys)[1]["rows"]) == [1, 1]


def test_plain_reads_see_a_part(market: Market) -> None:
    tea = market.ask("GET", "/v1/tables/goods/tea")[1]
    for key, command in two_phases("tea", "pot"):
        market.driver.send("goods", key, command)
    assert gone([tea, market.ask("GET", "/v1/tables/goods/pot")[1]]) == [0, 1]


def test_what_is_committed_between_two_looks_is_there_as_a_whole(market: Market) -> None:
    market.after(*two_phases("tea", "pot"))
    assert gone(market.read("tea", "pot")[1]["rows"]) == [1, 1]


def test_what_is_held_all_the_time_cannot_be_read_as_one(market: Market) -> None:
    market.driver.send("goods", "tea", Hold("t", 1))
    status, told = market.read("tea", "pot", wait="0.2")
    assert (status, told["error"]) == (503, "Contended")
    assert "held in goods/tea" in told["detail"]


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ({"keys": []}, 400),
        ({"keys": ["tea"]}, 400),
        ({"keys": [{"table": "goods"}]}, 400),
        ({"keys": [{"table": "goods", "key": ""}]}, 400),
        ({"keys": [{"table": "goods", "key": "tea", "x": 1}]}, 400),
        ([], 400),
    ],
)
def test_keys_that_are_none(market: Market, body: Any, status: int) -> None:
    assert market.ask("POST", "/v1/read", json=body)[0] == status


def test_it_takes_no_other_consistency(market: Market) -> None:
    status, told = market.read("tea", consistency="eventual")
    assert (status, told["error"]) == (400, "BadRequest")
    assert market.ask("POST", "/v1/read", data=b"{}")[0] == 415


def test_rows_that_another_worker_has(market: Market) -> None:
    here = Market(market.driver, market)
    market.driver.send("goods", "tea", Hold("t", 1))
    market.after(("none", Restock(1)), ("tea", Confirm("t")))
    assert gone(here.read("tea", "pot")[1]["rows"]) == [1, 0]
    market.driver.send("goods", "tea", Hold("u", 1))
    assert here.ask("GET", "/v1/tables/goods/tea?pending=hide")[1]["row"]["free"] == 4
    assert here.ask("GET", "/v1/tables/goods/tea?pending=wait&wait=0.1")[0] == 504
    market.after(("none", Restock(1)), ("tea", Release("u")))
    assert here.ask("GET", "/v1/tables/goods/tea?pending=wait")[1]["row"]["free"] == 4


@pytest.mark.parametrize(
    "key", [".", "..", "a/../b", "%2e", "%2F", "a%2Fb", "line\nbreak", "\0", " ", "a?b#c", "{a}", "/", "a/watch", "é"]
)
def test_a_row_is_forwarded_under_every_key(market: Market, key: str) -> None:
    here = Market(market.driver, market)
    market.driver.send("goods", key, Restock(1))
    for path in (ROW.url(table="goods", key=key), AGGREGATE.url(table="goods", key=key)):
        status, told = here.ask("GET", URL(path, encoded=True))  # type: ignore[arg-type]
        assert (status, told["key"]) == (200, key)
    assert here.ask("POST", "/v1/tables/goods/get", json={"keys": [key]})[1]["rows"][0]["key"] == key


def test_who_knows_the_rows_of_another_worker_is_told_so(market: Market) -> None:
    here = Market(market.driver, market)
    for path in ("/v1/tables/goods/tea", "/v1/tables/goods?partition=0"):
        status, _, headers = asyncio.run(here._ask("GET", path))
        assert status == 200
        again = asyncio.run(here._ask("GET", path, headers={"If-None-Match": headers["ETag"]}))
        assert again[0] == 304


# A model of it: participants that move at any time between two looks, and commit in any order.


def schedule(rng: random.Random) -> set[int]:
    """How much is gone of each of the keys, as read while transactions that take one of each are under way."""
    keys = ["a", "b", "c"]
    states = {key: (1, Goods(free=99)) for key in keys}
    looks = 0

    def tell(key: str, command: Any) -> None:
        version, state = states[key]
        for event in GOODS.decide(command, state):  # type: ignore[union-attr]
            version, state = version + 1, GOODS.evolve(state, event)
        states[key] = version, state

    def transaction(name: str) -> Iterator[None]:
        for key in rng.sample(keys, 3):
            tell(key, Hold(name, 1))
            yield
        end = rng.choice([Confirm(name), Confirm(name), Release(name)])
        for key in rng.sample(keys, 3):
            tell(key, end)
            yield

    running = [transaction(f"t{n}") for n in range(rng.randrange(1, 4))]

    async def read(left_s: float) -> Pass:
        nonlocal looks
        rows: dict[tuple[str, str], Any] = {}
        for key in keys:
            looks += 1
            for _ in range(rng.choice([0, 0, 0, 1, 2, 7]) if looks < 30 else 9):
                if running and next(one := rng.choice(running), one) is one:
                    running.remove(one)
            version, state = states[key]
            rows["goods", key] = {"version": version, "row": state, "pending": holds(GOODS, state)}
        return Pass(rows, Token())

    found = asyncio.run(agreed(read, 60.0))
    return {row["row"].gone for row in found.rows.values() if row is not None}


def test_a_part_is_never_seen_without_the_other(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(snapshot_read, "PAUSE_S", 0)
    for seed in range(2_000):
        assert len(schedule(random.Random(seed))) == 1, seed


def test_it_gives_up_in_time() -> None:
    calls = 0

    async def read(left_s: float) -> Pass:
        nonlocal calls
        calls += 1
        await asyncio.sleep(0.01)
        return Pass({("goods", "a"): {"version": calls}}, Token())

    async def slow(left_s: float) -> Pass:
        await asyncio.sleep(left_s)
        return Pass({("goods", "a"): {"version": 1}}, Token())

    with pytest.raises(Contended, match="change all the time"):
        asyncio.run(agreed(read, 0.2))
    assert calls > 3
    with pytest.raises(NotYet, match="twice"):
        asyncio.run(agreed(slow, 0.05))


# --- pending ----------------------------------------------------------------------------------------------------------


def test_what_is_held_is_shown_or_left_out(market: Market) -> None:
    for transaction in ("t", "u"):
        market.driver.send("goods", "tea", Hold(transaction, 1))
    market.driver.send("goods", "tea", Confirm("u"))
    for query in ({}, {"pending": "show"}):
        row = market.ask("GET", "/v1/tables/goods/tea", params=query)[1]
        assert (row["row"]["free"], row["row"]["gone"], row["version"]) == (3, 1, 4)
        assert ([hold["transaction"] for hold in row["row"]["ledger"]["holds"]], row["pending"]) == (["t"], ["t"])
    hidden = market.ask("GET", "/v1/tables/goods/tea?pending=hide")[1]
    assert (hidden["row"]["free"], hidden["row"]["gone"], hidden["version"]) == (4, 1, 4)
    assert (hidden["row"]["ledger"]["holds"], hidden["pending"]) == ([], ["t"])
    assert market.driver.row("goods", "tea").body.ledger.held == 1  # only the answer has let go
    for page in (
        market.ask("GET", "/v1/tables/goods?pending=hide"),
        market.ask("POST", "/v1/tables/goods/get?pending=hide", json={"keys": ["tea"]}),
    ):
        assert hidden in page[1]["rows"]


def test_who_waits_hears_once_nothing_is_held(market: Market) -> None:
    market.driver.send("goods", "tea", Hold("t", 1))
    market.after(("none", Restock(1)), ("tea", Hold("u", 1)), ("tea", Confirm("t")), ("tea", Release("u")))
    status, row = market.ask("GET", "/v1/tables/goods/tea?pending=wait")
    assert (status, row["version"], row["row"]["free"], row["row"]["gone"]) == (200, 5, 4, 1)


def test_who_waits_too_long_hears_for_whom_it_is_held(market: Market) -> None:
    market.driver.send("goods", "tea", Hold("t", 1))
    status, told = market.ask("GET", "/v1/tables/goods/tea?pending=wait&wait=0.1")
    assert (status, told["error"]) == (504, "NotYet")
    assert "something for 't'" in told["detail"]


class NoNear:
    """A near cache that must not be asked."""

    def __getattr__(self, name: str) -> Any:
        raise AssertionError(f"{name}: it keeps rows as they are")


@pytest.mark.parametrize("pending", ["hide", "wait"])
def test_no_near_cache_answers_but_with_what_is_held(pending: str) -> None:
    router: Any = SimpleNamespace(
        topology=MARKET,
        knows=lambda table: True,
        partition=lambda table, key: 0,
        holder=lambda table, partition: "http://there:1",
    )
    near: Any = NoNear()
    steps = Requests(router, 1.0, eventual=False, near=near).get("goods", "tea", pending=pending)
    step = next(steps)
    while isinstance(step, Blocking):
        step = steps.send(step.function())
    assert isinstance(step, HttpCall)
    assert step.query == {"pending": pending}


@pytest.mark.parametrize(
    "path",
    ["goods/tea?pending=x", "goods?pending=wait", "goods/tea?pending=wait&consistency=eventual", "sale/o?pending=hide"],
)
def test_what_cannot_be_pending(market: Market, path: str) -> None:
    assert market.ask("GET", f"/v1/tables/{path}")[0] == 400


def test_what_its_aggregate_does_not_let_go_of_cannot_be_left_out() -> None:
    @dataclass(frozen=True, slots=True)
    class Drop:
        transaction: str
        why: str

    def stubborn(command: Any, goods: Goods) -> Any:
        return Rejected("not_now") if isinstance(command, Release) else decide(command, goods)

    held = StateMessage(1, 0, Goods(1, 0, Ledger().hold("t", 1)))
    for participant, inner, why in (
        (replace(ESCROW, abort=Drop), decide, "missing 1 required positional argument: 'why'"),
        (ESCROW, stubborn, "its abort is rejected, not_now"),
    ):
        topology = replace(MARKET, services={"m": Service("m", [goods(participant.guards(inner))])}, invariants=())
        with pytest.raises(NoSuchConsistency, match=why):
            HeldWork(topology).show("goods", parse_read_options({"pending": "hide"}))("tea", held)


def test_a_participant_may_say_itself_what_is_left() -> None:
    said = replace(ESCROW, without=lambda state: replace(state, free=-1))
    topology = replace(MARKET, services={"m": Service("m", [goods(said.guards(decide))])}, invariants=())
    show = HeldWork(topology).show("goods", parse_read_options({"pending": "hide"}))
    assert show("tea", StateMessage(1, 0, Goods(1, 0, Ledger().hold("t", 1))))["row"]["free"] == -1
    assert show("tea", StateMessage(1, 0, Goods(1, 0)))["row"]["free"] == 1


def test_the_document_has_it_where_something_can_be_held() -> None:
    paths = document(MARKET)["paths"]
    enums = {
        path: [each["schema"]["enum"] for each in paths[path]["get"]["parameters"] if each["name"] == "pending"]
        for path in ("/v1/tables/goods", "/v1/tables/goods/{key}", "/v1/tables/sale/{key}")
    }
    assert list(enums.values()) == [[["show", "hide"]], [["show", "hide", "wait"]], []]
    assert "post" in paths["/v1/read"]
