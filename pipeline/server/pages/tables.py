"""The HTTP side of a worker: tables, status, metrics. A question about a partition held elsewhere is forwarded once."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from hashlib import blake2b
from json import dumps
from typing import Any, NamedTuple
from urllib.parse import quote

import faust
from aiohttp import web
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest

from pipeline.client.owner_request import Answer, problem_of
from pipeline.client.wire.from_json import parsed
from pipeline.client.wire.read_options import Pending, ReadOptions, parse_read_options
from pipeline.errors import BadRequest, NotYet, TableUnavailable, UnknownAggregate
from pipeline.model import Token
from pipeline.server.openapi.openapi import document
from pipeline.server.owner.forward import POSITION, ROWS, VERSION, Fetched, Forwarding
from pipeline.server.problems import add_pages, answer, problem
from pipeline.server.reads.consistency import Consistency
from pipeline.server.reads.held_work import HeldWork
from pipeline.server.reads.local_tables import Found, LocalTables, Range

LIMIT_MAX = 10_000
KEYS_MAX = 1_000  # of one question
GET = "get"  # the place to post keys to


class Part(NamedTuple):
    """Rows of one partition, where it was, and how old they may be; None: that is not known."""

    rows: Sequence[dict[str, Any]]
    token: Token
    age_s: float | None


class QueryApi:
    """Answers questions about tables on one worker."""

    def __init__(
        self,
        tables: LocalTables,
        forwarding: Forwarding,
        consistency: Consistency,
        status: Callable[[], Any],
        metrics: CollectorRegistry,
    ) -> None:
        self._tables, self._forwarding, self._consistency = tables, forwarding, consistency
        self._status, self._metrics = status, metrics
        self._router = forwarding.router
        self._pending = HeldWork(forwarding.router.topology)

    def check(self, table: str, asked: ReadOptions) -> None:
        """Raises UnknownTable, and NoSuchConsistency where the table cannot be read so."""
        self._consistency.check(table, asked)
        self._pending.check(table, asked)

    def mount(self, app: faust.App) -> None:
        """Adds the pages to a Faust app's web server."""
        add_pages(
            app,
            get={
                "/v1/tables/{table}/{key:.+}": self.row,
                "/v1/aggregates/{table}/{key:.+}": self.aggregate,
                "/v1/tables/{table}": self.rows,
                "/v1/tables": self.tables,
                "/v1/status": self.status,
                "/openapi.json": self.openapi,
                "/metrics": self.metrics,
            },
            post={"/v1/tables/{table}/{key:.+}": self.rows_of},
        )

    # --- pages --------------------------------------------------------------------------------------------------------

    async def aggregate(self, request: web.Request) -> web.Response:
        """The state of one aggregate."""
        name = request.match_info["table"]
        if all(name != aggregate.name for s in self._router.topology.services.values() for aggregate in s.owned):
            raise UnknownAggregate(f"no aggregate {name!r}")
        return await self.row(request)

    async def row(self, request: web.Request) -> web.Response:
        """One row."""
        table, key, asked = request.match_info["table"], request.match_info["key"], parse_read_options(request.query)
        self.check(table, asked)
        partition = await self.partition(table, key)
        if not self._answers(table, partition, asked):
            path = f"/v1/tables/{quote(table)}/{quote(key, safe='')}"
            return await self._forwarding.pass_on(request, table, partition, path, asked.query(), asked.wait_s)
        found = await self._found(table, partition, key, asked)
        token = self._consistency.token(table, partition, found.position)
        headers = {POSITION: str(token)} if token else {}
        headers |= {ROWS: str(rows)} if (rows := self._consistency.rows_token(table, partition, found.rows)) else {}
        if found.row is None:
            return problem(404, f"no row under {key!r} in table {table!r}", "UnknownKey", headers)
        if "version" in found.row:
            headers[VERSION] = str(found.row["version"])
        age = {"age_s": self._tables.age_s(table, partition)} if asked.eventual else {}
        return tagged(request, {**found.row, **age}, found.tag, headers)

    async def rows(self, request: web.Request) -> web.Response:
        """Rows in key order: of all partitions, or of the one that `partition` names."""
        table, query, asked = request.match_info["table"], request.query, parse_read_options(request.query)
        self.check(table, asked)
        _all_at_once(asked)
        wanted = self._range(table, query)
        count = await self._forwarding.blocking(lambda: self._router.partitions(table))
        only = query.get("partition")
        partitions = range(count) if only is None else [_number(only)]
        parts = await asyncio.gather(*[self._scan(request, table, n, wanted, asked) for n in partitions])
        found = sorted((row for part in parts for row in part.rows), key=lambda r: r["key"].encode())
        page = {
            "rows": found[: wanted.limit],
            "next": found[wanted.limit - 1]["key"] if len(found) >= wanted.limit else None,
        }
        return self._page(request, page, parts, asked)

    async def rows_of(self, request: web.Request) -> web.Response:
        """The rows of several keys, in the order of the keys; null where there is none."""
        table, asked = request.match_info["table"], parse_read_options(request.query)
        if request.match_info["key"] != GET:
            raise web.HTTPMethodNotAllowed("POST", ["GET"])
        self.check(table, asked)
        _all_at_once(asked)
        if request.content_type != "application/json":
            return problem(415, "send the keys as application/json", "UnsupportedMediaType")
        keys = _keys(await request.read())
        places: dict[int, list[str]] = {}
        for key in dict.fromkeys(keys):
            places.setdefault(await self.partition(table, key), []).append(key)
        parts = await asyncio.gather(*[self.several(request, table, n, few, asked) for n, few in places.items()])
        found = {row["key"]: row for part in parts for row in part.rows}
        return self._page(request, {"rows": [found.get(key) for key in keys]}, parts, asked)

    async def tables(self, request: web.Request) -> web.Response:
        """All tables of the topology, by service."""
        services = self._router.topology.services.values()
        return answer(200, {s.name: [*s.tables(), *(r.name for r in s.replicas)] for s in services})

    async def status(self, request: web.Request) -> web.Response:
        """What this worker runs and has done."""
        return answer(200, self._status())

    async def openapi(self, request: web.Request) -> web.Response:
        """What can be asked here."""
        return answer(200, document(self._router.topology))

    async def metrics(self, request: web.Request) -> web.Response:
        """Metrics for Prometheus."""
        return web.Response(body=generate_latest(self._metrics), headers={"Content-Type": CONTENT_TYPE_LATEST})

    # --- local or elsewhere -------------------------------------------------------------------------------------------

    async def partition(self, table: str, key: str) -> int:
        """The partition that has a key."""
        return await self._forwarding.partition(table, key)

    async def _found(self, table: str, partition: int, key: str, asked: ReadOptions) -> Found:
        """One row from here."""
        until_s = asyncio.get_running_loop().time() + asked.wait_s
        if not asked.eventual:
            await self._consistency.reach(table, partition, asked)
        show = self._pending.show(table, asked)
        while True:
            if self._tables.waits(table, partition):
                found = await self._forwarding.blocking(lambda: self._tables.read(table, partition, key, show))
            else:
                found = self._tables.read(table, partition, key, show)
            held = found.row and found.row.get("pending")
            if not held or asked.pending is not Pending.WAIT:
                return found
            if not await self._consistency.change(table, partition, found.position or 0, until_s):
                raise NotYet(f"in {key!r} of {table!r} something is held for {held[0]!r} still")

    async def _scan(self, request: web.Request, table: str, partition: int, wanted: Range, asked: ReadOptions) -> Part:
        """Rows of one partition in key order."""
        if self._answers(table, partition, asked):
            scan, index_of = self._tables.scan, self._router.topology.indexes(table).get(wanted.index)
            show = self._pending.show(table, asked)
            return await self._here(table, partition, asked, lambda: scan(table, partition, wanted, index_of, show))
        query = {"partition": str(partition), **wanted.query(), **asked.query()}
        path = f"/v1/tables/{quote(table)}"
        return _part(await self._forwarding.fetch(request, table, partition, path, query, asked.wait_s))

    async def several(
        self, request: web.Request, table: str, partition: int, keys: list[str], asked: ReadOptions
    ) -> Part:
        """The rows of some keys of one partition."""
        if self._answers(table, partition, asked):
            get, show = self._tables.get, self._pending.show(table, asked)
            return await self._here(
                table, partition, asked, lambda: [row for key in keys if (row := get(table, partition, key, show))]
            )
        path, body = f"/v1/tables/{quote(table)}/{GET}", {"keys": keys}
        return _part(await self._forwarding.fetch(request, table, partition, path, asked.query(), asked.wait_s, body))

    async def _here(
        self, table: str, partition: int, asked: ReadOptions, read: Callable[[], Sequence[dict[str, Any]]]
    ) -> Part:
        """Rows of one partition from here, each at least as new as the token says."""
        if not asked.eventual:
            await self._consistency.reach(table, partition, asked)
        age_s = self._tables.age_s(table, partition)

        def rows() -> tuple[int | None, Sequence[dict[str, Any]]]:
            return self._tables.read(table, partition, "").position, read()  # in that order: no row is older

        position, found = await self._forwarding.blocking(rows)
        return Part(found, self._consistency.token(table, partition, position), age_s)

    def _page(
        self, request: web.Request, page: dict[str, Any], parts: Sequence[Part], asked: ReadOptions
    ) -> web.Response:
        token = Token()
        for part in parts:
            token |= part.token
        if asked.eventual:
            ages = [part.age_s for part in parts]
            page["age_s"] = None if None in ages else max((age_s for age_s in ages if age_s is not None), default=0.0)
        digest = blake2b(dumps(page["rows"]).encode(), digest_size=8).hexdigest()
        return tagged(request, page, digest, {POSITION: str(token)} if token else {})

    def _range(self, table: str, query: Mapping[str, str]) -> Range:
        """What part of the table is asked for. Raises BadRequest."""
        limit = _number(query.get("limit", "100"), at_least=1)
        index, value = query.get("index"), query.get("value")
        if (index is None) != (value is None):
            raise BadRequest("index and value go together: index=country&value=France")
        indexes = self._router.topology.indexes(table)
        if index is not None and index not in indexes:
            raise BadRequest(f"{table!r} has no index {index!r:.100}; it has {', '.join(indexes) or 'none'}")
        prefix, after, start, to = [query.get(name, "") for name in ("prefix", "after", "from", "to")]
        return Range(prefix, after, start, to, limit, index or "", value or "")

    def _answers(self, table: str, partition: int, asked: ReadOptions) -> bool:
        """Whether the answer is to come from here: as the owner, or as a standby to those who take its age."""
        if asked.eventual:
            age_s = self._tables.age_s(table, partition)
            if age_s is not None and age_s <= asked.max_age_s:
                return True
            if asked.max_age_s != float("inf") and self._tables.is_replica(table, partition):
                age = "it is not known how old" if age_s is None else f"{age_s:.1f} s old"
                raise TableUnavailable(f"the copy {table!r} is {age}, which is more than you take; ask again")
        return self._tables.holds(table, partition)


