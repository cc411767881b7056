"""The pages of sagas, over a market in memory whose goods do not answer."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer

from pipeline.client import Accepted
from pipeline.errors import TableUnavailable
from pipeline.model import Intervention, Rejected, Token
from pipeline.model.records.partitioning import partition_of
from pipeline.server.endpoint import Reply
from pipeline.server.openapi import document
from pipeline.server.owner.dispatch import Dispatcher
from pipeline.server.owner.forward import Forwarding
from pipeline.server.pages.commands import CommandApi
from pipeline.server.pages.sagas import SagaApi
from pipeline.server.reads.local_tables import LocalTables
from pipeline.server.web import as_problems, mount
from pipeline.testing import TestDriver
from tests.helpers.market import MARKET, Buy, Move, Restock
from tests.simulation.sagas.test_sagas import answers_to_sagas_are_not_sent

WHO = {"by": "eve", "why": "nobody is there"}


class Sender:
    """A client whose commands are decided at once."""

    def __init__(self, driver: TestDriver) -> None:
        self.driver, self.sent = driver, 0

    async def send(self, aggregate: str, key: str, command: Any, **options: Any) -> Accepted | Rejected:
        self.sent += 1
        row = self.driver.row(aggregate, key)
        decided = MARKET.sagas[aggregate].decide(command, MARKET.sagas[aggregate].initial if row is None else row.body)
        if isinstance(decided, Rejected):
            return decided
        self.driver.send(aggregate, key, command)
        return Accepted(self.driver.row(aggregate, key).version, (command,), Token(), True)


class Pages:
    """Those of a worker that has all partitions but those `elsewhere`."""

    def __init__(self, driver: TestDriver) -> None:
        self.driver, self.sender = driver, Sender(driver)
        self.elsewhere: dict[int, Pages | None] = {}  # partition -> who has it
        topology = MARKET
        router: Any = SimpleNamespace(
            topology=topology,
            knows=lambda table: True,
            partition=lambda table, key: partition_of(key.encode(), 2),
            partitions=lambda table: 2,
            holder=lambda table, partition: "",
        )
        lanes = [worker.lane for worker in driver._world.workers]
        views = {place: view for lane in lanes if lane for place, view in lane.views.items()}
        tables = LocalTables(lambda: {place: view for place, view in views.items() if place[1] not in self.elsewhere})
        forwarding = Forwarding(router)
        forwarding.ask = self._ask  # type: ignore[method-assign]
        self.dispatcher = Dispatcher(tables, forwarding)
        commands = CommandApi(lambda: self.sender, tables, self.dispatcher, None)  # type: ignore[arg-type, return-value]
        self.api = SagaApi(tables, self.dispatcher, commands)

    async def _ask(self, asked: Any, what: str, owner: Any, path: str, query: Any, *_: Any, **__: Any) -> Reply:
        holder = self.elsewhere[int(what.split()[1])]
        if holder is None:
            raise TableUnavailable(f"{what} moves")
        return Reply(*await holder.asked("GET", path, params=query))

    async def asked(self, method: str, path: str, **request: Any) -> tuple[int, Any]:
        app = web.Application(middlewares=[as_problems])
        mount(app, self.dispatcher, self.api.pages())
        async with TestClient(TestServer(app)) as client:
            answer = await client.request(method, path, **request)
            return answer.status, await answer.json()

    def ask(self, method: str, path: str, **request: Any) -> tuple[int, Any]:
        return asyncio.run(self.asked(method, path, **request))

    def keys(self, path: str, **query: str) -> list[str]:
        status, page = self.ask("GET", path, params=query)
        assert status == 200, page
        return [f"{each['saga']}/{each['key']}" for each in page["sagas"]]


@pytest.fixture
def pages(monkeypatch: pytest.MonkeyPatch) -> Iterator[Pages]:
    with TestDriver(MARKET) as driver:
        for key in ("tea", "pot", "purse", "a"):
            driver.send("goods", key, Restock(9))
        driver.send("sale", "o0", Buy("o0", 1, 1))
        answers_to_sagas_are_not_sent(monkeypatch)
        for key in ("o1", "o2"):
            driver.send("sale", key, Buy(key, 1, 1))
        driver.send("move", "m1", Move("m1", 1, ("a",)))
        yield Pages(driver)


def test_instances_are_listed_by_where_they_stand(pages: Pages) -> None:
    assert pages.keys("/v1/sagas") == ["move/m1", "sale/o1", "sale/o2"]
    assert pages.keys("/v1/sagas", state="done") == ["sale/o0"]
    assert pages.keys("/v1/sagas", state="done,running") == ["move/m1", "sale/o0", "sale/o1", "sale/o2"]
    assert pages.keys("/v1/sagas/sale") == ["sale/o1", "sale/o2"]
    assert pages.keys("/v1/sagas/sale", state="stuck") == []
    move, sale = (pages.ask("GET", f"/v1/sagas/{name}")[1]["sagas"][0] for name in ("move", "sale"))
    assert (move["step"], move["waits_for"], move["blocks"]) == ("voting", ["prepare-1.0"], ["goods/a"])
    assert (sale["status"], sale["step"], sale["waits_for"]) == ("running", "reserve", ["reserve.0", "reserve.1"])


def test_page_by_page(pages: Pages) -> None:
    found: list[str] = []
    after = ""
    while after is not None:
        _, page = pages.ask("GET", "/v1/sagas", params={"limit": "1", "after": after, "state": "done,running"})
        found += [each["key"] for each in page["sagas"]]
        after = page["next"]
    assert found == ["m1", "o0", "o1", "o2"]


def test_partitions_of_others_are_asked_for(pages: Pages) -> None:
    there = Pages(pages.driver)
    pages.elsewhere = {1: there}
    assert pages.keys("/v1/sagas") == ["move/m1", "sale/o1", "sale/o2"]
    assert pages.keys("/v1/sagas/sale", limit="1", after="sale/o1") == ["sale/o2"]
    for key in ("o1", "o2"):
        assert pages.ask("GET", f"/v1/sagas/sale/{key}")[1]["key"] == key
    pages.elsewhere = {0: None, 1: there}
    assert pages.ask("GET", "/v1/sagas")[1]["unavailable"] == ["move-0", "sale-0"]
    assert pages.ask("GET", "/v1/sagas/sale")[0] == 503


def test_one_is_shown_with_its_state(pages: Pages) -> None:
    status, told = pages.ask("GET", "/v1/sagas/sale/o1")
    assert status == 200
    assert (told["status"], told["state"]["tea"], told["version"]) == ("running", 1, 2)
    assert pages.ask("GET", "/v1/sagas/sale/none")[0] == 404
    assert pages.ask("GET", "/v1/sagas/none/o1")[0] == 404


def test_a_person_acts_with_name_and_reason(pages: Pages) -> None:
    status, told = pages.ask("POST", "/v1/sagas/sale/o1/abort", json=WHO)
    assert (status, told["outcome"]) == (200, "accepted")
    assert pages.ask("GET", "/v1/sagas/sale/o1")[1]["status"] == "compensating"
    assert Intervention("abort", "eve", "nobody is there") in pages.driver.events("sale", "o1")
    status, told = pages.ask("POST", "/v1/sagas/sale/o1/abort", json=WHO)
    assert (status, told["error"], told["reason"]) == (409, "Rejected", "already_compensating")
    assert pages.ask("POST", "/v1/sagas/move/m1/skip", json=WHO)[1]["reason"] == "unknown_action"
    assert pages.ask("POST", "/v1/sagas/move/m1/commit", json=WHO)[1]["reason"] == "votes_are_missing"


@pytest.mark.parametrize("body", [{}, {"by": "eve"}, {"by": "eve", "why": ""}, {**WHO, "action": "skip"}, []])
def test_nobody_acts_without(pages: Pages, body: Any) -> None:
    assert pages.ask("POST", "/v1/sagas/sale/o1/abort", json=body)[0] == 400
    assert pages.ask("POST", "/v1/sagas/sale/o1/abort", data=b"{}")[0] == 415
    assert pages.sender.sent == 0


def test_an_odd_question(pages: Pages) -> None:
    assert pages.ask("GET", "/v1/sagas?state=x")[0] == 400
    assert pages.ask("GET", "/v1/sagas?limit=0")[0] == 400


def test_the_document_has_each_saga_and_what_may_be_asked_of_it() -> None:
    paths = document(MARKET)["paths"]
    assert {path.rpartition("/")[2] for path in paths if path.startswith("/v1/sagas/sale/{key}/")} == {
        "retry",
        "skip",
        "abort",
    }
    assert "/v1/sagas/move/{key}/commit" in paths


def test_the_document_has_the_commands_of_sagas() -> None:
    paths = document(MARKET)["paths"]
    for service in MARKET.services.values():
        for aggregate in service.addressed:
            assert aggregate in service.owned  # one value, not another at every access
            assert f"/v1/commands/{aggregate.name}/{{key}}" in paths
            assert f"/v1/commands/{aggregate.name}/{{key}}/{{id}}" in paths
