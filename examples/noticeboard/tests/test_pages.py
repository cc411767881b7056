"""The pages without Kafka: the clients' dependencies are replaced with a world in memory that runs the services."""

import asyncio
from collections.abc import Callable, Coroutine, Iterator
from typing import Any

import httpx
import pytest

from pipeline import Accepted, Aggregate, Projection, Rejected, Row, Token, load_topology
from pipeline.contrib.fastapi import get_commands, get_queries
from pipeline.errors import UnknownKey
from pipeline.testing import TestDriver
from web.app import app

Visit = Callable[[httpx.AsyncClient], Coroutine[Any, Any, None]]


class InMemory:
    """As much of both clients as the pages use."""

    def __init__(self, driver: TestDriver) -> None:
        self._driver = driver

    async def send(self, of: Aggregate[Any, Any, Any], key: str, command: object, **__: object) -> Accepted | Rejected:
        self._driver.send(of.name, key, command)
        _, reply = self._driver.records(f"{of.name}.replies")[-1]
        if isinstance(reply.body, Rejected):
            return reply.body
        events = self._driver.events(of.name, key)
        return Accepted(len(events), tuple(events[-reply.body.count :]), Token())

    async def get(self, of: Projection[Any, Any], key: str) -> Row[Any]:
        if (row := self._driver.row(of.name, key)) is None:
            raise UnknownKey(f"no row {key!r}")
        return Row(key, row)


@pytest.fixture
def visit() -> Iterator[Callable[[Visit], None]]:
    """Runs what a visitor does, in this thread: so does the world in memory."""

    async def run(pages: Visit) -> None:
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://test") as browser:
            await pages(browser)

    with TestDriver(load_topology("noticeboard"), partitions=1) as driver:
        clients = InMemory(driver)
        app.dependency_overrides = {get_commands: lambda: clients, get_queries: lambda: clients}
        yield lambda pages: asyncio.run(run(pages))
    app.dependency_overrides = {}


def test_a_notice_is_shown_and_removed(visit: Callable[[Visit], None]) -> None:
    async def pages(browser: httpx.AsyncClient) -> None:
        assert (await browser.get("/boards/hall/notices")).json() == {"notices": []}
        posted = await browser.post("/boards/hall/notices", json={"author": "anna", "text": "a lamp"})
        assert (posted.status_code, posted.json()) == (201, {"number": 1})
        shown = {"number": 1, "author": "anna", "text": "a lamp"}
        assert (await browser.get("/boards/hall/notices")).json() == {"notices": [shown]}
        assert (await browser.get("/authors/anna")).json() == {"notices": 1, "last_board": "hall"}
        assert (await browser.delete("/boards/hall/notices/1")).status_code == 204
        assert (await browser.get("/boards/hall/notices")).json() == {"notices": []}

    visit(pages)


def test_a_rejection_is_a_problem_document(visit: Callable[[Visit], None]) -> None:
    async def pages(browser: httpx.AsyncClient) -> None:
        empty = await browser.post("/boards/hall/notices", json={"author": "anna", "text": ""})
        assert (empty.status_code, empty.json()["reason"]) == (409, "empty")
        assert (await browser.delete("/boards/hall/notices/7")).json()["reason"] == "no_such_notice"
        assert (await browser.get("/authors/nobody")).status_code == 404

    visit(pages)
