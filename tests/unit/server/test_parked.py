"""The pages of parked records, and the command that asks them, over a service in memory."""

from __future__ import annotations

import asyncio
import base64
import json
from collections import deque
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer

from pipeline.engine.loop.lane import Lane
from pipeline.server.owner.dispatch import Dispatcher
from pipeline.server.owner.forward import Forwarding
from pipeline.server.pages.parked import ParkedApi
from pipeline.server.reads.local_tables import LocalTables
from pipeline.server.web import as_problems, mount
from pipeline.testing import TestDriver
from pipeline.worker.host import ASKED_MAX, LaneHost
from tests.helpers.by_hand import parked_command
from tests.simulation.worlds import tills as t

PAGE = "/v1/parked/tills/tills.command/0"
WHO = {"by": "anna", "why": "a test"}
Ask = Callable[..., tuple[int, Any]]


class Service:
    """A `Host` whose lane is called at once."""

    def __init__(self, driver: TestDriver, name: str) -> None:
        worker = next(w for w in driver._world.workers if w.plan.service.name == name)
        assert worker.lane is not None
        self.plan, self.lane = worker.plan, worker.lane

    async def ask(self, call: Callable[[Lane], Any]) -> Any:
        return call(self.lane)


@pytest.fixture
def driver() -> Iterator[TestDriver]:
    t.Code.mend(False)
    t.Code.slow = 0
    try:
        with TestDriver(t.TOPOLOGY, partitions=1, park=True) as driver:
            driver.send("tills", "till-1", t.Take(6), t.Take(2))
            driver.send("tills", "till-20", t.Take(6))
            yield driver
    finally:
        t.Code.mend(True)


@pytest.fixture
def ask(driver: TestDriver) -> Ask:
    """Asks a worker of both services."""
    hosts = {name: Service(driver, name) for name in ("tills", "books")}
    router: Any = SimpleNamespace(topology=t.TOPOLOGY, count=lambda topic: 1)
    tables = LocalTables(lambda: {**hosts["tills"].lane.views, **hosts["books"].lane.views})
    dispatcher = Dispatcher(tables, Forwarding(router))
    pages = ParkedApi(hosts, tables, dispatcher).pages()

    async def asked(method: str, path: str, **request: Any) -> tuple[int, Any]:
        app = web.Application(middlewares=[as_problems])
        mount(app, dispatcher, pages)
        async with TestClient(TestServer(app)) as client:
            answer = await client.request(method, path, **request)
            return answer.status, await answer.json()

    return lambda *args, **request: asyncio.run(asked(*args, **request))


def test_keys_are_listed_page_by_page(ask: Ask) -> None:
    status, page = ask("GET", "/v1/parked")
    assert status == 200
    assert [(each["service"], each["topic"], each["key"], each["waiting"]) for each in page["parked"]] == [
        ("tills", "tills.command", "till-1", 2),
        ("tills", "tills.command", "till-20", 1),
    ]
    assert page["parked"][0]["cause"] == "Jammed: 6 does not fit"
    assert page["next"] is None
    _, first = ask("GET", "/v1/parked", params={"limit": "1"})
    _, second = ask("GET", "/v1/parked", params={"limit": "1", "after": first["next"]})
    _, third = ask("GET", "/v1/parked", params={"limit": "1", "after": second["next"]})
    assert [[each["key"] for each in p["parked"]] for p in (first, second, third)] == [["till-1"], ["till-20"], []]
    assert ask("GET", "/v1/parked", params={"service": "books"})[1]["parked"] == []


def test_a_key_is_shown_in_order(ask: Ask) -> None:
    status, told = ask("GET", PAGE, params={"key": "till-1"})
    assert status == 200
    first, second = told["records"]
    assert (first["reason"], second["reason"], second["cause"]) == ("error", "behind", "")
    assert first["traceback"].endswith("Jammed: 6 does not fit\n")
    assert second["record"]["body"] == {"type": "Take", "amount": 2}
    _, rest = ask("GET", PAGE, params={"key_base64": told["key_base64"], "after": "0"})
    assert rest["records"] == [second]


def test_redrives_and_discards_are_answered_once_they_are_committed(ask: Ask, driver: TestDriver) -> None:
    again = ask("POST", f"{PAGE}/redrive", json={"key": "till-1", **WHO})
    assert again == (200, {"done": 0, "left": 2, "cause": "Jammed: 6 does not fit"})
    assert ask("POST", f"{PAGE}/discard", json={"key": "till-1", "offset": 1, **WHO})[0] == 404
    assert ask("POST", f"{PAGE}/discard", json={"key": "till-1", **WHO})[0] == 400, "which record is not said"
    thrown = ask("POST", f"{PAGE}/discard", json={"key": "till-1", "offset": 0, **WHO})
    assert thrown == (200, {"done": 1, "left": 1, "cause": None})
    key = base64.b64encode(b"till-1").decode()
    assert ask("POST", f"{PAGE}/redrive", json={"key_base64": key, **WHO}) == (
        200,
        {"done": 1, "left": 0, "cause": None},
    )
    assert driver.events("tills", "till-1") == [t.Taken(2)]
    every = ask("POST", f"{PAGE}/discard", json={"key": "till-20", "all": True, **WHO})
    assert every == (200, {"done": 1, "left": 0, "cause": None})
    assert driver.parked() == []


