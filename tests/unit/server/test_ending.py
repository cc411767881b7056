"""A worker that is asked while it ends says so, and that somebody else is to be asked."""

from __future__ import annotations

import asyncio

from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer

from pipeline.server.web import Ending, as_problems


def test_what_cannot_be_answered_any_more_is_503_while_the_worker_ends() -> None:
    ending = Ending()

    async def elsewhere(_: web.Request) -> web.Response:
        raise RuntimeError("Session is closed")  # as aiohttp has it, of connections to other workers

    async def here(_: web.Request) -> web.Response:
        return web.Response(text="well")

    async def nowhere(_: web.Request) -> web.Response:
        raise web.HTTPMethodNotAllowed("GET", ["POST"])

    async def asked() -> None:
        app = web.Application(middlewares=[as_problems, ending.middleware()])
        app.add_routes([web.get("/elsewhere", elsewhere), web.get("/here", here), web.get("/nowhere", nowhere)])
        async with TestClient(TestServer(app)) as client:
            for status, retry in ((500, None), (503, "1")):
                answer = await client.get("/elsewhere")
                assert (answer.status, answer.headers.get("Retry-After")) == (status, retry)
                assert (await client.get("/here")).status == 200
                assert (await client.get("/nowhere")).status == 405
                await ending.close()
            assert "this worker is stopping; ask another" in (await answer.json())["detail"]

    asyncio.run(asked())
