"""Requests to the workers that own partitions: one hop, so they never go in a circle."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

import aiohttp
from yarl import URL

from pipeline.adapters.kafka.owners import Router
from pipeline.client.wire.access import Access
from pipeline.client.wire.trace import brought
from pipeline.engine.tracing.port import HEADER
from pipeline.errors import TableUnavailable
from pipeline.server.endpoint import Reply
from pipeline.server.replies import RETRY

T = TypeVar("T")
FORWARDED = "X-Pipeline-Forwarded"
POSITION = "X-Pipeline-Position"  # the token of the table's position when it was read
VERSION = "X-Pipeline-Version"  # an aggregate's
ROWS = "X-Pipeline-Row-Position"  # the token up to which the row is that of the table's row topic
CONDITIONS, ANSWERED = ("If-Match", "If-None-Match"), ("ETag", POSITION, VERSION, ROWS)  # forwarded there, and back
TIMEOUT_S = 10.0


def _those(headers: Mapping[str, str], names: Sequence[str]) -> dict[str, str]:
    return {name: headers[name] for name in names if name in headers}


def _trace() -> dict[str, str]:
    """Return the header by which the other worker goes on with the trace of the request."""
    return {} if (header := brought()) is None else {HEADER: header.decode()}


class Forwarding:
    """Sends requests to other workers. `access`: what they prove themselves with; None: what the environment says."""

    def __init__(self, router: Router, access: Access | None = None) -> None:
        self.router, self._access = router, access or Access()
        self._session: aiohttp.ClientSession | None = None

    async def blocking(self, call: Callable[[], T]) -> T:
        """Run a blocking call outside the event loop."""
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
        """Return the reply of the worker that `owner` names.

        `asked`: the request's headers; `what`: the subject in errors. `wait_s`: how long that worker may wait itself;
        `body`: JSON to post. `whole`: its reply is the reply to the request, so it may be 304. Raises TableUnavailable.
        """
        if FORWARDED in asked:
            raise TableUnavailable(f"{what} is moving between workers; ask again")
        holder = await self.blocking(owner)
        if self._session is None:
            self._session = aiohttp.ClientSession()
        try:
            url = URL(holder + path, encoded=True)  # the key is percent-encoded already
            async with self._session.request(
                "GET" if body is None else "POST",
                url.with_query(query) if query else url,
                headers={
                    FORWARDED: "1",
                    **self._access.headers(),
                    **(_those(asked, CONDITIONS) if whole else {}),
                    **_trace(),
                },
                json=body,
                timeout=aiohttp.ClientTimeout(total=TIMEOUT_S + wait_s),
            ) as answer:
                if answer.status == 503:
                    self.router.forget_all()
                if answer.status == 401:
                    raise TableUnavailable(
                        f"the worker at {holder}, which has {what}, does not take the access token that this one has "
                        "taken; all workers of a topology need the same tokens in their --token-file"
                    )
                text = await answer.read()
                headers = _those(answer.headers, ANSWERED) | (RETRY if answer.status == 503 else {})
                return Reply(answer.status, json.loads(text) if text else None, headers, answer.content_type)
        except (aiohttp.ClientError, TimeoutError, ValueError) as error:
            self.router.forget_all()
            raise TableUnavailable(f"the worker at {holder}, which has {what}, does not respond: {error}") from None

    async def close(self) -> None:
        """Close the connections to other workers."""
        if self._session is not None:
            await self._session.close()
