"""The steps of a client that watches a row, without I/O."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from typing import Any

from pipeline.adapters.kafka.owners import Router
from pipeline.client.owner_request import (
    RETRY_S,
    TIMEOUT_S,
    Answer,
    Blocking,
    HttpCall,
    Items,
    Json,
    Open,
    Read,
    Sleep,
    Stream,
    problem_of,
)
from pipeline.client.wire.paths import path_part
from pipeline.client.wire.read_options import WAIT_S
from pipeline.client.wire.watch_end import LOST
from pipeline.errors import TableUnavailable
from pipeline.model import Token


class WatchRequest:
    """A watch of one key. `since`: the token of the last event, None before the first. `read`: makes rows of events.

    If a connection ends, the next one goes on from there, at another worker if there is one.
    """

    def __init__(
        self,
        router: Router,
        table: str,
        key: str,
        since: str | None,
        wait_s: float | None,
        patience_s: float,
        read: Callable[[Json], Any] = lambda row: row,
    ) -> None:
        self._router, self._table, self._key, self.since, self._read = router, table, key, since, read
        self._wait_s, self._patience_s = WAIT_S if wait_s is None else wait_s, patience_s
        self._heard_s = time.monotonic()
        self._service = router.topology.service_of(table).name
        self._fields: dict[str, str] = {}
        self._rest = b""  # an incomplete last line

    def steps(self) -> Stream[Any]:
        """Yield the events, for ever."""
        while True:
            workers: list[str] = yield Blocking(self.workers)
            for worker in workers:
                answer: Answer | None = yield Open(self.request(worker))
                if answer is not None and answer.status != 200:
                    self.refused(answer)
                elif answer is not None:
                    chunk: bytes = yield Read()
                    while chunk:
                        yield Items([self._read(event) for event in self.events(chunk)])
                        chunk = yield Read()
                self._fields, self._rest = {}, b""
            yield Sleep(self.pause())

    def workers(self) -> list[str]:
        """Return the addresses of the workers to ask, the partition's owner first. Blocks. Raises TableUnavailable."""
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

    def request(self, worker: str) -> HttpCall:
        """Return the request to a worker. Its time-out is the longest silence."""
        asked = {"wait": f"{self._wait_s:g}"} | ({} if self.since is None else {"since": self.since})
        path = f"/v1/tables/{self._table}/{path_part(self._key)}/watch"
        return HttpCall(worker, path, asked, TIMEOUT_S + self._wait_s)

    def refused(self, answer: Answer) -> None:
        """Raise an error that asking again does not change."""
        error = problem_of(answer)
        if error is not None and not isinstance(error, TableUnavailable) and answer.status != 503:
            raise error

    def events(self, chunk: bytes) -> Iterator[Json]:
        """Take bytes of the stream and yield the events that they complete."""
        self._heard_s = time.monotonic()
        *lines, self._rest = (self._rest + chunk).split(b"\n")
        for line in lines:
            if (event := self._line(line.removesuffix(b"\r").decode())) is not None:
                yield event

    def _line(self, text: str) -> Json | None:
        if text:
            name, _, value = text.partition(":")
            self._fields[name] = value.removeprefix(" ")
            return None
        fields, self._fields = self._fields, {}
        if fields.get("event") == "end":
            if json.loads(fields["data"])["reason"] == LOST:  # the topic no longer holds it: start at the present row
                self.since = None
            return None
        self.since = fields.get("id", self.since)
        if "data" not in fields:
            return None
        event: Json = json.loads(fields["data"])
        return {**event, "position": Token(event["position"])}

    def pause(self) -> float:
        """Return the seconds until the next try. Raises TableUnavailable after `patience_s` without a response."""
        self._router.forget(self._table)
        if self._is_over():
            raise TableUnavailable(f"no worker can watch {self._table!r} at present; ask again")
        return RETRY_S

    def _is_over(self) -> bool:
        return time.monotonic() - self._heard_s > self._patience_s