def tagged(request: web.Request, body: Any, tag: str, headers: dict[str, str]) -> web.Response:
    """A JSON answer with its ETag; 304 without a body to those who have it already."""
    headers["ETag"] = f'"{tag}"'
    known = request.headers.get("If-None-Match", "")
    if known == "*" or headers["ETag"] in [each.strip().removeprefix("W/") for each in known.split(",")]:
        return web.Response(status=304, headers=headers)
    return answer(200, body, headers)


def _all_at_once(asked: ReadOptions) -> None:
    if asked.pending is Pending.WAIT:
        raise BadRequest("pending=wait is for one row; of several, some may always be held")


def _part(fetched: Fetched) -> Part:
    """Rows that another worker has answered with. Raises what it has raised."""
    if error := problem_of(Answer(fetched.status, fetched.body, fetched.headers), "that holds the partition"):
        raise error
    rows = [row for row in fetched.body["rows"] if row is not None]
    return Part(rows, Token(fetched.headers.get(POSITION, "")), fetched.body.get("age_s", 0.0))


def _keys(body: bytes) -> list[str]:
    told = parsed(body)
    keys = told.get("keys") if isinstance(told, dict) else None
    if not isinstance(keys, list) or not all(isinstance(key, str) and key for key in keys) or len(keys) > KEYS_MAX:
        raise BadRequest(f'the body must be {{"keys": [...]}}, with {KEYS_MAX} keys at most')
    return keys


def _number(text: str, at_least: int = 0) -> int:
    if not (text.isascii() and text.isdecimal() and len(text) < 10 and at_least <= int(text) <= LIMIT_MAX):
        raise BadRequest(f"{text!r:.100} is not a number from {at_least} to {LIMIT_MAX}")
    return int(text)
