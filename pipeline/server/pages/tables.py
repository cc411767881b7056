"""Tables over HTTP, and a worker's status, metrics and OpenAPI document."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from contextlib import suppress
from hashlib import blake2b
from json import dumps
from typing import Any, NamedTuple

from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest

from pipeline.client.wire.read_options import Level, Pending, ReadOptions
from pipeline.errors import BadRequest, NotYet, UnknownAggregate
from pipeline.model import Token
from pipeline.server.docs_page import docs_page
from pipeline.server.endpoint import Json, Page, Pages, Place, Reply, Request, problem
from pipeline.server.endpoints.tables import AGGREGATE, DOCS, GET, METRICS, OPENAPI, ROW, ROWS, STATUS, TABLES
from pipeline.server.entity_tags import parse_tags
from pipeline.server.openapi import document
from pipeline.server.owner.dispatch import Dispatcher
from pipeline.server.owner.forward import POSITION, VERSION
from pipeline.server.owner.forward import ROWS as ROW_POSITION
from pipeline.server.reads.consistency import Consistency
from pipeline.server.reads.held_work import HeldWork
from pipeline.server.reads.local_tables import Found, LocalTables, Range

KEYS_MAX = 1_000  # of one request


class Part(NamedTuple):
    """Rows of one partition, the token of its position, and its age in seconds, None if unknown."""

    rows: Sequence[dict[str, Any]]
    token: Token
    age_s: float | None


class QueryApi:
    """Serves reads of tables on one worker."""

    def __init__(
        self,
        tables: LocalTables,
        dispatcher: Dispatcher,
        consistency: Consistency,
        status: Callable[[], Any],
        metrics: CollectorRegistry,
        *,
        asks_for_token: bool = False,
    ) -> None:
        self._tables, self._dispatcher, self._consistency = tables, dispatcher, consistency
        self._status, self._metrics, self._asks_for_token = status, metrics, asks_for_token
        self._topology = dispatcher.topology
        self._pending = HeldWork(self._topology)

    def check(self, table: str, asked: ReadOptions) -> None:
        """Raise UnknownTable, and NoSuchConsistency if the table cannot be read so."""
        self._consistency.check(table, asked)
        self._pending.check(table, asked)

    def pages(self) -> Pages:
        """Return the pages."""
        return {
            ROW: Page(self.row, self._check_row),
            AGGREGATE: Page(self.row, self._check_aggregate),
            ROWS: Page(self.rows, self._check_rows),
            GET: Page(self.rows_of, self._check_rows),
            TABLES: Page(self.tables),
            STATUS: Page(self.status),
            OPENAPI: Page(self.openapi),
            DOCS: Page(self.docs),
            METRICS: Page(self.metrics),
        }

    # --- pages --------------------------------------------------------------------------------------------------------

    def _check_row(self, request: Request) -> None:
        self.check(request.parts["table"], request.reading)

    def _check_aggregate(self, request: Request) -> None:
        name = request.parts["table"]
        if all(name != aggregate.name for s in self._topology.services.values() for aggregate in s.owned):
            raise UnknownAggregate(f"no aggregate {name!r}")
        self._check_row(request)

    def _check_rows(self, request: Request) -> None:
        self._check_row(request)
        if request.reading.pending is Pending.WAIT:
            raise BadRequest("pending=wait is for one row; among several, some may always be held")

    async def row(self, request: Request) -> Reply:
        """Return one row."""
        table, key, asked, partition = request.parts["table"], request.parts["key"], request.reading, request.partition
        found = await self._found(table, partition, key, asked)
        token = self._consistency.token(table, partition, found.position)
        headers = {POSITION: str(token)} if token else {}
        rows = self._consistency.rows_token(table, partition, found.rows)
        headers |= {ROW_POSITION: str(rows)} if rows else {}
        if found.row is None:
            return problem(404, f"no row under {key!r} in table {table!r}", "UnknownKey", headers)
        if "version" in found.row:
            headers[VERSION] = str(found.row["version"])
        age = {"age_s": self._tables.age_s(table, partition)} if asked.eventual else {}
        return tagged(request, {**found.row, **age}, found.tag, headers)

    async def rows(self, request: Request) -> Reply:
        """Return rows in key order, of all partitions or of the one that `partition` names."""
        table, only = request.parts["table"], request["partition"]
        wanted = self._range(table, request)
        count = await self._dispatcher.blocking(lambda: self._dispatcher.router.partitions(table))
        partitions = range(count) if only is None else [only]
        parts = await asyncio.gather(*[self._scan(request, table, n, wanted) for n in partitions])
        found = sorted((row for part in parts for row in part.rows), key=lambda r: r["key"].encode())
        page = {
            "rows": found[: wanted.limit],
            "next": found[wanted.limit - 1]["key"] if len(found) >= wanted.limit else None,
        }
        return self._page(request, page, parts)

    async def rows_of(self, request: Request) -> Reply:
        """Return the rows of several keys, in the order of the keys, null for a key without a row."""
        table, keys = request.parts["table"], _keys(request.body)
        parts = await self.several(request, [(table, key) for key in keys], request.reading)
        found = {row["key"]: row for part in parts.values() for row in part.rows}
        return self._page(request, {"rows": [found.get(key) for key in keys]}, list(parts.values()))

    async def tables(self, request: Request) -> Reply:
        """Return all tables of the topology, by service."""
        services = self._topology.services.values()
        return Reply(200, {s.name: [*s.tables(), *(r.name for r in s.replicas)] for s in services})

    async def status(self, request: Request) -> Reply:
        """Return what this worker runs, and its figures."""
        return Reply(200, self._status())

    async def openapi(self, request: Request) -> Reply:
        """Return the OpenAPI document."""
        return Reply(200, self._document())

    async def docs(self, request: Request) -> Reply:
        """Return the OpenAPI document as a page for people."""
        return Reply(200, docs_page(self._document()), kind="text/html; charset=utf-8")

    def _document(self) -> Json:
        return document(self._topology, asks_for_token=self._asks_for_token)

    async def metrics(self, request: Request) -> Reply:
        """Return metrics for Prometheus."""
        return Reply(200, generate_latest(self._metrics), kind=CONTENT_TYPE_LATEST)

    # --- of one partition ---------------------------------------------------------------------------------------------

    async def _found(self, table: str, partition: int, key: str, asked: ReadOptions) -> Found:
        """Read one row here."""
        until_s = asyncio.get_running_loop().time() + asked.wait_s
        if not asked.eventual:
            await self._consistency.reach(table, partition, asked)
        show = self._pending.show(table, asked)
        while True:
            if self._tables.waits(table, partition):
                found = await self._dispatcher.blocking(lambda: self._tables.read(table, partition, key, show))
            else:
                found = self._tables.read(table, partition, key, show)
            held = found.row and found.row.get("pending")
            if not held or asked.pending is not Pending.WAIT:
                return found
            if not await self._consistency.change(table, partition, found.position or 0, until_s):
                raise NotYet(f"{key!r} of {table!r} still holds something for {held[0]!r}; ask again")

    async def _scan(self, request: Request, table: str, partition: int, wanted: Range) -> Part:
        """Return rows of one partition in key order."""
        asked, index_of = request.reading, self._topology.indexes(table).get(wanted.index)
        show = self._pending.show(table, asked)
        return await self._dispatcher.share(
            request,
            Place(table, partition),
            lambda: self._here(
                table, partition, asked, lambda: self._tables.scan(table, partition, wanted, index_of, show)
            ),
            _part,
            ROWS,
            {"table": table},
            {"partition": str(partition), **wanted.query(), **asked.query()},
            reading=asked,
        )

    async def version(self, request: Request, aggregate: str, key: str) -> int:
        """Return an aggregate's version after all that was stored before this call; 0 if it has no events."""
        parts = await self.several(request, [(aggregate, key)], ReadOptions(Level.LINEARIZABLE))
        return next((int(row["version"]) for part in parts.values() for row in part.rows), 0)

    async def several(
        self, request: Request, keys: Sequence[tuple[str, str]], asked: ReadOptions
    ) -> dict[tuple[str, int], Part]:
        """Return the rows of these tables and keys, by table and partition."""
        places: dict[tuple[str, int], list[str]] = {}
        for table, key in dict.fromkeys(keys):
            places.setdefault((table, await self._dispatcher.partition(table, key)), []).append(key)
        parts = await asyncio.gather(*[self._few(request, Place(*at), few, asked) for at, few in places.items()])
        return dict(zip(places, parts, strict=True))

    async def _few(self, request: Request, place: Place, keys: list[str], asked: ReadOptions) -> Part:
        """Return the rows of some keys of one partition."""
        table, partition = place.table, place.partition
        get, show = self._tables.get, self._pending.show(table, asked)
        return await self._dispatcher.share(
            request,
            place,
            lambda: self._here(
                table, partition, asked, lambda: [row for key in keys if (row := get(table, partition, key, show))]
            ),
            _part,
            GET,
            {"table": table},
            asked.query(),
            {"keys": keys},
            asked,
        )

    async def _here(
        self, table: str, partition: int, asked: ReadOptions, read: Callable[[], Sequence[dict[str, Any]]]
    ) -> Part:
        """Return rows of one partition from here, each at least as new as the token."""
        if not asked.eventual:
            await self._consistency.reach(table, partition, asked)
        age_s = self._tables.age_s(table, partition)

        def rows() -> tuple[int | None, Sequence[dict[str, Any]]]:
            return self._tables.read(table, partition, "").position, read()  # in this order: no row is older

        position, found = await self._dispatcher.blocking(rows)
        return Part(found, self._consistency.token(table, partition, position), age_s)

    def _page(self, request: Request, page: dict[str, Any], parts: Sequence[Part]) -> Reply:
        token = Token()
        for part in parts:
            token |= part.token
        if request.reading.eventual:
            ages = [part.age_s for part in parts]
            page["age_s"] = None if None in ages else max((age_s for age_s in ages if age_s is not None), default=0.0)
        digest = blake2b(dumps(page["rows"]).encode(), digest_size=8).hexdigest()
        return tagged(request, page, digest, {POSITION: str(token)} if token else {})

    def _range(self, table: str, request: Request) -> Range:
        """Return the requested range of the table. Raises BadRequest."""
        index, value = request["index"], request["value"]
        if (index is None) != (value is None):
            raise BadRequest("index and value go together: index=country&value=France")
        indexes = self._topology.indexes(table)
        if index is not None and index not in indexes:
            raise BadRequest(f"{table!r} has no index {index!r:.100}; it has {', '.join(indexes) or 'none'}")
        prefix, after, start, to = [request[name] for name in ("prefix", "after", "from", "to")]
        return Range(prefix, after, start, to, request["limit"], index or "", value or "")


