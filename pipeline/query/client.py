"""Asks workers for rows: finds the right one over Kafka, then goes straight to it."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import suppress
from datetime import datetime
from typing import Any
from urllib.parse import quote

import httpx

from pipeline.adapters.kafka import admin
from pipeline.errors import HistoryIncomplete, PipelineError, TableUnavailable, UnknownKey
from pipeline.query.moments import moment
from pipeline.query.routing import Router
from pipeline.topology import Topology

TIMEOUT_S = 15.0
RETRY_S = 0.1
PAGE_ROWS = 1_000
ERRORS: dict[int, type[PipelineError]] = {
    404: UnknownKey,
    410: HistoryIncomplete,
    503: TableUnavailable,
}


class QueryClient:
    """Reads tables of a running topology. Use as a context manager.

    `patience_s`: how long to go on asking while nobody can answer for a partition. `eventual`: take answers of
    standbys, too; each answer says in `age_s` how old it may be.
    """

    def __init__(self, bootstrap: str, topology: Topology, patience_s: float = 5.0, *, eventual: bool = False) -> None:
        self._patience_s = patience_s
        self._query = {"consistency": "eventual"} if eventual else {}
        self._router = Router(admin(bootstrap), topology)
        self._http = httpx.Client(timeout=TIMEOUT_S)

    def __enter__(self) -> QueryClient:
        return self

    def __exit__(self, *_: object) -> None:
        self._http.close()

    def get(self, table: str, key: str) -> dict[str, Any]:
        """`{"key", "row"}`, with version and time_ms for an aggregate.

        Raises UnknownKey, UnknownTable, TableUnavailable.
        """
        partition = self._router.partition(table, key)
        return self._ask(table, partition, f"/v1/tables/{table}/{quote(key, safe='')}", self._query)

    def scan(
        self, table: str, prefix: str = "", limit: int | None = None, partition: int | None = None
    ) -> Iterator[dict[str, Any]]:
        """Rows in key order whose key begins with `prefix`, page by page; all of them where no limit is given.

        `partition`: only the rows of that one.
        """
        only = {} if partition is None else {"partition": str(partition)}
        after: str | None = ""
        while after is not None and (limit is None or limit > 0):
            rows = min(PAGE_ROWS, limit) if limit is not None else PAGE_ROWS
            query = {"prefix": prefix, "after": after, "limit": str(rows), **only, **self._query}
            page = self._ask(table, partition or 0, f"/v1/tables/{table}", query)
            yield from page["rows"]
            after = page["next"]
            limit = None if limit is None else limit - len(page["rows"])

    def history(self, aggregate: str, key: str, after: int = 0, limit: int | None = None) -> Iterator[dict[str, Any]]:
        """What has happened to one aggregate, in order, from the version that comes after `after`, page by page.

        Each `{"version", "time_ms", "command_id", "correlation_id", "event"}`, the event with its name as `type`; all
        of them where no limit is given. Raises UnknownKey, UnknownTable, NoHistory, TableUnavailable.
        """
        at: int | None = after
        while at is not None and (limit is None or limit > 0):
            events = min(PAGE_ROWS, limit) if limit is not None else PAGE_ROWS
            page = self._past(aggregate, key, "", {"after": str(at), "limit": str(events)})
            yield from page["events"]
            at = page["next"]
            limit = None if limit is None else limit - len(page["events"])

    def state_as_of(self, aggregate: str, key: str, as_of: int | str | datetime) -> dict[str, Any]:
        """`{"key", "row", "version", "time_ms", …}` as it was: the initial state at version 0 before the first event.

        `as_of`: a version; or a time, as milliseconds since the epoch, ISO 8601 or a datetime (UTC where it has no
        zone). A number below 100,000,000,000 is a version. Raises UnknownKey where the version has not been reached,
        InvalidMoment, HistoryIncomplete where the event log does not go back so far, and what `history` does.
        """
        text = as_of.isoformat() if isinstance(as_of, datetime) else str(as_of)
        moment(text)
        return self._past(aggregate, key, "/state", {"as_of": text})

    def deadlines(self, aggregate: str, key: str) -> list[dict[str, Any]]:
        """What is still to come for one aggregate, in order of time, a thousand at most.

        Each `{"kind", "name", "due_ms", "command_id", "correlation_id", "command"}`; `kind` is deadline, or scheduled
        with the command's id as its name; `due_ms` is None where it has been sent. Raises UnknownTable, NoDeadlines,
        TableUnavailable.
        """
        self._router.topology.with_deadlines(aggregate)
        partition = self._router.partition(aggregate, key)
        path = f"/v1/deadlines/{aggregate}/{quote(key, safe='')}"
        found: list[dict[str, Any]] = self._ask(aggregate, partition, path, {})["deadlines"]
        return found

    def _past(self, aggregate: str, key: str, page: str, query: dict[str, str]) -> dict[str, Any]:
        self._router.topology.with_history(aggregate)
        partition = self._router.partition(aggregate, key)
        return self._ask(aggregate, partition, f"/v1/history/{aggregate}/{quote(key, safe='')}{page}", query)

    def positions(self, service: str) -> dict[str, dict[str, Any]]:
        """What the local tables of a service's workers say of themselves, by source partition; see /v1/status."""
        found: dict[str, dict[str, Any]] = {}
        for worker in self._router.workers(service):
            with suppress(httpx.HTTPError):  # one that is gone holds nothing; the group knows it soon
                found |= self._http.get(f"{worker}/v1/status").json().get(service, {}).get("positions", {})
        return found

    def _ask(self, table: str, partition: int, path: str, query: dict[str, str]) -> dict[str, Any]:
        """Asks until there is an answer, or until patience ends: a partition that moves is back soon."""
        deadline = time.monotonic() + self._patience_s
        while True:
            try:
                return self._ask_once(table, partition, path, query)
            except TableUnavailable:
                if time.monotonic() > deadline:
                    raise
                time.sleep(RETRY_S)

    def _ask_once(self, table: str, partition: int, path: str, query: dict[str, str]) -> dict[str, Any]:
        try:
            return self._ask_at(self._router.holder(table, partition), table, path, query)
        except TableUnavailable:
            others = self._router.members(table) if self._query else []
            for member in others:
                with suppress(TableUnavailable):
                    return self._ask_at(member, table, path, query)
            raise

    def _ask_at(self, holder: str, table: str, path: str, query: dict[str, str]) -> dict[str, Any]:
        try:
            answer = self._http.get(holder + path, params=query)
        except httpx.HTTPError as error:
            self._router.forget(table)
            raise TableUnavailable(f"the worker at {holder} does not answer ({error!r}); ask again") from None
        body: dict[str, Any] = answer.json()
        if answer.status_code == 200:
            return body
        self._router.forget(table)
        detail = body.get("detail", f"the worker at {holder} answered {answer.status_code}")
        raise ERRORS.get(answer.status_code, PipelineError)(detail)
