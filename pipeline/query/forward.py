"""Questions about a partition held elsewhere: forwarded to its holder, one hop, never in a circle."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial
from typing import Any, TypeVar

import aiohttp
from aiohttp import web
from yarl import URL

from pipeline.errors import TableUnavailable
from pipeline.query.problems import RETRY, answer
from pipeline.query.routing import Router

T = TypeVar("T")
FORWARDED = "X-Pipeline-Forwarded"
TIMEOUT_S = 10.0


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
        self, request: web.Request, table: str, partition: int, path: str, query: dict[str, str]
    ) -> tuple[int, Any, str]:
        """Status, JSON and content type of the holder's answer. Raises TableUnavailable."""
        owner = partial(self.router.holder, table, partition)
        return await self.ask(request, f"partition {partition} of {table!r}", owner, "GET", path, query)

    async def ask(
        self,
        request: web.Request,
        what: str,
        owner: Callable[[], str],
        method: str,
        path: str,
        query: dict[str, str],
        body: Any = None,
    ) -> tuple[int, Any, str]:
        """The same of the worker that `owner` names, for `what` it is to be asked about. Raises TableUnavailable."""
        if FORWARDED in request.headers:
            raise TableUnavailable(f"{what} is moving between workers; ask again")
        holder = await self.blocking(owner)
        if self._session is None:
            self._session = aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=TIMEOUT_S))
        url = URL(holder + path, encoded=True)  # the key is quoted already
        asked = self._session.request(
            method, url.with_query(query) if query else url, json=body, headers={FORWARDED: "1"}
        )
        try:
            async with asked as answer:
                if answer.status == 503:
                    self.router.forget_all()
                return answer.status, await answer.json(content_type=None), answer.content_type
        except (aiohttp.ClientError, TimeoutError, ValueError) as error:
            self.router.forget_all()
            raise TableUnavailable(f"the worker at {holder}, which has {what}, does not answer: {error}") from None

    async def pass_on(
        self, request: web.Request, table: str, partition: int, path: str, query: dict[str, str]
    ) -> web.Response:
        """The holder's answer, for who has asked here."""
        status, body, kind = await self.fetch(request, table, partition, path, query)
        return answer(status, body, RETRY if status == 503 else None, kind)

    async def close(self) -> None:
        """Closes the connections to other workers."""
        if self._session is not None:
            await self._session.close()
