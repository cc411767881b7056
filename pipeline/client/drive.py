"""Runs steps, with HTTP and a clock: in the calling thread with httpx, or in an event loop with aiohttp."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncGenerator, Callable, Generator, Iterator, Mapping
from functools import cached_property, partial
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import urlencode

import httpx
from yarl import URL

from pipeline.client.owner_request import (
    Answer,
    Blocking,
    HttpCall,
    Items,
    Open,
    Read,
    Sleep,
    Step,
    Steps,
    Stream,
    Wait,
)
from pipeline.client.wire.access import Access
from pipeline.drive import drive, drive_async

if TYPE_CHECKING:
    from aiohttp import ClientResponse, ClientSession

T = TypeVar("T")


class Driver:
    """Runs steps in the calling thread. Safe to use from several threads. Connects when first used.

    `access`: what its requests prove themselves with; None: what the environment says.
    """

    def __init__(self, access: Access | None = None) -> None:
        self._access = access or Access()

    @cached_property
    def _http(self) -> httpx.Client:
        return httpx.Client()

    @cached_property
    def _streams(self) -> httpx.Client:  # a stream keeps its connection and must not block reads
        return httpx.Client(limits=httpx.Limits(max_connections=None))

    def run(self, steps: Steps[T]) -> T:
        """Run the steps and return their result."""
        return drive(steps, self._take)

    def each(self, steps: Stream[T]) -> Generator[T, None, None]:
        """Yield the items of the steps. The next step runs when the next item is requested."""
        go_on = partial(next, steps)
        opened = _Opened(lambda: self._streams, self._access)
        try:
            while True:
                step = go_on()
                if isinstance(step, Items):
                    yield from step.items
                    go_on = partial(next, steps)
                    continue
                try:
                    go_on = partial(
                        steps.send, opened.take(step) if isinstance(step, Open | Read) else self._take(step)
                    )
                except Exception as error:
                    go_on = partial(steps.throw, error)
        except StopIteration:
            return
        finally:
            steps.close()
            opened.close()

    def _take(self, step: Step) -> Any:
        match step:
            case Blocking(function):
                return function()
            case HttpCall():
                try:
                    return _answer(self._http.request(**_request(step, self._access), timeout=step.timeout_s))
                except httpx.HTTPError:
                    return None
            case Sleep(seconds):
                return time.sleep(seconds)
            case Wait(future, timeout_s):
                return future.result(timeout_s)

    def close(self) -> None:
        """Close the connections."""
        for name in ("_http", "_streams"):
            if (http := self.__dict__.pop(name, None)) is not None:
                http.close()


class AsyncDriver:
    """Runs steps in one event loop. Connects when first used, as that needs a running loop. `access`: see Driver."""

    def __init__(self, access: Access | None = None) -> None:
        self._access = access or Access()

    @cached_property
    def _http(self) -> ClientSession:
        from aiohttp import ClientSession  # slow to import, and threads do without

        return ClientSession()

    @cached_property
    def _streams(self) -> ClientSession:  # a stream keeps its connection and must not block reads
        from aiohttp import ClientSession, TCPConnector

        return ClientSession(connector=TCPConnector(limit=0))

    async def run(self, steps: Steps[T]) -> T:
        """Run the steps and return their result."""
        return await drive_async(steps, self._take)

    async def each(self, steps: Stream[T]) -> AsyncGenerator[T, None]:
        """Yield the items of the steps. The next step runs when the next item is requested."""
        go_on = partial(next, steps)
        opened = _OpenedAsync(lambda: self._streams, self._access)
        try:
            while True:
                step = go_on()
                if isinstance(step, Items):
                    for item in step.items:
                        yield item
                    go_on = partial(next, steps)
                    continue
                try:
                    taken = opened.take(step) if isinstance(step, Open | Read) else self._take(step)
                    go_on = partial(steps.send, await taken)
                except Exception as error:
                    go_on = partial(steps.throw, error)
        except StopIteration:
            return
        finally:
            steps.close()
            opened.close()

    async def _take(self, step: Step) -> Any:
        match step:
            case Blocking(function):
                return await asyncio.to_thread(function)
            case HttpCall():
                from aiohttp import ClientError, ClientTimeout

                timeout = ClientTimeout(total=step.timeout_s)
                try:
                    async with self._http.request(**_request_async(step, self._access), timeout=timeout) as response:
                        return await _answer_async(response)
                except (ClientError, TimeoutError):
                    return None
            case Sleep(seconds):
                return await asyncio.sleep(seconds)
            case Wait(future, timeout_s):
                return await asyncio.wait_for(asyncio.wrap_future(future), timeout_s)

    async def close(self) -> None:
        """Close the connections."""
        for name in ("_http", "_streams"):
            if (http := self.__dict__.pop(name, None)) is not None:
                await http.close()


class _Opened:
    """The stream of one run of steps."""

    def __init__(self, http: Callable[[], httpx.Client], access: Access) -> None:
        self._http, self._access = http, access
        self._response: httpx.Response | None = None
        self._chunks: Iterator[bytes] = iter(())

    def take(self, step: Open | Read) -> Answer | bytes | None:
        try:
            if isinstance(step, Read):
                return next(self._chunks, b"")
            self.close()
            http = self._http()
            request = http.build_request(**_request(step.call, self._access), timeout=step.call.timeout_s)
            self._response = http.send(request, stream=True)
            self._chunks = self._response.iter_bytes()
            if self._response.status_code == 200:
                return Answer(200, None, self._response.headers)
            self._response.read()
            return _answer(self._response)
        except httpx.HTTPError:
            return b"" if isinstance(step, Read) else None

    def close(self) -> None:
        if self._response is not None:
            self._response.close()


class _OpenedAsync:
    """The stream of one run of steps."""

    def __init__(self, http: Callable[[], ClientSession], access: Access) -> None:
        self._http, self._access = http, access
        self._response: ClientResponse | None = None

    async def take(self, step: Open | Read) -> Answer | bytes | None:
        from aiohttp import ClientError, ClientTimeout

        try:
            if isinstance(step, Read):
                return b"" if self._response is None else await self._response.content.readany()
            self.close()
            silence_s = step.call.timeout_s
            timeout = ClientTimeout(total=None, sock_connect=silence_s, sock_read=silence_s)
            self._response = await self._http().request(**_request_async(step.call, self._access), timeout=timeout)
            if self._response.status == 200:
                return Answer(200, None, self._response.headers)
            return await _answer_async(self._response)
        except (ClientError, TimeoutError):
            return b"" if isinstance(step, Read) else None

    def close(self) -> None:
        if self._response is not None:
            self._response.close()


def _request(call: HttpCall, access: Access) -> dict[str, Any]:
    query = f"?{urlencode(call.query)}" if call.query else ""
    method = "GET" if call.body is None else "POST"
    return {"method": method, "url": call.holder + call.path + query, "json": call.body, "headers": access.headers()}


def _request_async(call: HttpCall, access: Access) -> dict[str, Any]:
    asked = _request(call, access)
    return asked | {"url": URL(asked["url"], encoded=True)}  # the key is percent-encoded already


def _answer(response: httpx.Response) -> Answer:
    return Answer(response.status_code, _body(response.headers, response.content), response.headers)


async def _answer_async(response: ClientResponse) -> Answer:
    return Answer(response.status, _body(response.headers, await response.read()), response.headers)


def _body(headers: Mapping[str, str], content: bytes) -> Any:
    return json.loads(content) if "json" in headers.get("Content-Type", "") else None
