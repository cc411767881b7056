"""Questions over HTTP are the same from a thread and from an event loop, whatever is in the key."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Generator
from typing import Any
from urllib.parse import quote

import aiohttp
import httpx
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from pipeline.client.drive import drive, drive_async
from pipeline.client.owner_request import Answer, HttpCall


async def echo(request: web.Request) -> web.Response:
    told = {"key": request.match_info["key"], "query": dict(request.query), "body": await request.text()}
    return web.json_response(told, status=404, headers={"X-Pipeline-Position": "t/0@1"})


async def slow(_: web.Request) -> web.Response:
    await asyncio.sleep(30)
    return web.Response()


def one(question: HttpCall) -> Generator[Any, Any, Answer | None]:
    return (yield question)


@pytest.mark.parametrize("key", ["a", "a/b", "a b", "a%2Fb", "ü?#&+", "a+b"])
def test_both_ask_the_same_and_are_answered_the_same(key: str) -> None:
    async def asked() -> None:
        app = web.Application()
        app.add_routes([web.get("/t/{key:.+}", echo), web.post("/t/{key:.+}", echo), web.get("/slow", slow)])
        async with TestServer(app) as server, aiohttp.ClientSession() as session:
            holder, path = f"http://{server.host}:{server.port}", f"/t/{quote(key, safe='')}"
            with httpx.Client() as threads:
                for body in (None, {"keys": [key]}):
                    question = HttpCall(holder, path, {"at_least": "x.command/0@1,y/1@2", "wait": "1 +"}, 5.0, body)
                    theirs = await asyncio.to_thread(lambda q=question: drive(threads, one(q)))
                    ours = await drive_async(session, one(question))
                    assert ours is not None
                    assert theirs is not None
                    assert ours.body["key"] == theirs.body["key"] == key
                    assert ours.body["query"] == theirs.body["query"] == question.query
                    assert ours.status == theirs.status == 404
                    assert ours.headers["x-pipeline-position"] == theirs.headers["x-pipeline-position"] == "t/0@1"
                    assert ours.body["body"] == "" if body is None else json.loads(ours.body["body"]) == body
            assert await drive_async(session, one(HttpCall(holder, "/slow", {}, 0.1))) is None
            assert await drive_async(session, one(HttpCall("http://127.0.0.1:1", path, {}, 5.0))) is None

    asyncio.run(asked())
