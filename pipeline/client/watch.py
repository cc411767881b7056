"""Watching a row from outside: the steps of a client, without I/O, and how threads and event loops take them."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Iterator
from typing import Any
from urllib.parse import quote

import httpx

from pipeline.adapters.kafka.owners import Router
from pipeline.client.owner_request import RETRY_S, TIMEOUT_S, Answer, problem_of
from pipeline.client.requests import Json
from pipeline.client.wire.read_options import WAIT_S
from pipeline.client.wire.watch_end import LOST
from pipeline.errors import TableUnavailable
from pipeline.model import Token


class WatchRequest:
    """Where a reader is: `since` is the token of the last event, None before the first.

    Whatever ends a connection, the next one goes on from there, at another worker where there is one.
    """

    def __init__(
        self, router: Router, table: str, key: str, since: str | None, wait_s: float | None, patience_s: float
    ) -> None:
        self._router, self._table, self._key, self.since = router, table, key, since
        self._wait_s, self._patience_s = WAIT_S if wait_s is None else wait_s, patience_s
        self._heard_s = time.monotonic()
        self._service = router.topology.service_of(table).name
        self._fields: dict[str, str] = {}

    def workers(self) -> list[str]:
        """Addresses of those that may be asked, the partition's owner first. Blocks. Raises TableUnavailable."""
        try:
            owner = [self._router.holder(self._table, self._router.partition(self._table, self._key))]
        except TableUnavailable:
            owner = []
        try:
            return list(dict.fromkeys([*owner, *self._router.workers(self._service)]))
        except TableUnavailable:
            if self._is_over():
                raise
            return []

    def request(self, worker: str) -> dict[str, Any]:
        """What is asked of a worker, as httpx takes it."""
        asked = {"wait": f"{self._wait_s:g}"} | ({} if self.since is None else {"since": self.since})
        timeout = httpx.Timeout(TIMEOUT_S, read=TIMEOUT_S + self._wait_s)
        path = f"/v1/tables/{self._table}/{quote(self._key, safe='')}/watch"
        return {"method": "GET", "url": worker + path, "params": asked, "timeout": timeout}

    def refused(self, answer: Answer) -> None:
        """Raises what asking again does not change."""
        error = problem_of(answer)
        if error is not None and not isinstance(error, TableUnavailable) and answer.status != 503:
            raise error

    def line(self, text: str) -> Json | None:
        """Takes a line of the stream; the event that it completes, if any."""
        self._heard_s = time.monotonic()
        if text:
            name, _, value = text.partition(":")
            self._fields[name] = value.removeprefix(" ")
            return None
        fields, self._fields = self._fields, {}
        if fields.get("event") == "end":
            if json.loads(fields["data"])["reason"] == LOST:  # the topic does not hold it: the present row comes again
                self.since = None
            return None
        self.since = fields.get("id", self.since)
        if "data" not in fields:
            return None
        event: Json = json.loads(fields["data"])
        return {**event, "position": Token(event["position"])}

    def pause(self) -> float:
        """Seconds until another try. Raises TableUnavailable where nobody has answered for too long."""
        self._fields = {}
        self._router.forget(self._table)
        if self._is_over():
            raise TableUnavailable(f"no worker lets {self._table!r} be watched just now; ask again")
        return RETRY_S

    def _is_over(self) -> bool:
        return time.monotonic() - self._heard_s > self._patience_s


def watch_events(steps: WatchRequest) -> Iterator[Json]:
    """The events, in a thread."""
    with httpx.Client() as http:
        while True:
            for worker in steps.workers():
                try:
                    with http.stream(**steps.request(worker)) as response:
                        if response.status_code != 200:
                            steps.refused(_answer(response, response.read()))
                            continue
                        for text in response.iter_lines():
                            if (event := steps.line(text)) is not None:
                                yield event
                except httpx.HTTPError:
                    continue
            time.sleep(steps.pause())


async def watch_events_async(steps: WatchRequest) -> AsyncIterator[Json]:
    """The same in an event loop."""
    async with httpx.AsyncClient() as http:
        while True:
            for worker in await asyncio.to_thread(steps.workers):
                try:
                    async with http.stream(**steps.request(worker)) as response:
                        if response.status_code != 200:
                            steps.refused(_answer(response, await response.aread()))
                            continue
                        async for text in response.aiter_lines():
                            if (event := steps.line(text)) is not None:
                                yield event
                except httpx.HTTPError:
                    continue
            await asyncio.sleep(steps.pause())


def _answer(response: httpx.Response, body: bytes) -> Answer:
    is_json = "json" in response.headers.get("Content-Type", "")
    return Answer(response.status_code, json.loads(body) if is_json else None, response.headers)
