"""The page that lets rows be watched, over a service in memory."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer
from yarl import URL

from pipeline.adapters.avro.codec import codecs
from pipeline.adapters.memory import MemoryKafka, MemoryLogReader
from pipeline.errors import Overloaded, TableUnavailable
from pipeline.flow import Lineage
from pipeline.server.owner.dispatch import Dispatcher
from pipeline.server.owner.forward import Forwarding
from pipeline.server.pages import watch
from pipeline.server.pages.watch import WatchApi
from pipeline.server.reads.consistency import Consistency
from pipeline.server.reads.local_tables import LocalTables
from pipeline.server.watch import subscriptions
from pipeline.server.watch.subscriptions import Subscriptions
from pipeline.server.web import as_problems, mount
from pipeline.testing import TestDriver
from pipeline.topology import Topology
from tests.simulation.worlds import tills as t


class Threaded(MemoryLogReader):
    """Waits on the machine's clock: the world's is another thread's."""

    def __init__(self, kafka: MemoryKafka) -> None:
        super().__init__(kafka, wait=time.sleep)


@pytest.fixture
def driver() -> Iterator[TestDriver]:
    with TestDriver(t.TOPOLOGY, partitions=1) as driver:
        driver.send("tills", "till-1", t.Take(1), t.Take(2))
        yield driver


class Page:
    """The page over a world in memory."""

    def __init__(self, driver: TestDriver, topology: Topology = t.TOPOLOGY) -> None:
        self.driver, kafka = driver, driver._world.kafka
        lineage = Lineage(topology.services.values())
        workers = {worker.plan.service.name: worker for worker in driver._world.workers}

        def views() -> dict[Any, Any]:
            found = {}
            for worker in workers.values():
                assert worker.lane is not None
                for (table, n), view in worker.lane.views.items():
                    if table in lineage.rows:
                        found[table, n] = view._replace(store=worker.stores[f"{lineage.home(table)}-{n}"])
            return found

        router: Any = SimpleNamespace(
            topology=topology, knows=lambda table: True, partition=lambda table, key: 0, workers=lambda service: []
        )
        tables = LocalTables(views)
        offset_source: Any = SimpleNamespace(moved=lambda: None)
        self.hub = Subscriptions(lambda name: Threaded(kafka))
        consistency = Consistency(lineage, tables, offset_source)
        make = codecs(topology.schemas)
        self.dispatcher = Dispatcher(tables, Forwarding(router))
        self.api = WatchApi(self.hub, tables, self.dispatcher, consistency, lineage, make)

    def run(self, scenario: Any) -> None:
        async def running() -> None:
            app = web.Application(middlewares=[as_problems])
            mount(app, self.dispatcher, self.api.pages())
            app.add_routes([web.get("/v1/tables/{table}/{key:.+}", row)])
            async with TestClient(TestServer(app)) as client:
                try:
                    await scenario(client)
                finally:
                    await self.hub.close()

        asyncio.run(running())


async def event(response: Any) -> dict[str, Any]:
    """The next event, with its id and name."""
    found: dict[str, Any] = {}
    while True:
        line = (await asyncio.wait_for(response.content.readline(), 20)).decode().removesuffix("\n")
        if line:
            name, _, value = line.partition(": ")
            found[name] = value
        elif "data" in found:
            return found | json.loads(found.pop("data"))
        elif "id" in found:
            return found
        else:
            found = {}


async def row(request: web.Request) -> web.Response:
    return web.json_response(request.match_info["key"])


def test_keys_are_what_they_are(driver: TestDriver) -> None:
    async def scenario(client: TestClient[Any, Any]) -> None:
        for path, key in (("a%2Fb/watch", "a/b"), ("a%2Fwatch/watch", "a/watch")):
            async with client.get(URL(f"/v1/tables/tills/{path}", encoded=True)) as response:
                assert (await event(response))["key"] == key
        async with client.get(URL("/v1/tables/tills/a%2Fwatch", encoded=True)) as response:
            assert await response.json() == "a/watch"

    Page(driver).run(scenario)


def test_the_page_tells_what_happens(driver: TestDriver, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watch, "HEARTBEAT_S", 0.2)
    page = Page(driver)

    async def scenario(client: TestClient[Any, Any]) -> None:
        async with client.get("/v1/tables/open_tills/till-1/watch") as response:
            first = await event(response)
            assert (first["row"], first["id"]) == ({"total": 3, "taken": 2}, first["position"])
            driver.send("tills", "till-1", t.Take(4))
            second = await event(response)
            assert second["row"] == {"total": 7, "taken": 3}
            driver.send("tills", "till-1", t.Close())
            gone = await event(response)
            assert gone["row"] is None
            driver.send("tills", "till-2", t.Take(1))
            beat = await event(response)
            while beat["id"] == gone["id"]:
                beat = await event(response)
            assert "row" not in beat, "another key: only where to go on is told"
            headers = {"Last-Event-ID": second["id"]}
            async with client.get("/v1/tables/open_tills/till-1/watch", headers=headers) as again:
                assert (await event(again))["id"] == gone["id"]
            async with client.get("/v1/tables/open_tills/till-1/watch", params={"since": ""}) as whole:
                assert [(await event(whole))["row"] for _ in range(3)][-1] is None
            with monkeypatch.context() as few:
                few.setattr(subscriptions, "WATCHERS_MAX", 1)
                assert (await client.get("/v1/tables/tills/till-1/watch")).status == 503
            await page.hub.close()
            ended = await event(response)
            assert (ended["event"], ended["reason"]) == ("end", "closing")
        with pytest.raises(Overloaded, match="stopping"):
            page.hub.check()

    page.run(scenario)


@pytest.mark.parametrize(
    ("path", "status", "error"),
    [
        ("tills/till-1/watch?from=1", 400, "BadRequest"),
        ("tills/till-1/watch?since=x", 400, "InvalidToken"),
        ("tills/till-1/watch?since=tills.state/0@999&wait=0.1", 504, "NotYet"),
        ("seen/till-1/watch", 400, "BadRequest"),
        ("nothing/till-1/watch", 404, "UnknownTable"),
    ],
)
def test_what_cannot_be_watched(driver: TestDriver, path: str, status: int, error: str) -> None:
    async def scenario(client: TestClient[Any, Any]) -> None:
        async with client.get(f"/v1/tables/{path}") as response:
            assert (response.status, (await response.json())["error"]) == (status, error)

    Page(driver).run(scenario)


def test_a_reader_that_breaks_ends_the_streams_and_others_can_begin(
    driver: TestDriver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(subscriptions, "PAUSE_S", 0.01)
    page = Page(driver)
    broken = iter([True])

    def poll(reader: Threaded, count: int, timeout_s: float) -> Any:
        if next(broken, False):
            raise TableUnavailable("no broker")
        return MemoryLogReader.poll(reader, count, timeout_s)

    monkeypatch.setattr(Threaded, "poll", poll, raising=False)

    async def scenario(client: TestClient[Any, Any]) -> None:
        async with client.get("/v1/tables/tills/till-1/watch") as response:
            assert (await event(response))["version"] == 2
            assert (await event(response))["reason"] == "broken"
        async with client.get("/v1/tables/tills/till-1/watch") as response:
            assert (await event(response))["version"] == 2
            driver.send("tills", "till-1", t.Take(1))
            assert (await event(response))["version"] == 3

    page.run(scenario)
