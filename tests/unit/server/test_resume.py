"""A held service and a replica that holds keys, over HTTP and by hand: two workers of each service."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from types import SimpleNamespace
from typing import Any

import pytest
from aiohttp import ClientSession, web
from aiohttp.test_utils import TestServer

from pipeline import Replica, Service
from pipeline.engine.ports import TP
from pipeline.errors import CopyHeld
from pipeline.server.owner.dispatch import Dispatcher
from pipeline.server.owner.forward import Forwarding
from pipeline.server.pages.parked import ParkedApi
from pipeline.server.pages.resume import ResumeApi
from pipeline.server.reads.local_tables import LocalTables, Range
from pipeline.server.web import as_problems, mount
from pipeline.testing import TestDriver
from pipeline.topology import Topology
from tests.helpers.by_hand import parked_command
from tests.simulation.worlds import rates
from tests.simulation.worlds.rates import UNFIT, Code, DropRate, Sell, SetRate

WHO = {"by": "anna", "why": "a test"}
Ask = Callable[..., tuple[int, Any]]
COPY = "/v1/parked/sales/known_rates/0"


class Host:
    """A worker's host, whose lane is called at once."""

    def __init__(self, worker: Any) -> None:
        self.plan, self.lane = worker.plan, worker.lane

    async def ask(self, call: Callable[[Any], Any]) -> Any:
        return call(self.lane)


@pytest.fixture
def driver() -> Iterator[TestDriver]:
    """Sales that are held after three that raise, and whose copy raises on one rate."""
    sales = replace(rates.TOPOLOGY.services["sales"], raising_at_least=3)
    topology = replace(rates.TOPOLOGY, services={**rates.TOPOLOGY.services, "sales": sales})
    Code.mend(False)
    try:
        with TestDriver(topology, partitions=1, park=True) as driver:
            yield driver
    finally:
        Code.mend(True)


def lane(driver: TestDriver) -> Any:
    return next(w.lane for w in driver._world.workers if w.plan.service.name == "sales")


def tables(driver: TestDriver) -> LocalTables:
    return LocalTables(lambda: {at: view for w in driver._world.workers for at, view in w.lane.views.items()})


@pytest.fixture
def ask(driver: TestDriver) -> Ask:
    """Asks a worker; workers are found at the addresses in `driver.urls`."""

    async def asked(method: str, path: str, **request: Any) -> tuple[int, Any]:
        hosts = {w.plan.service.name: Host(w) for w in driver._world.workers}
        urls: dict[str, list[str]] = {name: [] for name in hosts}
        router: Any = SimpleNamespace(
            topology=driver._oracle.topology,
            count=lambda topic: 1,
            workers=lambda name: urls[name],
            forget_all=lambda: None,
        )
        forwarding = Forwarding(router)
        dispatcher = Dispatcher(tables(driver), forwarding)
        app = web.Application(middlewares=[as_problems])
        pages = {**ParkedApi(hosts, tables(driver), dispatcher).pages(), **ResumeApi(hosts, dispatcher).pages()}
        mount(app, dispatcher, pages)
        async with TestServer(app) as server:
            urls["sales"].append(str(server.make_url("")).rstrip("/"))
            if request.pop("dead_worker", False):
                urls["sales"].append("http://127.0.0.1:9")
            async with ClientSession() as session, session.request(method, server.make_url(path), **request) as r:
                found = r.status, await r.json()
            await forwarding.close()
            return found

    return lambda *args, **request: asyncio.run(asked(*args, **request))


def jam(driver: TestDriver, count: int = 3) -> None:
    driver.send("rates", "lira", SetRate(rates.JAMMED))
    for n in range(count):
        driver.send_unseen("sales", f"shop-{n}", Sell(1, ("lira",)))
    driver.advance(3)


# --- a service that is held -------------------------------------------------------------------------------------------


