"""Questions about a partition held elsewhere: forwarded to its holder, one hop, never in a circle."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
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
        if FORWARDED in request.headers:
            raise TableUnavailable(f"partition {partition} of {table!r} is moving between workers; ask again")
        holder = await self.blocking(lambda: self.router.holder(table, partition))
        if self._session is None:
            self._session = aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=TIMEOUT_S))
        try:
            url = URL(holder + path, encoded=True)  # the key is quoted already
            async with self._session.get(url.with_query(query) if query else url, headers={FORWARDED: "1"}) as answer:
                if answer.status == 503:
                    self.router.forget(table)
                return answer.status, await answer.json(content_type=None), answer.content_type
        except (aiohttp.ClientError, TimeoutError, ValueError) as error:
            self.router.forget(table)
            raise TableUnavailable(
                f"the worker at {holder}, which holds partition {partition}, does not answer: {error}"
            ) from None

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
