"""Decides where a request is served: here, or by the owner of its partition, one hop away. All pages pass it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from dataclasses import replace
from functools import partial
from typing import Any, TypeVar

from pipeline.client.holds import Holds
from pipeline.client.owner_request import Answer, Blocking, HttpCall, Step, problem_of
from pipeline.client.wire.read_options import ReadOptions
from pipeline.drive import drive_async
from pipeline.errors import NotYet, PipelineError, TableUnavailable
from pipeline.server.endpoint import OWNERS, At, Endpoint, Page, Place, Reply, Request, Stream
from pipeline.server.owner.forward import FORWARDED, Forwarding
from pipeline.server.reads.local_tables import LocalTables
from pipeline.server.reads.timings import ReadTimings

T = TypeVar("T")


class Dispatcher:
    """Serves each request here or at the owner of its partition."""

    def __init__(self, tables: LocalTables, forwarding: Forwarding) -> None:
        self.tables, self.router = tables, forwarding.router
        self.topology = forwarding.router.topology
        self._forwarding = forwarding
        self.read_timings = ReadTimings()
        self._holds = Holds(self.router, time.monotonic)

    async def blocking(self, call: Callable[[], T]) -> T:
        """Run a blocking call outside the event loop."""
        return await self._forwarding.blocking(call)

    async def partition(self, table: str, key: str) -> int:
        """Return the partition of a key; does not wait if the number of partitions is cached."""
        if self.router.knows(table):
            return self.router.partition(table, key)
        return await self.blocking(lambda: self.router.partition(table, key))

    async def answer(self, endpoint: Endpoint, page: Page, request: Request) -> Reply | Stream:
        """Return the page's reply, from here or from the owner. NotYet names the services that are held.

        Count how long a read takes, at the worker that was asked first.
        """
        began_s, status = time.monotonic(), 0
        try:
            told = await self._answer(endpoint, page, request)
            status = told.status if isinstance(told, Reply) else 0
        except NotYet as error:
            status = error.http_status
            raise await self._naming_holds(error) from error
        except PipelineError as error:
            status = error.http_status
            raise
        finally:
            if status and endpoint.reads and FORWARDED not in request.headers:
                self.read_timings.observe(request.reading, status, time.monotonic() - began_s)
        return told

    async def _naming_holds(self, error: NotYet) -> NotYet:
        if any("held" in hop for hop in error.behind):  # another worker has named them
            return error
        behind = {str(hop["service"]) for hop in error.behind} or self.topology.services
        held = await drive_async(self._holds.of(behind), self._take)
        hops = [{**hop, "held": held.get(hop["service"])} for hop in error.behind] if held else error.behind
        return NotYet("; ".join([str(error), *held.values()]), hops)

    async def _take(self, step: Step) -> Any:
        match step:
            case Blocking(function):
                return await self.blocking(function)
            case HttpCall(url, path, query, timeout_s):
                with suppress(PipelineError, TimeoutError):
                    asked = self._forwarding.ask({}, "the service", lambda: url, path, query)
                    reply = await asyncio.wait_for(asked, timeout_s)
                    return Answer(reply.status, reply.body, reply.headers)
        return None

    async def _answer(self, endpoint: Endpoint, page: Page, request: Request) -> Reply | Stream:
        if page.check is not None:
            page.check(request)
        if endpoint.at is At.KEY:
            table = request.parts[endpoint.names[0]]
            place = Place(table, await self.partition(table, request.parts["key"]))
            request = replace(request, partition=place.partition)
        elif page.place is not None:
            place = await page.place(request)
        else:
            return await page.answer(request)
        if self.is_here(place, request.reading):
            return await page.answer(request)
        url, wait_s = endpoint.url(**request.parts), request.reading.wait_s if endpoint.reads else 0.0
        fetched = await self._fetch(request, place, url, request.query, wait_s, request.body, whole=True)
        return Reply(fetched.status, fetched.body, fetched.headers, fetched.kind)

    async def share(
        self,
        request: Request,
        place: Place,
        here: Callable[[], Awaitable[T]],
        there: Callable[[Reply], T],
        endpoint: Endpoint,
        parts: Mapping[str, str],
        query: Mapping[str, str],
        body: Any = None,
        reading: ReadOptions | None = None,
        passes: tuple[type[PipelineError], ...] = (),
    ) -> T:
        """Return one partition's part of an answer: from `here`, or `there` of the owner's reply to `endpoint`.

        Raises the owner's error, unless its type is in `passes`: `there` then gets that reply.
        """
        if self.is_here(place, reading or OWNERS):
            return await here()
        reply = await self._fetch(
            request, place, endpoint.url(**parts), query, reading.wait_s if reading else 0.0, body
        )
        answer = Answer(reply.status, reply.body, reply.headers)
        error = problem_of(answer, "that holds the partition")
        if error is not None and not isinstance(error, passes):
            raise error
        return there(reply)

    async def of_workers(
        self, service: str, endpoint: Endpoint, parts: Mapping[str, str], body: Any
    ) -> dict[str, Reply | PipelineError]:
        """Return the reply of each worker of a service, this one among them, or why there is none, by its address."""
        workers = dict.fromkeys(await self.blocking(lambda: self.router.workers(service)))

        async def one(url: str) -> Reply | PipelineError:
            what, path = f"the service {service!r}", endpoint.url(**parts)
            try:
                reply = await self._forwarding.ask({}, what, lambda: url, path, {}, body=body)
            except PipelineError as error:
                return error
            return problem_of(Answer(reply.status, reply.body, reply.headers), url) or reply

        return dict(zip(workers, await asyncio.gather(*map(one, workers)), strict=True))

    def is_here(self, place: Place, reading: ReadOptions = OWNERS) -> bool:
        """Whether this worker serves the read: as the owner, or as a standby whose copy is new enough for it."""
        table, partition = place.table, place.partition
        if reading.eventual:
            age_s = self.tables.age_s(table, partition)
            if age_s is not None and age_s <= reading.max_age_s:
                return True
            if reading.max_age_s != float("inf") and self.tables.is_replica(table, partition):
                age = "of unknown age" if age_s is None else f"{age_s:.1f} s old"
                raise TableUnavailable(f"the copy {table!r} is {age}, older than max_age allows; ask again")
        return self.tables.holds(table, partition)

    async def _fetch(
        self,
        request: Request,
        place: Place,
        url: str,
        query: Mapping[str, str],
        wait_s: float,
        body: Any,
        *,
        whole: bool = False,
    ) -> Reply:
        if place.folds is None:
            owner = partial(self.router.holder, place.table, place.partition)
        else:
            owner = partial(self.router.owner, *place.folds, place.partition)
        return await self._forwarding.ask(request.headers, place.what, owner, url, query, wait_s, body, whole=whole)