def test_it_is_resumed_at_all_its_workers(ask: Ask, driver: TestDriver) -> None:
    jam(driver)
    assert lane(driver).stats.held
    assert [each["key"] for each in ask("GET", "/v1/parked")[1]["parked"]] == ["shop-0", "shop-1", "shop-2"]
    Code.mend(True)
    status, told = ask("POST", "/v1/services/sales/resume", json=WHO)
    assert (status, [each["resumed"] for each in told["workers"]], told["unavailable"]) == (200, [True], [])
    assert not lane(driver).stats.held
    assert ask("POST", "/v1/services/sales/resume", json=WHO)[1]["workers"][0]["resumed"] is False


def test_it_is_paused_at_all_its_workers_and_says_so(ask: Ask, driver: TestDriver) -> None:
    Code.mend(True)
    driver.send("rates", "lira", SetRate(2))
    driver.send("sales", "shop-0", Sell(1, ("lira",)))
    folded = lane(driver).stats.commands
    status, told = ask("POST", "/v1/services/sales/pause", json=WHO)
    assert (status, [(each["paused"], each["newly"]) for each in told["workers"]]) == (200, [(1, 1)])
    assert ask("POST", "/v1/services/sales/pause", json=WHO)[1]["workers"][0]["newly"] == 0
    driver.send_unseen("sales", "shop-1", Sell(1, ("lira",)))
    driver.advance(3)
    assert (lane(driver).stats.commands, lane(driver).stats.paused) == (folded, 1)
    assert lane(driver).stats.paused_why.startswith("sales is paused, by anna: ")
    assert lane(driver).stats.paused_why.endswith("; go on with: pipeline resume sales")
    assert ask("POST", "/v1/services/sales/resume", json=WHO)[1]["workers"][0]["resumed"] is True
    driver.advance(3)
    assert (lane(driver).stats.commands, lane(driver).stats.paused) == (folded + 1, 0)
    assert ask("POST", "/v1/services/sales/resume", json=WHO)[1]["workers"][0]["resumed"] is False


def test_a_worker_that_does_not_answer_is_named(ask: Ask, driver: TestDriver) -> None:
    jam(driver)
    status, told = ask("POST", "/v1/services/sales/resume", json=WHO, dead_worker=True)
    assert (status, len(told["workers"])) == (200, 1)
    assert "127.0.0.1:9" in told["unavailable"][0]


@pytest.mark.parametrize(
    ("path", "body", "status"),
    [
        ("/v1/services/nobody/resume", WHO, 404),
        ("/v1/services/nobody/pause", WHO, 404),
        ("/v1/services/sales/pause", {"why": "x"}, 400),
        ("/v1/services/sales/resume", {"by": "anna"}, 400),
        ("/v1/services/sales/resume", [], 400),
        ("/v1/services/rates/resume", WHO, 503),  # none of its workers is there
    ],
)
def test_what_cannot_be_meant_is_refused(ask: Ask, path: str, body: Any, status: int) -> None:
    assert ask("POST", path, json=body)[0] == status


# --- a replica that holds a key ---------------------------------------------------------------------------------------


def hold(driver: TestDriver) -> None:
    driver.send("rates", "franc", SetRate(3))
    driver.send("rates", "mark", SetRate(2), SetRate(UNFIT), SetRate(4))
    driver.send("rates", "pound", SetRate(UNFIT))


def test_reads_say_that_the_row_lacks_events_and_those_of_other_keys_go_on(driver: TestDriver) -> None:
    hold(driver)
    driver.send("rates", "franc", SetRate(5))
    local = tables(driver)
    assert local.get("known_rates", 0, "franc") == {"key": "franc", "row": {"rate": 5}}
    for key in ("mark", "pound"):
        with pytest.raises(CopyHeld, match=rf"'known_rates' holds the key '{key}'.*offset \d+: ValueError: 7 does not"):
            local.read("known_rates", 0, key)
    for wanted in (Range(), Range(prefix="m"), Range(start="n"), Range(after="mark"), Range(to="marks")):
        with pytest.raises(CopyHeld):
            local.scan("known_rates", 0, wanted)
    assert [row["key"] for row in local.scan("known_rates", 0, Range(to="mark"))] == ["franc"]
    assert [row["key"] for row in local.scan("known_rates", 0, Range(limit=1))] == ["franc"]
    assert local.scan("known_rates", 0, Range(start="mark", after="pound")) == []