def tagged(request: Request, body: Any, tag: str, headers: dict[str, str]) -> Reply:
    """Return a reply with its ETag; 304 without a body if the reader has it already."""
    headers["ETag"] = f'"{tag}"'
    with suppress(BadRequest):  # a malformed list has no tag of the reader's
        if (wanted := request.headers.get("If-Match")) is not None and not parse_tags("If-Match", wanted).has(tag):
            return problem(412, f"its ETag is {headers['ETag']}, and If-Match names others", "NoMatch", headers)
    with suppress(BadRequest):
        if (known := request.headers.get("If-None-Match")) is not None and parse_tags("If-None-Match", known).has(tag):
            return Reply(304, None, headers)
    return Reply(200, body, headers)


def _part(reply: Reply) -> Part:
    """Return the rows in another worker's reply."""
    rows = [row for row in reply.body["rows"] if row is not None]
    return Part(rows, Token(reply.headers.get(POSITION, "")), reply.body.get("age_s", 0.0))


def _keys(body: Any) -> list[str]:
    keys = body.get("keys") if isinstance(body, dict) else None
    if not isinstance(keys, list) or not all(isinstance(key, str) and key for key in keys) or len(keys) > KEYS_MAX:
        raise BadRequest(f'the body must be {{"keys": [...]}}, with {KEYS_MAX} keys at most')
    return keys
