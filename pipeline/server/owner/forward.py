"""Requests to the workers that own partitions: one hop, never in a circle."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

import aiohttp
from yarl import URL

from pipeline.adapters.kafka.owners import Router
from pipeline.errors import TableUnavailable
from pipeline.server.endpoint import Reply

T = TypeVar("T")
FORWARDED = "X-Pipeline-Forwarded"
POSITION = "X-Pipeline-Position"  # the token of where a table was when it was read
VERSION = "X-Pipeline-Version"  # of an aggregate
ROWS = "X-Pipeline-Row-Position"  # the token of how far the table's row topic is in the answer
ASKED, ANSWERED = ("If-None-Match",), ("ETag", POSITION, VERSION, ROWS)  # what is forwarded, there and back
RETRY = {"Retry-After": "1"}
TIMEOUT_S = 10.0


def _those(headers: Mapping[str, str], names: Sequence[str]) -> dict[str, str]:
    return {name: headers[name] for name in names if name in headers}


class Forwarding:
    """Asks other workers."""

    def __init__(self, router: Router) -> None:
        self.router = router
        self._session: aiohttp.ClientSession | None = None

    async def blocking(self, call: Callable[[], T]) -> T:
        """Runs what would hold the event loop up."""
        return await asyncio.get_running_loop().run_in_executor(None, call)

    async def ask(
        self,
        asked: Mapping[str, str],
        what: str,
        owner: Callable[[], str],
        path: str,
        query: Mapping[str, str],
        wait_s: float = 0.0,
        body: Any = None,
        *,
        whole: bool = False,
    ) -> Reply:
        """The reply of the worker that `owner` names, about `what`. `asked`: the headers of the request.

        `wait_s`: how long that worker may wait itself; `body`: JSON to be posted. `whole`: its reply will be that to
        the request, so it may be 304. Raises TableUnavailable.
        """
        if FORWARDED in asked:
            raise TableUnavailable(f"{what} is moving between workers; ask again")
        holder = await self.blocking(owner)
        if self._session is None:
            self._session = aiohttp.ClientSession()
        try:
            url = URL(holder + path, encoded=True)  # the key is quoted already
            async with self._session.request(
                "GET" if body is None else "POST",
                url.with_query(query) if query else url,
                headers={FORWARDED: "1", **(_those(asked, ASKED) if whole else {})},
                json=body,
                timeout=aiohttp.ClientTimeout(total=TIMEOUT_S + wait_s),
            ) as answer:
                if answer.status == 503:
                    self.router.forget_all()
                text = await answer.read()
                headers = _those(answer.headers, ANSWERED) | (RETRY if answer.status == 503 else {})
                return Reply(answer.status, json.loads(text) if text else None, headers, answer.content_type)
        except (aiohttp.ClientError, TimeoutError, ValueError) as error:
            self.router.forget_all()
            raise TableUnavailable(f"the worker at {holder}, which has {what}, does not answer: {error}") from None

    async def close(self) -> None:
        """Closes the connections to other workers."""
        if self._session is not None:
            await self._session.close()