def test_a_decision_that_reads_it_is_parked_and_others_are_made(driver: TestDriver) -> None:
    hold(driver)
    for n in range(5):
        driver.send("sales", f"shop-{n}", Sell(1, ("mark",)))
    driver.send("sales", "kiosk", Sell(2, ("franc",)))
    assert [key for _, key, _ in driver.parked()] == [f"shop-{n}" for n in range(5)]
    assert [message.body.amount for _, message in driver.records("sales.event")] == [6]
    assert not lane(driver).stats.held, "the code of the step is not at fault"
    Code.mend(True)
    driver.resume()
    driver.redrive()
    assert sorted(message.body.amount for _, message in driver.records("sales.event")) == [4, 4, 4, 4, 4, 6]


def test_it_is_listed_shown_and_redriven(ask: Ask, driver: TestDriver) -> None:
    hold(driver)
    listed = ask("GET", "/v1/parked", params={"service": "sales"})[1]["parked"]
    assert [(each["topic"], each["key"], each["waiting"]) for each in listed] == [
        ("known_rates", "mark", 2),
        ("known_rates", "pound", 1),
    ]
    shown = ask("GET", COPY, params={"key": "mark"})[1]["records"]
    assert [each["record"]["body"]["rate"] for each in shown] == [UNFIT, 4]
    assert shown[0]["cause"] == "ValueError: 7 does not fit"
    again = ask("POST", f"{COPY}/redrive", json={"key": "mark", **WHO})
    assert again == (200, {"done": 0, "left": 2, "cause": "ValueError: 7 does not fit"})
    refused = ask("POST", f"{COPY}/discard", json={"key": "mark", "offset": 1, **WHO})
    assert (refused[0], "has happened" in refused[1]["detail"]) == (400, True)
    Code.mend(True)
    assert ask("POST", f"{COPY}/redrive", json={"key": "mark", **WHO})[1] == {"done": 2, "left": 0, "cause": None}
    assert ask("POST", f"{COPY}/redrive", json={"key": "mark", **WHO})[0] == 404
    assert tables(driver).get("known_rates", 0, "mark") == {"key": "mark", "row": {"rate": 4}}
    assert lane(driver).stats.replica_keys == {"known_rates": 1}


def test_a_resume_frees_what_it_can(ask: Ask, driver: TestDriver) -> None:
    hold(driver)
    (still,) = ask("POST", "/v1/services/sales/resume", json=WHO)[1]["workers"]
    assert (still["resumed"], still["freed"], still["left"]) == (False, 0, 2)
    assert "'mark'" in still["cause"]
    Code.mend(True)
    (done,) = ask("POST", "/v1/services/sales/resume", json=WHO)[1]["workers"]
    assert (done["freed"], done["left"], done["cause"]) == (2, 0, None)
    assert driver.rows("known_rates").keys() == {"franc", "mark", "pound"}


def test_a_restart_with_mended_code_goes_on_by_itself(driver: TestDriver) -> None:
    hold(driver)
    worker = next(w for w in driver._world.workers if w.plan.service.name == "sales")

    def restart() -> None:
        worker.stopping = True
        driver._world.make_ready(worker)
        driver.advance(30)

    restart()
    assert worker.stats.replica_keys == {"known_rates": 2}
    driver.send("rates", "mark", DropRate(), SetRate(6))
    Code.mend(True)
    restart()
    assert worker.stats.replica_keys == {"known_rates": 0}
    assert {key: row.rate for key, row in driver.rows("known_rates").items()} == {"franc": 3, "mark": 6, "pound": 7}


# --- by hand ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def run(ask: Ask, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    """Runs `pipeline parked …`, `pipeline resume …`."""
    return parked_command(ask, monkeypatch)


