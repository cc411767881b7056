"""The HTTP side of a worker: tables, status, metrics. A question about a partition held elsewhere is forwarded once."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar
from urllib.parse import quote

import aiohttp
import faust
from aiohttp import web
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest
from yarl import URL

from pipeline.errors import PipelineError, TableUnavailable, UnknownTable
from pipeline.query.local import LocalTables
from pipeline.query.routing import Router

T = TypeVar("T")
FORWARDED = "X-Pipeline-Forwarded"
FORWARD_TIMEOUT_S = 10.0
LIMIT_MAX = 10_000
EVENTUAL = {"consistency": "eventual"}


class BadRequest(PipelineError):
    """A request's parameters cannot be used."""


class QueryApi:
    """Answers questions about tables on one worker."""

    def __init__(
        self, tables: LocalTables, router: Router, status: Callable[[], Any], metrics: CollectorRegistry
    ) -> None:
        self._tables, self._router, self._status, self._metrics = tables, router, status, metrics
        self._session: aiohttp.ClientSession | None = None

    def mount(self, app: faust.App) -> None:
        """Adds the pages to a Faust app's web server."""
        pages: dict[str, Callable[[web.Request], Awaitable[web.Response]]] = {
            "/v1/tables/{table}/{key:.+}": self.row,
            "/v1/tables/{table}": self.rows,
            "/v1/tables": self.tables,
            "/v1/status": self.status,
            "/metrics": self.metrics,
        }
        for path, handler in pages.items():
            app.page(path, name=f"pipeline:{path}")(_page(handler))  # type: ignore[arg-type]  # aiohttp's own types

    async def close(self) -> None:
        """Closes the connections to other workers."""
        if self._session is not None:
            await self._session.close()

    # --- pages --------------------------------------------------------------------------------------------------------

    async def row(self, request: web.Request) -> web.Response:
        """One row."""
        table, key = request.match_info["table"], request.match_info["key"]
        eventual = _eventual(request)
        if self._router.knows(table):  # reads of what is here wait for nobody
            partition = self._router.partition(table, key)
        else:
            partition = await self._blocking(lambda: self._router.partition(table, key))
        if self._answers(table, partition, eventual):
            row = self._tables.get(table, partition, key)
            if row is None:
                return _problem(404, f"no row under {key!r} in table {table!r}", "UnknownKey")
            return _json(200, {**row, "age_s": self._tables.age_s(table, partition)} if eventual else row)
        path = f"/v1/tables/{quote(table)}/{quote(key, safe='')}"
        status, body = await self._ask(request, table, partition, path, EVENTUAL if eventual else {})
        return _json(status, body)

    async def rows(self, request: web.Request) -> web.Response:
        """Rows in key order: of all partitions, or of the one that `partition` names."""
        table, query = request.match_info["table"], request.query
        prefix, after = query.get("prefix", ""), query.get("after", "")
        limit = _number(query.get("limit", "100"), at_least=1)
        count = await self._blocking(lambda: self._router.partitions(table))
        only = query.get("partition")
        partitions = range(count) if only is None else [_number(only)]
        asked = [self._scan(request, table, partition, prefix, after, limit) for partition in partitions]
        answers = await asyncio.gather(*asked)
        found = sorted((row for rows, _ in answers for row in rows), key=lambda r: r["key"].encode())
        page = {"rows": found[:limit], "next": found[limit - 1]["key"] if len(found) >= limit else None}
        if _eventual(request):
            page["age_s"] = max((age_s for _, age_s in answers), default=0.0)
        return _json(200, page)

    async def tables(self, request: web.Request) -> web.Response:
        """All tables of the topology, by service."""
        services = self._router.topology.services.values()
        return _json(200, {s.name: [*s.tables(), *(r.name for r in s.replicas)] for s in services})

    async def status(self, request: web.Request) -> web.Response:
        """What this worker runs and has done."""
        return _json(200, self._status())

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
            found = await self._blocking(lambda: self._tables.scan(table, partition, prefix, after, limit))
            return found, age_s
        query = {"partition": str(partition), "prefix": prefix, "after": after, "limit": str(limit)}
        query |= EVENTUAL if eventual else {}
        status, body = await self._ask(request, table, partition, f"/v1/tables/{quote(table)}", query)
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

    async def _ask(
        self, request: web.Request, table: str, partition: int, path: str, query: dict[str, str]
    ) -> tuple[int, Any]:
        """Asks the partition's holder, unless this question was forwarded already: one hop, never a circle."""
        if FORWARDED in request.headers:
            raise TableUnavailable(f"partition {partition} of {table!r} is moving between workers; ask again")
        holder = await self._blocking(lambda: self._router.holder(table, partition))
        if self._session is None:
            self._session = aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=FORWARD_TIMEOUT_S))
        try:
            url = URL(holder + path, encoded=True)  # the key is quoted already
            async with self._session.get(url.with_query(query) if query else url, headers={FORWARDED: "1"}) as answer:
                if answer.status == 503:
                    self._router.forget(table)
                return answer.status, await answer.json()
        except (aiohttp.ClientError, TimeoutError) as error:
            self._router.forget(table)
            raise TableUnavailable(
                f"the worker at {holder}, which holds partition {partition}, does not answer: {error}"
            ) from None

    async def _blocking(self, call: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(None, call)


def _page(handler: Callable[[web.Request], Awaitable[web.Response]]) -> Callable[..., Awaitable[web.Response]]:
    """A Faust page that turns the pipeline's errors into problem answers."""

    async def page(_: Any, request: web.Request, **__: str) -> web.Response:
        try:
            return await handler(request)
        except TableUnavailable as error:
            return _problem(503, str(error), "TableUnavailable", {"Retry-After": "1"})
        except UnknownTable as error:
            return _problem(404, str(error), "UnknownTable")
        except BadRequest as error:
            return _problem(400, str(error), "BadRequest")
        except PipelineError as error:
            return _problem(503, str(error), type(error).__name__, {"Retry-After": "1"})

    return page


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


def _json(status: int, body: Any, headers: dict[str, str] | None = None) -> web.Response:
    return web.Response(status=status, text=json.dumps(body), content_type="application/json", headers=headers)


def _problem(status: int, detail: str, kind: str, headers: dict[str, str] | None = None) -> web.Response:
    return _json(status, {"title": kind, "status": status, "detail": detail}, headers)
