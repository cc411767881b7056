"""A read that waits for a service that is held says so, with the cure: also one hop away, and once."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest
from aiohttp import ClientSession, web
from aiohttp.test_utils import TestServer

from pipeline.errors import NotYet
from pipeline.server.endpoint import At, Endpoint, Page, Pages, Reply, Request
from pipeline.server.endpoints.tables import STATUS
from pipeline.server.owner.dispatch import Dispatcher
from pipeline.server.owner.forward import Forwarding
from pipeline.server.reads.cluster_offsets import not_yet
from pipeline.server.web import as_problems, mount

WAITS = Endpoint("GET", "/v1/waits", At.ANY)
WHY = "orders is held, as 20 of 40 records raised; go on with: pipeline resume orders"


def asked(error: NotYet, status: dict[str, Any], *, beside: str = "") -> tuple[int, Any]:
    """What a worker answers to a read that waits in vain, if its status, or that of one `beside` it, is this."""

    async def wait(_: Request) -> Reply:
        raise error

    async def tell(_: Request) -> Reply:
        return Reply(200, status)

    async def scenario() -> tuple[int, Any]:
        urls: list[str] = [beside] if beside else []
        router: Any = SimpleNamespace(
            topology=SimpleNamespace(services={"orders": None, "users": None}),
            workers=lambda name: urls,
            forget_all=lambda: None,
        )
        forwarding = Forwarding(router)
        app = web.Application(middlewares=[as_problems])
        pages: Pages = {WAITS: Page(wait), STATUS: Page(tell)}
        mount(app, Dispatcher(SimpleNamespace(), forwarding), pages)  # type: ignore[arg-type]
        async with TestServer(app) as server:
            urls.append(str(server.make_url("")).rstrip("/"))
            async with ClientSession() as session, session.get(server.make_url("/v1/waits")) as answer:
                found = answer.status, await answer.json()
            await forwarding.close()
            return found

    return asyncio.run(scenario())


LATE = not_yet([("users", "users.command", 1, 7, 5), ("orders", "orders.command", 0, 9, 3)])


@pytest.mark.parametrize("beside", ["", "http://127.0.0.1:9"])
def test_it_names_the_held_one_among_those_that_lag(beside: str) -> None:
    status, body = asked(LATE, {"orders": {"held_why": WHY}, "users": {"held_why": ""}}, beside=beside)
    assert (status, body["error"]) == (504, "NotYet")
    assert body["detail"].endswith(f"which is not past 9; {WHY}")
    assert [hop["held"] for hop in body["behind"]] == [None, WHY]


def test_nothing_is_said_of_services_that_only_lag() -> None:
    status, body = asked(LATE, {"orders": {"held_why": ""}, "users": {"held_why": ""}})
    assert (status, body["detail"]) == (504, str(LATE))
    assert all("held" not in hop for hop in body["behind"])


def test_what_another_worker_has_named_is_not_named_again() -> None:
    told = NotYet(f"{LATE}; {WHY}", [{**hop, "held": WHY} for hop in LATE.behind])
    assert asked(told, {"orders": {"held_why": WHY}})[1]["detail"] == str(told)


def test_one_that_waits_for_a_transaction_names_whatever_is_held() -> None:
    assert asked(NotYet("it still holds something"), {"orders": {"held_why": WHY}})[1]["detail"].endswith(WHY)
