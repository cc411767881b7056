"""Asks workers for rows: finds the right one over Kafka, then goes straight to it. For threads, and for asyncio."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import suppress
from datetime import datetime
from typing import TYPE_CHECKING, Unpack

import httpx
from prometheus_client import CollectorRegistry

from pipeline.adapters.kafka import admin
from pipeline.adapters.kafka.owners import Router
from pipeline.client.drive import drive, drive_async
from pipeline.client.near_cache.cache import Figures
from pipeline.client.near_cache.thread import NearCacheThread
from pipeline.client.owner_request import TIMEOUT_S
from pipeline.client.requests import PAGE_ROWS, Json, JsonSteps, Options, Requests, wanted_rows
from pipeline.client.watch import WatchRequest, watch_events, watch_events_async
from pipeline.model.saga.saga import IN_FLIGHT
from pipeline.topology import Topology

if TYPE_CHECKING:
    from aiohttp import ClientSession

KEYS_AT_ONCE = 500


class _Client:
    """What clients for threads and for asyncio have in common; see QueryClient."""

    def __init__(
        self,
        bootstrap: str,
        topology: Topology,
        patience_s: float = 5.0,
        *,
        eventual: bool = False,
        cache_bytes: int = 0,
        registry: CollectorRegistry | None = None,
    ) -> None:
        self._router, self._patience_s = Router(admin(bootstrap), topology), patience_s
        self._near = NearCacheThread(bootstrap, topology, cache_bytes, registry) if cache_bytes else None
        cache = None if self._near is None else self._near.cache
        self._questions = Requests(self._router, patience_s, eventual=eventual, near=cache)
        self._connect()

    def _connect(self) -> None:
        raise NotImplementedError

    def cache_figures(self) -> Figures | None:
        """What the near cache has done; None where there is none."""
        return None if self._near is None else self._near.cache.figures()


class QueryClient(_Client):
    """Reads tables of a running topology. Use as a context manager.

    `patience_s`: how long to go on asking while nobody can answer for a partition. `eventual`: take answers of
    standbys, too, unless something else is asked for; each answer says in `age_s` how old it may be.

    `cache_bytes`: for a near cache, which answers `get` with `at_least` or of `eventual` where it is new enough; what
    it does is told by `cache_figures`, and to `registry`.
    """

    def _connect(self) -> None:
        self._http = httpx.Client(timeout=TIMEOUT_S)

    def __enter__(self) -> QueryClient:
        return self

    def __exit__(self, *_: object) -> None:
        self._http.close()
        if self._near is not None:
            self._near.close()

    def get(self, table: str, key: str, **options: Unpack[Options]) -> Json:
        """`{"key", "row", "position"}`, with version and time_ms for an aggregate; see Options, docs/consistency.md.

        `position`: the token of where the table was. Raises UnknownKey, UnknownTable, TableUnavailable; InvalidToken,
        ForeignToken, NoSuchConsistency, and NotYet where the table has not got there in time.
        """
        return self._take(self._questions.row(table, key, options))

    def get_many(self, table: str, keys: Sequence[str], **options: Unpack[Options]) -> list[Json | None]:
        """The rows of several keys, in the order of the keys; None where there is none. Raises as `get`."""
        found: list[Json | None] = []
        for at in range(0, len(keys), KEYS_AT_ONCE):
            few = list(keys[at : at + KEYS_AT_ONCE])
            found += self._take(self._questions.several(table, few, options))["rows"]
        return found

    def read_together(self, keys: Sequence[tuple[str, str]], wait: float | None = None) -> list[Json | None]:
        """The rows of several aggregates, each `(table, key)`, as they were at one moment after this was asked.

        In the order of the keys, each with its `table`; None where there is none. No row of them had anything held, so
        of work committed in two phases there is all or nothing. `wait`: seconds that this may take, 5 where nothing is
        said. Raises Contended where there was no such moment, NoSuchConsistency where a table is no aggregate's, and
        what `get` does.
        """
        rows: list[Json | None] = self._take(self._questions.together(keys, wait))["rows"]
        return rows

    def scan(
        self,
        table: str,
        prefix: str = "",
        limit: int | None = None,
        partition: int | None = None,
        *,
        start: str = "",
        to: str = "",
        index: str = "",
        value: str = "",
        **options: Unpack[Options],
    ) -> Iterator[Json]:
        """Rows in key order whose key begins with `prefix`, page by page; all of them where no limit is given.

        `start`, `to`: only keys from the first and before the second. `index`, `value`: only rows to which that index
        gives that value. `partition`: only the rows of that one. Raises as `get`.
        """
        after: str | None = ""
        while after is not None and (limit is None or limit > 0):
            wanted = wanted_rows(prefix, start, to, index, value, after, limit)
            page = self._take(self._questions.page(table, partition, wanted, options))
            yield from page["rows"]
            after = page["next"]
            limit = None if limit is None else limit - len(page["rows"])

    def watch(self, table: str, key: str, since: str | None = None, *, wait: float | None = None) -> Iterator[Json]:
        """Each new row of a key, for ever: `{"key", "row", "position"}` as from `get`; a deleted one is None.

        Without `since` the first is the present row. `since`: the `position` of an event, to go on behind it; of a
        command or a read, to begin with a row that contains it, for which there may pass `wait` seconds; empty, to
        begin with all that the row topic still holds. Goes on by itself where a worker goes; raises TableUnavailable
        once there is none for `patience_s`, UnknownTable, BadRequest for a replica, and what a read raises.
        """
        return watch_events(WatchRequest(self._router, table, key, since, wait, self._patience_s))

    def history(self, aggregate: str, key: str, after: int = 0, limit: int | None = None) -> Iterator[Json]:
        """What has happened to one aggregate, in order, from the version that comes after `after`, page by page.

        Each `{"version", "time_ms", "command_id", "correlation_id", "event"}`, the event with its name as `type`; all
        of them where no limit is given. Raises UnknownKey, UnknownTable, NoHistory, TableUnavailable.
        """
        at: int | None = after
        while at is not None and (limit is None or limit > 0):
            events = min(PAGE_ROWS, limit) if limit is not None else PAGE_ROWS
            page = self._take(self._questions.events(aggregate, key, at, events))
            yield from page["events"]
            at = page["next"]
            limit = None if limit is None else limit - len(page["events"])

    def state_as_of(self, aggregate: str, key: str, as_of: int | str | datetime) -> Json:
        """`{"key", "row", "version", "time_ms", …}` as it was: the initial state at version 0 before the first event.

        `as_of`: a version; or a time, as milliseconds since the epoch, ISO 8601 or a datetime (UTC where it has no
        zone). A number below 100,000,000,000 is a version. Raises UnknownKey where the version has not been reached,
        InvalidMoment, HistoryIncomplete where the event log does not go back so far, and what `history` does.
        """
        return self._take(self._questions.state_as_of(aggregate, key, as_of))

    def deadlines(self, aggregate: str, key: str) -> list[Json]:
        """What is still to come for one aggregate, in order of time, a thousand at most.

        Each `{"kind", "name", "due_ms", "command_id", "correlation_id", "command"}`; `kind` is deadline, or scheduled
        with the command's id as its name; `due_ms` is None where it has been sent. Raises UnknownTable, NoDeadlines,
        TableUnavailable.
        """
        found: list[Json] = self._take(self._questions.deadlines(aggregate, key))["deadlines"]
        return found

    def sagas(self, saga: str | None = None, states: Sequence[str] = IN_FLIGHT) -> Iterator[Json]:
        """Where the instances of a saga stand, or of all sagas, by saga and key; those whose status is one of `states`.

        Each `{"saga", "key", "status", "step", "attempt", "waits_for", "reason", "blocks", "since"}`. Raises
        UnknownTable, TableUnavailable.
        """
        known = self._router.topology
        for name in sorted(known.sagas) if saga is None else [known.saga(saga).name]:
            after: str | None = ""
            while after is not None:
                page = self._take(self._questions.sagas(name, states, after))
                yield from page["sagas"]
                after = page["next"]

    def saga(self, saga: str, key: str) -> Json:
        """Where one instance stands, as `sagas` says it, with its `version` and `state`. Raises UnknownKey, too."""
        return self._take(self._questions.saga(saga, key))

    def positions(self, service: str) -> dict[str, Json]:
        """What the local tables of a service's workers say of themselves, by source partition; see /v1/status."""
        found: dict[str, Json] = {}
        for worker in self._router.workers(service):
            with suppress(httpx.HTTPError):  # one that is gone holds nothing; the group knows it soon
                found |= self._http.get(f"{worker}/v1/status").json().get(service, {}).get("positions", {})
        return found

    def _take(self, steps: JsonSteps) -> Json:
        return drive(self._http, steps)


