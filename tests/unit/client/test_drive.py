"""Steps come to the same in a thread and in an event loop, over HTTP, whatever is in the key."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any
from urllib.parse import quote

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from pipeline.client.drive import AsyncDriver, Driver
from pipeline.client.owner_request import Blocking, HttpCall, Items, Open, Read, Sleep, Steps, Stream, Wait


async def echo(request: web.Request) -> web.Response:
    told = {"key": request.match_info["key"], "query": dict(request.query), "body": await request.text()}
    return web.json_response(told, status=404, headers={"X-Pipeline-Position": "t/0@1"})


async def slow(_: web.Request) -> web.Response:
    await asyncio.sleep(30)
    return web.Response()


async def stream(request: web.Request) -> web.StreamResponse:
    response = web.StreamResponse()
    await response.prepare(request)
    for n in range(3):
        await response.write(f"{n} ".encode() * int(request.query["times"]))
    if request.query["end"] == "break":
        assert request.transport is not None
        request.transport.abort()
    return response


def one(step: Any) -> Steps[Any]:
    return (yield step)


def whole(open_: Open) -> Stream[Any]:
    """An answer, and all bytes of its stream."""
    yield Items([(yield open_)])
    while chunk := (yield Read()):
        yield Items([bytes([each]) for each in chunk])


def both(scenario: Callable[[str, Driver, AsyncDriver], Any]) -> None:
    async def asked() -> None:
        app = web.Application()
        app.add_routes([web.get("/t/{key:.+}", echo), web.post("/t/{key:.+}", echo), web.get("/slow", slow)])
        app.add_routes([web.get("/stream", stream)])
        threads, loop = Driver(), AsyncDriver()
        async with TestServer(app) as server:
            try:
                await scenario(f"http://{server.host}:{server.port}", threads, loop)
            finally:
                threads.close()
                await loop.close()

    asyncio.run(asked())


@pytest.mark.parametrize("key", ["a", "a/b", "a b", "a%2Fb", "ü?#&+", "a+b"])
def test_both_ask_the_same_and_are_answered_the_same(key: str) -> None:
    async def scenario(holder: str, threads: Driver, loop: AsyncDriver) -> None:
        path = f"/t/{quote(key, safe='')}"
        for body in (None, {"keys": [key]}):
            call = HttpCall(holder, path, {"at_least": "x.command/0@1,y/1@2", "wait": "1 +"}, 5.0, body)
            for kind in (call, Open(call)):
                if isinstance(kind, HttpCall):
                    answers = [await asyncio.to_thread(threads.run, one(call)), await loop.run(one(call))]
                else:
                    answers = [(await asyncio.to_thread(list, threads.each(whole(kind))))[0]]
                    answers += [each async for each in loop.each(whole(kind))][:1]
                for answer in answers:
                    assert (answer.status, answer.headers["x-pipeline-position"]) == (404, "t/0@1")
                    assert (answer.body["key"], answer.body["query"]) == (key, call.query)
                    assert answer.body["body"] == "" if body is None else json.loads(answer.body["body"]) == body

    both(scenario)


def test_no_answer_is_none_and_a_stream_that_breaks_ends() -> None:
    async def scenario(holder: str, threads: Driver, loop: AsyncDriver) -> None:
        for call in (HttpCall(holder, "/slow", {}, 0.1), HttpCall("http://127.0.0.1:1", "/t", {}, 5.0)):
            assert await asyncio.to_thread(threads.run, one(call)) is None
            assert await loop.run(one(call)) is None
            assert await asyncio.to_thread(list, threads.each(whole(Open(call)))) == [None]
            assert [each async for each in loop.each(whole(Open(call)))] == [None]
        for times, end in ((1, "whole"), (100_000, "whole"), (1, "break")):
            open_ = Open(HttpCall(holder, "/stream", {"times": str(times), "end": end}, 5.0))
            for items in (
                await asyncio.to_thread(list, threads.each(whole(open_))),
                [each async for each in loop.each(whole(open_))],
            ):
                assert items[0].status == 200
                told = b"".join(items[1:])
                assert told == b"0 " * times + b"1 " * times + b"2 " * times or end == "break"

    both(scenario)


def test_what_a_step_raises_is_raised_in_the_steps() -> None:
    never: Future[Any] = Future()
    ready: Future[Any] = Future()
    ready.set_result(5)

    def steps() -> Steps[Any]:
        with pytest.raises(ZeroDivisionError):
            yield Blocking(lambda: 1 // 0)
        with pytest.raises(TimeoutError):
            yield Wait(never, 0.01)
        assert (yield Sleep(0.0)) is None
        return (yield Wait(ready, None)), (yield Blocking(threading.get_ident))

    async def scenario(_: str, threads: Driver, loop: AsyncDriver) -> None:
        assert threads.run(steps()) == (5, threading.get_ident())
        told, thread = await loop.run(steps())
        assert told == 5
        assert thread != threading.get_ident(), "the event loop does not stand still"

    both(scenario)


def test_who_takes_no_more_items_ends_the_steps() -> None:
    ended = []

    def steps() -> Stream[Any]:
        try:
            yield Items([1, 2])
            yield Items([3])
        finally:
            ended.append(True)

    async def scenario(_: str, threads: Driver, loop: AsyncDriver) -> None:
        few = threads.each(steps())
        assert next(few) == 1
        few.close()  # type: ignore[attr-defined]
        more = loop.each(steps())
        assert await anext(more) == 1
        await more.aclose()  # type: ignore[attr-defined]
        assert ended == [True, True]
        assert list(threads.each(steps())) == [each async for each in loop.each(steps())] == [1, 2, 3]

    both(scenario)
