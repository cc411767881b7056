"""Questions about a partition held elsewhere: forwarded to its holder, one hop, never in a circle."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple, TypeVar

import aiohttp
from aiohttp import web
from yarl import URL

from pipeline.adapters.kafka.owners import Router
from pipeline.errors import TableUnavailable
from pipeline.server.problems import RETRY, answer

T = TypeVar("T")
FORWARDED = "X-Pipeline-Forwarded"
POSITION = "X-Pipeline-Position"  # the token of where a table was when it was read
VERSION = "X-Pipeline-Version"  # of an aggregate
ROWS = "X-Pipeline-Row-Position"  # the token of how far the table's row topic is in the answer
ASKED, ANSWERED = ("If-None-Match",), ("ETag", POSITION, VERSION, ROWS)  # what is forwarded, there and back
TIMEOUT_S = 10.0


class Fetched(NamedTuple):
    """What a holder has answered. `headers`: those that are its answer's, not the connection's."""

    status: int
    body: Any
    kind: str
    headers: dict[str, str]


def _told(headers: Mapping[str, str], names: Sequence[str]) -> dict[str, str]:
    return {name: headers[name] for name in names if name in headers}


class Forwarding:
    """Finds holders, and asks them."""

    def __init__(self, router: Router) -> None:
        self.router = router
        self._session: aiohttp.ClientSession | None = None

    async def blocking(self, call: Callable[[], T]) -> T:
        """Runs what would hold the event loop up."""
        return await asyncio.get_running_loop().run_in_executor(None, call)

    async def partition(self, table: str, key: str) -> int:
        """The partition of `table` that holds `key`; without waiting for anybody where that is known."""
        if self.router.knows(table):
            return self.router.partition(table, key)
        return await self.blocking(lambda: self.router.partition(table, key))

    async def fetch(
        self,
        request: web.Request,
        table: str,
        partition: int,
        path: str,
        query: Mapping[str, str],
        wait_s: float = 0.0,
        body: Any = None,
        *,
        whole: bool = False,
    ) -> Fetched:
        """The holder's answer. `wait_s`: how long it may wait itself; `body`: JSON to be posted.

        `whole`: its answer will be that to the request, so it may be 304. Raises TableUnavailable.
        """
        owner, what = partial(self.router.holder, table, partition), f"partition {partition} of {table!r}"
        return await self.ask(request, what, owner, path, query, wait_s, body, whole=whole)

    async def ask(
        self,
        request: web.Request,
        what: str,
        owner: Callable[[], str],
        path: str,
        query: Mapping[str, str],
        wait_s: float = 0.0,
        body: Any = None,
        *,
        whole: bool = False,
    ) -> Fetched:
        """Fetch from the worker that `owner` names; `what` is named in errors. Raises TableUnavailable."""
        if FORWARDED in request.headers:
            raise TableUnavailable(f"{what} is moving between workers; ask again")
        holder = await self.blocking(owner)
        if self._session is None:
            self._session = aiohttp.ClientSession()
        try:
            url = URL(holder + path, encoded=True)  # the key is quoted already
            async with self._session.request(
                "GET" if body is None else "POST",
                url.with_query(query) if query else url,
                headers={FORWARDED: "1", **(_told(request.headers, ASKED) if whole else {})},
                json=body,
                timeout=aiohttp.ClientTimeout(total=TIMEOUT_S + wait_s),
            ) as answer:
                if answer.status == 503:
                    self.router.forget_all()
                told = await answer.read()
                content = json.loads(told) if told else None
                return Fetched(answer.status, content, answer.content_type, _told(answer.headers, ANSWERED))
        except (aiohttp.ClientError, TimeoutError, ValueError) as error:
            self.router.forget_all()
            raise TableUnavailable(f"the worker at {holder}, which has {what}, does not answer: {error}") from None

    async def pass_on(
        self,
        request: web.Request,
        table: str,
        partition: int,
        path: str,
        query: Mapping[str, str],
        wait_s: float = 0.0,
    ) -> web.Response:
        """The holder's answer, for who has asked here."""
        status, body, kind, headers = await self.fetch(request, table, partition, path, query, wait_s, whole=True)
        if status == 304:
            return web.Response(status=304, headers=headers)
        return answer(status, body, {**headers, **(RETRY if status == 503 else {})}, kind)

    async def close(self) -> None:
        """Closes the connections to other workers."""
        if self._session is not None:
            await self._session.close()
