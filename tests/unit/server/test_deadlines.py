"""The pages about time: what is still to come, and when a scheduled command is due."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any
from urllib.parse import quote

import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer
from yarl import URL

from pipeline.client.commands import Commands
from pipeline.model.records.partitioning import partition_of
from pipeline.server.owner.dispatch import Dispatcher
from pipeline.server.owner.forward import Forwarding
from pipeline.server.pages.commands import CommandApi
from pipeline.server.pages.deadlines import SHOWN_MAX, DeadlineApi
from pipeline.server.reads.local_tables import LocalTables
from pipeline.server.web import as_problems, mount
from pipeline.testing import TestDriver
from tests.simulation.worlds import tills as t


class Recorder:
    """Stands for the client, and keeps what it is given."""

    def __init__(self) -> None:
        self.commands = Commands(t.TOPOLOGY)
        self.stored: list[dict[str, Any]] = []

    async def store(self, aggregate: str, key: str, command: Any, **options: Any) -> tuple[str, str]:
        self.stored.append(options)
        return "c1", "tills.command/0/1"

    async def send(self, aggregate: str, key: str, command: Any, **options: Any) -> Any:
        raise AssertionError("it was waited for")


@pytest.fixture
def driver() -> Iterator[TestDriver]:
    with TestDriver(t.TOPOLOGY) as made:
        yield made


def tables(driver: TestDriver) -> LocalTables:
    (worker,) = (w for w in driver._world.workers if w.plan.service.name == "tills")
    assert worker.lane is not None
    views = worker.lane.views
    return LocalTables(lambda: views)


def ask(driver: TestDriver, method: str, path: str, body: Any = None, client: Any = None) -> tuple[int, Any]:
    """Asks a worker that holds all partitions."""
    router: Any = SimpleNamespace(
        topology=t.TOPOLOGY, knows=lambda table: True, partition=lambda table, key: partition_of(key.encode(), 2)
    )
    here = tables(driver)
    dispatcher = Dispatcher(here, Forwarding(router))
    pages = DeadlineApi({"tills": driver._oracle.codec["tills.command"]}, here, t.TOPOLOGY).pages()
    commands = CommandApi(lambda: client, here, dispatcher, None).pages()

    async def asked() -> tuple[int, Any]:
        app = web.Application(middlewares=[as_problems])
        mount(app, dispatcher, {**pages, **commands})
        async with TestClient(TestServer(app)) as session:
            answer = await session.request(method, URL(path, encoded=True), json=body)
            return answer.status, await answer.json()

    return asyncio.run(asked())


def deadlines(driver: TestDriver, key: str, aggregate: str = "tills") -> tuple[int, Any]:
    return ask(driver, "GET", f"/v1/deadlines/{aggregate}/{quote(key)}")


def test_what_is_to_come_is_shown_in_order_of_time(driver: TestDriver) -> None:
    key = "till é"
    driver.send_unseen("tills", key, t.Take(3), at_ms=driver.now_ms + 3_000)
    driver.send("tills", key, t.Take(6), t.Take(8))
    driver.send("tills", "another", t.Take(6))
    status, told = deadlines(driver, key)
    assert (status, told["aggregate"], told["key"], told["complete"]) == (200, "tills", key, True)
    assert [(each["kind"], each["name"], each["command"]) for each in told["deadlines"]] == [
        ("deadline", "close", {"type": "Close"}),
        ("scheduled", "command-1", {"type": "Take", "amount": 3}),
        ("deadline", "more", {"type": "Take", "amount": 2}),
    ]
    dues = [each["due_ms"] - driver.now_ms for each in told["deadlines"]]
    assert dues == sorted(dues)
    assert deadlines(driver, "nobody") == (200, {**told, "key": "nobody", "deadlines": []})


def test_no_more_than_a_thousand_are_shown(driver: TestDriver) -> None:
    for _ in range(SHOWN_MAX + 1):
        driver.send_unseen("tills", "till-1", t.Take(3), at_ms=driver.now_ms + 9_000_000)
    driver.advance(60)
    _, told = deadlines(driver, "till-1")
    assert (len(told["deadlines"]), told["complete"]) == (SHOWN_MAX, False)


def test_what_has_no_deadlines_says_so(driver: TestDriver) -> None:
    status, told = deadlines(driver, "till-1", "open_tills")
    assert (status, told["error"]) == (404, "NoDeadlines")


def test_a_path_that_is_not_utf_8_is_refused(driver: TestDriver) -> None:
    assert ask(driver, "GET", "/v1/deadlines/tills/%ff")[0] == 400
    assert ask(driver, "GET", "/v1/commands/tills/%ff/1")[0] == 422


def test_a_scheduled_command_is_stored_and_not_waited_for(driver: TestDriver) -> None:
    client = Recorder()
    path = "/v1/commands/tills/till-1?at=2126-12-01T12:00:00Z"
    told = ask(driver, "POST", path, {"type": "Take", "amount": 3}, client)
    due_ms = int(datetime(2126, 12, 1, 12, tzinfo=UTC).timestamp()) * 1000
    assert told == (202, {"command_id": "c1", "position": "tills.command/0/1", "due_ms": due_ms})
    assert client.stored == [{"expected_version": None, "at": due_ms}]


def test_the_outcome_of_a_scheduled_command_is_still_to_come(driver: TestDriver) -> None:
    due_ms = driver.now_ms + 9_000
    driver.send_unseen("tills", "till-1", t.Take(3), at_ms=due_ms)
    driver.advance(0.5)
    client, path = Recorder(), "/v1/commands/tills/till-1"
    status, told = ask(driver, "GET", f"{path}/command-1", client=client)
    assert (status, told["due_ms"]) == (202, due_ms)
    assert ask(driver, "GET", f"{path}/x", client=client)[0] == 404
    driver.advance(10)
    status, told = ask(driver, "GET", f"{path}/command-1", client=client)
    assert (status, told["outcome"], told["version"]) == (200, "accepted", 1)