class AsyncQueryClient(_Client):
    """The same for asyncio: `await client.get(...)`, `async for row in client.scan(...)`. For one event loop."""

    def _connect(self) -> None:
        self._http: ClientSession | None = None

    async def __aenter__(self) -> AsyncQueryClient:
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._http is not None:
            await self._http.close()
        if self._near is not None:
            await asyncio.to_thread(self._near.close)

    async def get(self, table: str, key: str, **options: Unpack[Options]) -> Json:
        """As QueryClient.get."""
        return await self._take(self._questions.row(table, key, options))

    async def get_many(self, table: str, keys: Sequence[str], **options: Unpack[Options]) -> list[Json | None]:
        """As QueryClient.get_many."""
        found: list[Json | None] = []
        for at in range(0, len(keys), KEYS_AT_ONCE):
            few = list(keys[at : at + KEYS_AT_ONCE])
            found += (await self._take(self._questions.several(table, few, options)))["rows"]
        return found

    async def read_together(self, keys: Sequence[tuple[str, str]], wait: float | None = None) -> list[Json | None]:
        """As QueryClient.read_together."""
        rows: list[Json | None] = (await self._take(self._questions.together(keys, wait)))["rows"]
        return rows

    async def scan(
        self,
        table: str,
        prefix: str = "",
        limit: int | None = None,
        partition: int | None = None,
        *,
        start: str = "",
        to: str = "",
        index: str = "",
        value: str = "",
        **options: Unpack[Options],
    ) -> AsyncIterator[Json]:
        """As QueryClient.scan."""
        after: str | None = ""
        while after is not None and (limit is None or limit > 0):
            wanted = wanted_rows(prefix, start, to, index, value, after, limit)
            page = await self._take(self._questions.page(table, partition, wanted, options))
            for row in page["rows"]:
                yield row
            after = page["next"]
            limit = None if limit is None else limit - len(page["rows"])

    def watch(
        self, table: str, key: str, since: str | None = None, *, wait: float | None = None
    ) -> AsyncIterator[Json]:
        """As QueryClient.watch."""
        return watch_events_async(WatchRequest(self._router, table, key, since, wait, self._patience_s))

    async def _take(self, steps: JsonSteps) -> Json:
        if self._http is None:  # it needs a running event loop
            from aiohttp import ClientSession  # slow to load; a read costs a fraction of what it does by httpx

            self._http = ClientSession()
        return await drive_async(self._http, steps)
