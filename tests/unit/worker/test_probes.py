"""`/livez` and `/readyz`: what makes them say no, what does not, and the line that says when a worker is ready."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer

from pipeline.engine.places import WaitsFor
from pipeline.engine.ports import TP
from pipeline.errors import BrokerUnreachable
from pipeline.server.owner.dispatch import Dispatcher
from pipeline.server.pages.probes import ProbeApi
from pipeline.server.web import as_problems, mount
from pipeline.testing import TestDriver
from pipeline.worker.host import LaneHost
from pipeline.worker.metrics.lag_watch import Lag
from pipeline.worker.probes import ready_line
from pipeline.worker.probes.health import LIVE_AWAY_S, LIVE_S, TURN_S, WHYS_MAX, Health
from pipeline.worker.probes.ready_line import ReadyLine
from tests.simulation.worlds import tills as t
from tests.unit.engine.test_held import poison, worker
from tests.unit.engine.test_not_known_yet import AMOUNTS, COPIES, HERE, SHOP, Place, Placed, World


class Now:
    """A clock that stands."""

    def __init__(self) -> None:
        self.seconds = 1_000.0

    def __call__(self) -> float:
        return self.seconds


class Measured:
    """What a LagWatch has measured last."""

    def __init__(self, *lags: Lag, age_s: float | None = 1.0) -> None:
        self.lags, self._age_s = lags, age_s

    def age_s(self) -> float | None:
        return self._age_s


def host_of(running: Any, now: Now, service: Any = None) -> Any:
    """What Health sees of a LaneHost, around something with a lane and its stats."""
    plan = running.lane.plan if service is None else service
    return SimpleNamespace(plan=plan, stats=running.stats, lane=running.lane, stepped_s=now(), trouble="")


def looked(running: Any, **how: Any) -> tuple[bool, Any]:
    """Whether that one service is ready, and what is said of it."""
    now = Now()
    is_ready, told = Health([host_of(running, now)], Measured(), 60.0, how.pop("trouble", str), now).ready()
    assert is_ready == told["ready"]
    (service,) = told["services"].values()
    return is_ready, service


def reasons(running: Any) -> list[tuple[str | None, str]]:
    return [(why.get("partition"), why["reason"]) for why in looked(running)[1]["why"]]


# --- what is not ready ------------------------------------------------------------------------------------------------


@pytest.fixture
def driver() -> Iterator[TestDriver]:
    """The tills, whose code raises on a Take of 6."""
    t.Code.mend(False)
    t.Code.slow = 0
    tills = replace(t.TOPOLOGY.services["tills"], raising_share=0.2, raising_at_least=5)
    topology = replace(t.TOPOLOGY, services={**t.TOPOLOGY.services, "tills": tills})
    try:
        with TestDriver(topology, partitions=2, park=True) as driver:
            yield driver
    finally:
        t.Code.mend(True)


def test_a_parked_key_is_told_and_a_service_that_is_held_is_not_ready(driver: TestDriver) -> None:
    poison(driver, 1)
    is_ready, told = looked(worker(driver))
    assert (is_ready, told["parked_keys"], told["why"]) == (True, 1, [])
    poison(driver, 9, first=1)
    is_ready, told = looked(worker(driver))
    assert (is_ready, [why["reason"] for why in told["why"]]) == (False, ["held"])
    assert "pipeline resume tills" in told["why"][0]["detail"]
    driver.discard()
    driver.resume()
    assert looked(worker(driver))[0]


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


def test_partitions_are_not_ready_before_they_are_assigned_and_restored(world: World) -> None:
    world.start(SHOP)
    assert reasons(world) == [(None, "group")]
    world.command(HERE[0], Place(5), world.old)
    world.turn(1.0)
    assert reasons(world) == []
    seen = set()
    world.lane.close()
    world.start(SHOP)
    for _ in range(100):
        world.lane.turn()
        seen |= set(reasons(world))
    assert seen >= {("orders.command-0", "restore"), ("orders.command-1", "restore")}
    assert reasons(world) == []


def test_a_partition_that_stands_before_an_unknown_schema_is_not_ready_and_others_are(world: World) -> None:
    world.start(AMOUNTS)
    world.event(HERE[0], Placed(1))
    world.turn(5.0)
    assert set(reasons(world)) == {("orders.event-0", "schema"), (None, "schema")}
    world.publish()
    world.turn(5.0)
    assert reasons(world) == []


def test_a_record_that_is_tried_again_is_told_as_long_as_it_is(driver: TestDriver) -> None:
    t.Code.slow = 4
    driver.send_unseen("tills", "till-1", t.Take(8))
    seen = set()
    for _ in range(200):
        driver.advance(0.05)
        seen |= {reason for _, reason in reasons(worker(driver))}
        if not t.Code.slow:
            break
    assert seen == {"retry"}
    driver.advance(5)
    assert reasons(worker(driver)) == []


def test_a_copy_that_has_not_caught_up_or_lags_is_not_ready(world: World) -> None:
    world.start(COPIES)
    world.turn(1.0)
    age_s: float | None = None
    for key, view in list(world.lane.views.items()):
        world.lane.views[key] = view._replace(age_s=lambda: age_s)
    assert {reason for _, reason in reasons(world)} == {"copy"}
    age_s = 61.0
    assert ("seen-0", "copy") in reasons(world)
    assert "61 s behind; 60 s are allowed" in looked(world)[1]["why"][0]["detail"]
    age_s = 59.0
    assert reasons(world) == []


def test_a_partition_that_lags_or_whose_lag_is_not_known_is_not_ready(world: World) -> None:
    world.start(SHOP)
    world.turn(1.0)
    now, tp = Now(), TP("orders.command", 1)

    def told(*lags: Lag, age_s: float | None = 1.0) -> list[tuple[str | None, str]]:
        health = Health([host_of(world, now)], Measured(*lags, age_s=age_s), 60.0, str, now)
        return [(why.get("partition"), why["reason"]) for why in health.ready()[1]["services"]["shop"]["why"]]

    assert told(Lag("shop", tp, 9, 59.0, WaitsFor.NOTHING), Lag("shop", tp, 9, None, WaitsFor.RESTORE)) == []
    assert told(Lag("other", tp, 9, 100.0, WaitsFor.NOTHING)) == []
    assert told(Lag("shop", tp, 9, 61.0, WaitsFor.OPEN_TRANSACTION)) == [("orders.command-1", "lag")]
    assert told(age_s=None) == [(None, "lag")]
    assert told(age_s=59.0) == []
    assert told(age_s=61.0) == [(None, "lag")]


def test_a_lane_that_stands_or_is_opened_again_is_not_ready(world: World) -> None:
    world.start(SHOP)
    world.turn(1.0)
    now = Now()
    host = host_of(world, now)
    health = Health([host], Measured(), 60.0, str, now)
    assert health.ready()[0]
    now.seconds += TURN_S + 1
    assert [why["reason"] for why in health.ready()[1]["services"]["shop"]["why"]] == ["standing"]
    host.stepped_s, host.trouble = now(), "the broker does not answer"
    (why,) = health.ready()[1]["services"]["shop"]["why"]
    assert (why["reason"], why["detail"]) == (
        "opening",
        "the service is being opened again: the broker does not answer",
    )


def test_a_broker_that_is_away_and_a_stop_are_told_of_the_whole_worker(world: World) -> None:
    world.start(SHOP)
    world.turn(1.0)
    now, trouble = Now(), [""]
    health = Health([host_of(world, now)], Measured(), 60.0, lambda: trouble[0], now)
    assert health.ready()[0]
    trouble[0] = "Connection refused"
    is_ready, told = health.ready()
    assert (is_ready, told["services"]["shop"]["ready"]) == (False, True)
    assert told["why"] == [{"reason": "broker", "detail": "Kafka does not answer: Connection refused"}]
    trouble[0] = ""
    asyncio.run(health.close())
    assert [why["reason"] for why in health.ready()[1]["why"]] == ["stopping"]
    assert health.live()[0]


def test_an_answer_is_bounded(world: World) -> None:
    world.start(SHOP)
    world.turn(1.0)
    world.stats.waiting |= {f"reader {n}": "offset 0" for n in range(WHYS_MAX + 7)}
    _, told = looked(world)
    assert (len(told["why"]), told["more"]) == (WHYS_MAX, 7)


# --- what lives -------------------------------------------------------------------------------------------------------


def test_a_lane_that_stands_is_not_alive_and_one_that_waits_for_a_broker_is() -> None:
    now, trouble = Now(), [""]
    host: Any = SimpleNamespace(plan=SimpleNamespace(service=SimpleNamespace(name="shop")), stepped_s=now())
    health = Health([host], Measured(), 60.0, lambda: trouble[0], now)
    now.seconds += LIVE_S - 1
    assert health.live()[0]
    now.seconds += 2
    lives, told = health.live()
    assert (lives, told["services"]["shop"]["why"][0]["reason"]) == (False, "standing")
    trouble[0] = "away"
    assert health.live()[0]
    now.seconds += LIVE_AWAY_S
    assert not health.live()[0]


def test_the_host_notes_each_step_of_its_lane_and_why_there_is_none() -> None:
    plan: Any = SimpleNamespace(service=SimpleNamespace(name="shop"))
    blocked = threading.Event()

    async def steps() -> None:
        host = LaneHost(plan, lambda _: SimpleNamespace(), lambda _: None, dict)  # type: ignore[arg-type,return-value]
        began_s = host.stepped_s
        standing = asyncio.ensure_future(host.in_thread(blocked.wait))
        await asyncio.sleep(0.02)
        assert host.stepped_s == began_s
        blocked.set()
        await standing
        after_s = host.stepped_s
        assert after_s > began_s
        with pytest.raises(BrokerUnreachable):
            await host.in_thread(_raise)
        assert host.stepped_s > after_s

    asyncio.run(steps())


def _raise() -> None:
    raise BrokerUnreachable("no broker answers")


# --- over HTTP, and in the log ----------------------------------------------------------------------------------------


def test_the_pages_say_yes_and_no_by_their_status() -> None:
    verdict = [True]
    pages = ProbeApi(lambda: (True, {"live": True}), lambda: (verdict[0], {"ready": verdict[0]})).pages()

    async def asked() -> None:
        app = web.Application(middlewares=[as_problems])
        forwarding: Any = SimpleNamespace(router=SimpleNamespace(topology=t.TOPOLOGY))
        tables: Any = None
        mount(app, Dispatcher(tables, forwarding), pages)
        async with TestClient(TestServer(app)) as client:
            for path, status in (("/livez", 200), ("/readyz", 200)):
                answer = await client.get(path)
                assert (answer.status, answer.headers["Cache-Control"]) == (status, "no-store")
            verdict[0] = False
            answer = await client.get("/readyz")
            assert (answer.status, await answer.json()) == (503, {"ready": False})

    asyncio.run(asked())


def test_it_is_said_once_on_a_line_that_a_worker_is_ready(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ready_line, "LOOK_S", 0.001)
    monkeypatch.setattr(ready_line, "WAITING_S", 0.0)
    answers = iter([False, False, False, False, True])
    services = {"shop": {"why": [{"partition": "orders.command-0", "reason": "restoring", "detail": "so far"}] * 2}}
    health: Any = SimpleNamespace(ready=lambda: (next(answers), {"why": [], "services": services}))

    async def run() -> None:
        line = ReadyLine(health, "shop at http://[::1]:6066")
        line.begin()
        assert line._looking is not None
        await line._looking
        await line.close()

    with caplog.at_level(logging.INFO):
        asyncio.run(run())
    said = [record.getMessage() for record in caplog.records]
    assert said[0] == "not ready after 0 s: shop: orders.command-0: so far (and 1 more)"
    assert said[-1].startswith("ready: shop at http://[::1]:6066; it took ")
    assert sum(line.startswith("ready") for line in said) == 1
