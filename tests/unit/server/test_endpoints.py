"""The declared endpoints: each is served by one page, and what is not declared is not served."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from types import SimpleNamespace
from typing import Any, cast

import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer, make_mocked_request
from hypothesis import example, given, settings
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry
from yarl import URL

from pipeline.errors import BadRequest
from pipeline.flow import Lineage
from pipeline.server.endpoint import At, Endpoint, Page, Pages, Reply, Request, integer
from pipeline.server.endpoints.tables import KEYS, ROW
from pipeline.server.openapi import DECLARED
from pipeline.server.owner.dispatch import Dispatcher
from pipeline.server.pages.commands import CommandApi
from pipeline.server.pages.deadlines import DeadlineApi
from pipeline.server.pages.history import HistoryApi
from pipeline.server.pages.parked import ParkedApi
from pipeline.server.pages.probes import ProbeApi
from pipeline.server.pages.projections import ProjectionApi
from pipeline.server.pages.resume import ResumeApi
from pipeline.server.pages.sagas import SagaApi
from pipeline.server.pages.snapshot_read import SnapshotReadApi
from pipeline.server.pages.tables import QueryApi
from pipeline.server.pages.watch import WatchApi
from pipeline.server.web import as_problems, mount
from tests.helpers.market import MARKET

NOTHING: Any = None
DISPATCHER = Dispatcher(NOTHING, cast(Any, SimpleNamespace(router=SimpleNamespace(topology=MARKET))))


def served() -> list[tuple[Endpoint, Page]]:
    query = QueryApi(NOTHING, DISPATCHER, NOTHING, dict, CollectorRegistry())
    commands = CommandApi(NOTHING, NOTHING, DISPATCHER, query.version)
    lineage = Lineage(MARKET.services.values())
    parts: list[Pages] = [
        query.pages(),
        commands.pages(),
        SnapshotReadApi(query).pages(),
        WatchApi(NOTHING, NOTHING, DISPATCHER, NOTHING, lineage, NOTHING).pages(),
        HistoryApi(NOTHING, NOTHING, DISPATCHER).pages(),
        DeadlineApi({}, NOTHING, MARKET).pages(),
        SagaApi(NOTHING, DISPATCHER, commands).pages(),
        ParkedApi({}, NOTHING, DISPATCHER).pages(),
        ResumeApi({}, DISPATCHER).pages(),
        ProjectionApi(NOTHING).pages(),
        ProbeApi(NOTHING, NOTHING).pages(),
    ]
    return [each for pages in parts for each in pages.items()]


def test_what_is_declared_is_served_once() -> None:
    declared = {each for each in DECLARED if isinstance(each, Endpoint)}
    pages = [endpoint for endpoint, _ in served()]
    assert len(pages) == len(set(pages))
    assert set(pages) == declared


def router_of_all() -> tuple[web.UrlDispatcher, dict[Endpoint, Any]]:
    """The router of a worker, and the resource of each page that has a key in its path."""

    async def page(_: web.Request) -> web.Response:
        raise AssertionError

    router = web.Application().router
    # In the order in which a worker mounts them: a watch before a row.
    pages = sorted((endpoint for endpoint, _ in served()), key=lambda each: not each.path.endswith("/watch"))
    found = {each: router.add_route(each.method, each.path, page).resource for each in pages}
    return router, {each: resource for each, resource in found.items() if "key" in each.names}


ROUTER, PAGES_OF_KEYS = router_of_all()
thoroughly = settings(max_examples=100, deadline=None)


def test_an_endpoint_is_answered_where_it_says() -> None:
    for endpoint, page in served():
        assert (endpoint.at is At.PARTITION) == (page.place is not None), endpoint.path
        if endpoint.at is At.KEY:
            assert "key" in endpoint.names


def test_a_path_is_written_with_its_parts_encoded() -> None:
    assert ROW.template == "/v1/tables/{table}/{key}"
    assert ROW.url(table="users", key="a/b é") == "/v1/tables/users/a%2Fb%20%C3%A9"
    assert ROW.url(table="users", key="..") == "/v1/tables/users/%2E%2E"


def test_an_integer_is_within_its_bounds() -> None:
    assert integer("limit", "7", 1, 10) == 7
    for text in ("", "0", "11", "1.5", "²", "-1", "1" * 5_000):
        with pytest.raises(BadRequest, match="limit="):
            integer("limit", text, 1, 10)


def test_what_is_refused_before_a_page_is_asked() -> None:
    async def page(request: Request) -> Reply:
        return Reply(200, request.body)

    async def asked() -> None:
        app = web.Application(middlewares=[as_problems])
        mount(app, DISPATCHER, {Endpoint("POST", "/here/{key}", body=KEYS): Page(page)})
        async with TestClient(TestServer(app)) as client:
            refused = await client.get("/here/a")
            assert (refused.status, refused.headers["Allow"]) == (405, "POST")
            assert (await client.post("/here/a", data=b"{}")).status == 415
            refused = await client.post("/here/a", data=b"{", headers={"Content-Type": "application/json"})
            assert refused.status == 422
            answer = await client.post("/here/a", json={"keys": []})
            assert (answer.status, await answer.json()) == (200, {"keys": []})

    asyncio.run(asked())


def test_every_key_reaches_its_page() -> None:
    keys = ["anna", "..", "a/b", "line\nbreak", "\r\n", "\0", "%2e%2e", "a?b#c"]

    async def page(request: Request) -> Reply:
        return Reply(200, request.parts["key"])

    async def asked() -> None:
        app = web.Application(middlewares=[as_problems])
        mount(app, DISPATCHER, {replace(ROW, at=At.ANY): Page(page)})
        async with TestClient(TestServer(app)) as client:
            for key in keys:
                answer = await client.get(URL(ROW.url(table="users", key=key), encoded=True))
                assert (answer.status, await answer.json()) == (200, key)

    asyncio.run(asked())


@thoroughly
@example("{a}")
@example("..")
@example("a/watch")
@example("/state")
@example("get")
@example("%2F%2e")
@example("line\nbreak\r\n\0")
@example("\N{LINE SEPARATOR}")
@given(st.text(st.characters(exclude_categories=["Cs"]), min_size=1))
def test_each_page_of_a_key_is_found_under_every_key(key: str) -> None:
    for endpoint, resource in PAGES_OF_KEYS.items():
        parts = {name: {"key": key, "id": "a/1"}.get(name, "users") for name in endpoint.names}
        request = make_mocked_request(endpoint.method, endpoint.url(**parts))
        found = asyncio.run(ROUTER.resolve(request))
        assert found.route.resource is resource, endpoint.path
        assert dict(found) == parts