def test_the_command_says_what_came_of_it(run: Callable[..., Any], driver: TestDriver) -> None:
    hold(driver)
    jam(driver)
    still = run("resume", "sales", "--why", "a try")
    assert still.exit_code == 1
    assert "goes on, 2 keys of replicas still wait: the copy 'known_rates' holds the key 'mark'" in still.output
    Code.mend(True)
    assert "pound: 1 redriven" in run("redrive", "--key", "pound", "--why", "mended").output
    done = run("resume", "sales", "--why", "mended", "--json")
    assert (done.exit_code, json.loads(done.output)["workers"][0]["freed"]) == (0, 1)
    again = run("resume", "sales", "--why", "mended")
    assert (again.exit_code, "was neither held nor paused" in again.output) == (0, True)
    assert run("resume", "--why", "which").exit_code == 2


def test_a_pause_says_which_partitions_it_has_not_reached(
    ask: Ask, driver: TestDriver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pipeline.cli.operate.pause.PATIENCE_S", 0.0)
    here, there = TP("sales.command", 0), TP("sales.command", 1)
    run = parked_command(ask, monkeypatch, lambda *_: ([here], [there]))
    partly = run("pause", "sales", "--why", "a try")
    assert partly.exit_code == 1
    assert "sales is paused: 1 partitions of commands wait; go on with: pipeline resume sales" in partly.output
    assert "not paused, as no worker folds them just now: sales.command/1; ask again" in partly.output
    again = run("resume", "sales", "--why", "over")
    assert again.exit_code == 1
    assert "still paused, as no worker folds them just now: sales.command/0" in again.output
    assert lane(driver).stats.paused == 0


# --- odd ways to raise ------------------------------------------------------------------------------------------------


@dataclass(slots=True)
class KnownRate:
    """A row that can be changed in place."""

    rate: int = 0


def spoils(row: KnownRate, event: Any) -> KnownRate:
    if event.rate == UNFIT and not Code.mended:
        row.rate = 1_000
        raise ValueError
    return KnownRate(row.rate + event.rate)


def leaves(row: Any, event: Any) -> Any:
    if event.rate == UNFIT and not Code.mended:
        raise SystemExit(3)
    return KnownRate(row.rate + event.rate)


def returns_nonsense(row: Any, event: Any) -> Any:
    return object() if event.rate == UNFIT and not Code.mended else KnownRate(row.rate + event.rate)


def returns_what_does_not_fit(row: Any, event: Any) -> Any:
    return KnownRate("much" if event.rate == UNFIT and not Code.mended else row.rate + event.rate)  # type: ignore[arg-type]


@pytest.mark.parametrize("evolve", [spoils, leaves, returns_nonsense, returns_what_does_not_fit])
def test_however_it_raises_the_row_is_that_of_before_and_in_the_end_it_has_all(evolve: Any) -> None:
    known = Replica("known_rates", rates.known_rates.source, KnownRate(), evolve)
    services = {"rates": rates.TOPOLOGY.services["rates"], "sales": Service("sales", replicas=[known])}
    Code.mend(False)
    try:
        with TestDriver(Topology("odd", services, rates.SCHEMAS), partitions=1, park=True) as driver:
            for rate in (1, 2, UNFIT, 3):
                driver.send_unseen("rates", "mark", SetRate(rate))
                driver.send_unseen("rates", "franc", SetRate(2))
            driver.advance(5)
            assert {key: row.rate for key, row in driver.rows("known_rates").items()} == {"franc": 8, "mark": 3}
            with pytest.raises(CopyHeld):
                tables(driver).get("known_rates", 0, "mark")
            Code.mend(True)
            driver.resume()
            assert {key: row.rate for key, row in driver.rows("known_rates").items()} == {"franc": 8, "mark": 13}
    finally:
        Code.mend(True)


def test_a_long_queue_is_folded_on_in_parts(driver: TestDriver) -> None:
    hold(driver)
    driver.send_unseen("rates", "mark", *[SetRate(1 + n % 6) for n in range(500)])
    driver.advance(60)
    Code.mend(True)
    driver.resume()
    assert driver.row("known_rates", "mark") == rates.KnownRate(1 + 499 % 6)
    assert lane(driver).stats.replica_keys == {"known_rates": 0}