@pytest.mark.parametrize(
    ("path", "body", "status"),
    [
        (PAGE, {"key": "nobody", **WHO}, 404),
        (PAGE, {"key": "till-1"}, 400),
        (PAGE, {"key": "till-1", "by": "", "why": "x"}, 400),
        (PAGE, {"key": "till-1", "by": "\ud800", "why": "x"}, 400),
        (PAGE, {"key_base64": "~", **WHO}, 400),
        (PAGE, {"key": "a", "key_base64": "YQ==", **WHO}, 400),
        (PAGE, {"key": "till-1", "limit": 0, **WHO}, 400),
        (PAGE, [], 400),
        ("/v1/parked/tills/tills.command/1", {"key": "till-1", **WHO}, 404),
        ("/v1/parked/tills/tills.command/x", {"key": "till-1", **WHO}, 400),
        ("/v1/parked/tills/books.command/0", {"key": "till-1", **WHO}, 404),
        ("/v1/parked/nobody/tills.command/0", {"key": "till-1", **WHO}, 404),
    ],
)
def test_what_cannot_be_meant_is_refused(ask: Ask, path: str, body: Any, status: int) -> None:
    assert ask("POST", f"{path}/redrive", data=json.dumps(body).encode())[0] == status


# --- by hand ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def run(ask: Ask, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    """Runs `pipeline parked …`."""
    return parked_command(ask, monkeypatch)


def test_the_command_lists_shows_redrives_and_discards(run: Callable[..., Any], driver: TestDriver) -> None:
    listed = run("list")
    assert listed.exit_code == 0, listed.output
    assert "till-20" in listed.output
    assert [json.loads(line)["waiting"] for line in run("list", "--json").output.splitlines()] == [2, 1]
    assert "Jammed: 6 does not fit" in run("show", "--key", "till-1").output
    stopped = run("redrive", "--all", "--why", "a try")
    assert stopped.exit_code == 1
    assert "till-1: 0 redriven, 2 left: Jammed: 6 does not fit" in stopped.output
    thrown = run("discard", "--key", "till-1", "--why", "no use")
    assert (thrown.exit_code, thrown.output) == (0, "till-1: 1 discarded, 1 left\n")
    t.Code.mend(True)
    done = run("redrive", "--service", "tills", "--why", "mended", "--json")
    assert (done.exit_code, [json.loads(line)["done"] for line in done.output.splitlines()]) == (0, [1, 1])
    assert driver.events("tills", "till-20") == [t.Taken(6)]
    assert run("redrive", "--all", "--why", "again").output == "nothing is parked there\n"
    assert run("redrive", "--why", "which").exit_code == 2
    assert run("discard", "--all", "--why", "which").exit_code == 2


@pytest.mark.parametrize("arguments", [["list"], ["list", "--json"], ["show"], ["redrive", "--all", "--why", "back"]])
def test_a_list_without_some_partitions_is_incomplete(monkeypatch: pytest.MonkeyPatch, arguments: list[str]) -> None:
    away = [f"tills tills.command-{n}" for n in range(10)] + ["tills prices.event-0", "books books.command-0"]
    page = {"parked": [], "next": None, "unavailable": away}
    told = parked_command(lambda *_, **__: (200, page), monkeypatch)(*arguments)
    assert (told.exit_code, told.stdout) == (1, "")
    assert told.stderr == (
        "this is incomplete: no worker answers for 11 partitions of tills (tills.command, prices.event); "
        "1 partition of books (books.command); try again soon\n"
    )


# --- the mailbox ------------------------------------------------------------------------------------------------------


def test_so_many_requests_wait_for_a_lane_and_no_more() -> None:
    async def scenario() -> list[str]:
        host = LaneHost.__new__(LaneHost)
        host.plan = SimpleNamespace(service=SimpleNamespace(name="s"))  # type: ignore[assignment]
        host._asked, host._ending = deque(), asyncio.Event()
        asked = [asyncio.ensure_future(host.ask(lambda lane: 1)) for _ in range(ASKED_MAX + 1)]
        await asyncio.sleep(0)
        host._refuse_all()
        host._ending.set()
        asked.append(asyncio.ensure_future(host.ask(lambda lane: 1)))
        return [type(each).__name__ for each in await asyncio.gather(*asked, return_exceptions=True)]

    assert asyncio.run(scenario()) == ["TableUnavailable"] * ASKED_MAX + ["Overloaded", "TableUnavailable"]
