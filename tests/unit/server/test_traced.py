"""A worker's HTTP requests as spans: each goes on with its caller's trace, and what is asked all the time has none."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer
from opentelemetry.trace import SpanKind, StatusCode

from pipeline.client.wire.trace import brought
from pipeline.engine.tracing.port import HEADER, Tracer
from pipeline.errors import TableUnavailable
from pipeline.server.owner.forward import _trace
from pipeline.server.traced import tracing
from pipeline.server.web import as_problems
from tests.helpers.spans import Spans

CALLER = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
Call = Callable[[TestClient[web.Request, web.Application]], Awaitable[None]]


def serve(tracer: Tracer | None, call: Call) -> list[bytes | None]:
    """What pages have seen as the trace that they belong to."""
    seen: list[bytes | None] = []

    async def page(request: web.Request) -> web.Response:
        seen.append(brought())
        assert _trace() == ({} if seen[-1] is None else {HEADER: seen[-1].decode()})  # as another worker is told
        if "bad" in request.query:
            raise TableUnavailable("moving")
        return web.Response(text="")

    async def main() -> None:
        app = web.Application(middlewares=[tracing(tracer), as_problems])
        for path in ("/v1/tables/{table}/{key}", "/v1/tables/{table}/{key}/watch", "/v1/status", "/metrics"):
            app.router.add_get(path, page)
        async with TestClient(TestServer(app)) as client:
            await call(client)

    asyncio.run(main())
    return seen


def test_a_request_goes_on_with_the_trace_of_its_caller() -> None:
    spans = Spans()

    async def call(client: TestClient[web.Request, web.Application]) -> None:
        await client.get("/v1/tables/users/anna", headers={HEADER: CALLER})
        await client.get("/v1/tables/users/anna?bad=1")

    seen = serve(spans.of("worker"), call)
    first, second = spans.all
    assert first.kind is SpanKind.SERVER
    assert first.name == "GET /v1/tables/{table}/{key}"
    assert f"{first.context.trace_id:032x}" in CALLER
    assert first.parent is not None
    assert f"{first.parent.span_id:016x}" in CALLER
    said = dict(first.attributes or {})
    assert said["url.path"] == "/v1/tables/users/anna"
    assert said["http.response.status_code"] == 200
    assert seen[0] == f"00-{first.context.trace_id:032x}-{first.context.span_id:016x}-01".encode()
    assert second.parent is None
    assert second.status.status_code is StatusCode.ERROR
    assert (second.attributes or {})["http.response.status_code"] == 503


def test_what_is_asked_all_the_time_and_what_lasts_has_no_span() -> None:
    spans = Spans()

    async def call(client: TestClient[web.Request, web.Application]) -> None:
        for path in ("/v1/status", "/metrics", "/v1/tables/users/anna/watch", "/nowhere"):
            await client.get(path, headers={HEADER: CALLER})

    serve(spans.of("worker"), call)
    assert spans.all == []


@pytest.mark.parametrize("header", [CALLER, CALLER[:-1] + "0", "nonsense", None])
def test_a_worker_without_a_tracer_passes_a_sampled_trace_on(header: str | None) -> None:
    async def call(client: TestClient[web.Request, web.Application]) -> None:
        await client.get("/v1/tables/users/anna", headers={} if header is None else {HEADER: header})

    assert serve(None, call) == [CALLER.encode() if header == CALLER else None]
