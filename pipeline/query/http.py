"""The HTTP side of a worker: tables, status, metrics. A question about a partition held elsewhere is forwarded once."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any
from urllib.parse import quote

import faust
from aiohttp import web
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest

from pipeline.errors import TableUnavailable
from pipeline.query.forward import Forwarding
from pipeline.query.local import LocalTables
from pipeline.query.openapi import document
from pipeline.query.problems import BadRequest, add_pages, answer, problem

LIMIT_MAX = 10_000
EVENTUAL = {"consistency": "eventual"}


class QueryApi:
    """Answers questions about tables on one worker."""

    def __init__(
        self, tables: LocalTables, forwarding: Forwarding, status: Callable[[], Any], metrics: CollectorRegistry
    ) -> None:
        self._tables, self._forwarding, self._status, self._metrics = tables, forwarding, status, metrics
        self._router = forwarding.router

    def mount(self, app: faust.App) -> None:
        """Adds the pages to a Faust app's web server."""
        add_pages(
            app,
            get={
                "/v1/tables/{table}/{key:.+}": self.row,
                "/v1/tables/{table}": self.rows,
                "/v1/tables": self.tables,
                "/v1/status": self.status,
                "/openapi.json": self.openapi,
                "/metrics": self.metrics,
            },
        )

    # --- pages --------------------------------------------------------------------------------------------------------

    async def row(self, request: web.Request) -> web.Response:
        """One row."""
        table, key = request.match_info["table"], request.match_info["key"]
        eventual = _eventual(request)
        partition = await self._forwarding.partition(table, key)
        if self._answers(table, partition, eventual):
            if self._tables.waits(table, partition):
                row = await self._forwarding.blocking(lambda: self._tables.get(table, partition, key))
            else:
                row = self._tables.get(table, partition, key)
            if row is None:
                return problem(404, f"no row under {key!r} in table {table!r}", "UnknownKey")
            return answer(200, {**row, "age_s": self._tables.age_s(table, partition)} if eventual else row)
        path = f"/v1/tables/{quote(table)}/{quote(key, safe='')}"
        query = EVENTUAL if eventual else {}
        return await self._forwarding.pass_on(request, table, partition, path, query)

    async def rows(self, request: web.Request) -> web.Response:
        """Rows in key order: of all partitions, or of the one that `partition` names."""
        table, query = request.match_info["table"], request.query
        prefix, after = query.get("prefix", ""), query.get("after", "")
        limit = _number(query.get("limit", "100"), at_least=1)
        count = await self._forwarding.blocking(lambda: self._router.partitions(table))
        only = query.get("partition")
        partitions = range(count) if only is None else [_number(only)]
        asked = [self._scan(request, table, partition, prefix, after, limit) for partition in partitions]
        answers = await asyncio.gather(*asked)
        found = sorted((row for rows, _ in answers for row in rows), key=lambda r: r["key"].encode())
        page = {"rows": found[:limit], "next": found[limit - 1]["key"] if len(found) >= limit else None}
        if _eventual(request):
            page["age_s"] = max((age_s for _, age_s in answers), default=0.0)
        return answer(200, page)

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

    async def _scan(
        self, request: web.Request, table: str, partition: int, prefix: str, after: str, limit: int
    ) -> tuple[list[dict[str, Any]], float]:
        """Rows of one partition, and how old they may be."""
        eventual = _eventual(request)
        if self._answers(table, partition, eventual):
            age_s = self._tables.age_s(table, partition) or 0.0
            found = await self._forwarding.blocking(lambda: self._tables.scan(table, partition, prefix, after, limit))
            return found, age_s
        query = {"partition": str(partition), "prefix": prefix, "after": after, "limit": str(limit)}
        query |= EVENTUAL if eventual else {}
        status, body, _ = await self._forwarding.fetch(request, table, partition, f"/v1/tables/{quote(table)}", query)
        if status != 200:
            raise TableUnavailable(
                body.get("detail", f"the holder of partition {partition} of {table!r} answered {status}")
            )
        return body["rows"], body.get("age_s", 0.0)

    def _answers(self, table: str, partition: int, eventual: bool) -> bool:
        """Whether the answer is to come from here: as the owner, or as a standby to those who take its age."""
        if eventual and self._tables.age_s(table, partition) is not None:
            return True
        return self._tables.holds(table, partition)


def _eventual(request: web.Request) -> bool:
    """Whether the answer may come from a standby, with its age."""
    wanted = request.query.get("consistency")
    if wanted not in (None, "eventual"):
        raise BadRequest(f"consistency {wanted!r} is not known; leave it out to ask the owner, or say: eventual")
    return wanted is not None


def _number(text: str, at_least: int = 0) -> int:
    if not text.isdecimal() or not at_least <= int(text) <= LIMIT_MAX:
        raise BadRequest(f"{text!r} is not a number from {at_least} to {LIMIT_MAX}")
    return int(text)
