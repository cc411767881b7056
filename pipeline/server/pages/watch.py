"""`GET /v1/tables/{table}/{key}/watch`: each new row of a key, as server-sent events, on any worker.

The present row comes from the owner, with how far the table's row topic is in it; all that comes after is read from
that topic itself. So nothing is missed and nothing comes twice, wherever the partition moves meanwhile.
"""

from __future__ import annotations

import asyncio
import json
import logging
from typing import Any
from urllib.parse import quote

import faust
from aiohttp import web

from pipeline.client.owner_request import Answer, problem_of
from pipeline.client.wire.read_options import ReadOptions, parse_read_options
from pipeline.engine.ports import TP
from pipeline.engine.state.table import Codecs, RowCodec
from pipeline.errors import BadRequest, TableUnavailable
from pipeline.flow import Lineage
from pipeline.model import StateMessage, Token
from pipeline.server.owner.forward import ROWS, Forwarding
from pipeline.server.problems import add_pages, key_in_path
from pipeline.server.reads.consistency import Consistency
from pipeline.server.reads.local_tables import LocalTables, row_json
from pipeline.server.watch.row_tail import Tell, Watch
from pipeline.server.watch.subscriptions import Subscription, Subscriptions
from pipeline.topology import Topology

log = logging.getLogger(__name__)

HEARTBEAT_S = 5.0
WRITE_S = 30.0  # a reader that takes nothing for so long is gone
RETRY_S = 0.1
Place = tuple[str, int]  # a row topic, as declared, and a partition
OPTIONS = {"since", "wait"}
HEADERS = {"Content-Type": "text/event-stream", "Cache-Control": "no-store", "X-Accel-Buffering": "no"}


class WatchApi:
    """Lets readers watch rows on one worker."""

    def __init__(
        self,
        hub: Subscriptions,
        tables: LocalTables,
        forwarding: Forwarding,
        consistency: Consistency,
        lineage: Lineage,
        make: Codecs,
    ) -> None:
        self._hub, self._tables, self._forwarding = hub, tables, forwarding
        self._consistency, self._lineage, self._make = consistency, lineage, make
        self._topology = forwarding.router.topology
        self._codecs: dict[str, RowCodec] = {}

    def mount(self, app: faust.App) -> None:
        """Adds the page to a Faust app's web server; before that of rows, whose keys may be anything."""
        add_pages(app, get={"/v1/tables/{table}/{key:.+}/watch": self.watch})

    async def watch(self, request: web.Request) -> web.StreamResponse:
        """Events until the reader goes, is too slow, or the worker stops."""
        self._hub.check()
        stream, first, place = await self._open(request)
        response = web.StreamResponse(headers=HEADERS)
        try:
            await response.prepare(request)
            text = f"retry: 1000\n\n{first}"
            while True:
                async with asyncio.timeout(WRITE_S):
                    await response.write(text.encode())
                text = await stream.news(HEARTBEAT_S)
                if stream.ended is not None:
                    text += f"event: end\ndata: {json.dumps({'reason': stream.ended})}\n\n"
                    async with asyncio.timeout(WRITE_S):
                        await response.write(text.encode())
                    break
                text = text or _heartbeat(place, stream.passed - 1)
        except (ConnectionError, TimeoutError):
            if request.transport is not None:
                request.transport.abort()
        finally:
            self._hub.leave(stream)
        return response

    # --- where it begins ----------------------------------------------------------------------------------------------

    async def _open(self, request: web.Request) -> tuple[Subscription, str, Place]:
        """The stream, the event that comes first, empty where nothing is to be told yet, and the partition's place.

        Raises what a read raises, and NotYet where the table is not where `since` was.
        """
        table, key = request.match_info["table"], key_in_path(request)
        since, asked = _asked(request)
        topic = self._row_topic(table)
        partition = await self._forwarding.partition(table, key)
        row, end = await self._present(request, table, key, partition, asked)
        place = topic, partition
        tp = TP(self._topology.names.get(topic, topic), partition)
        tell = self._tell(table, key, place)
        if since is None or (since and place not in since.positions):
            watch = Watch(tp, key.encode(), end, end, tell, absent=row is None)
            token = Token.of({place: end - 1}) if end else Token()
            return self._hub.open(watch), _event(token, row or {"key": key, "row": None}), place
        start = since.positions[place] + 1 if since else 0
        return self._hub.open(Watch(tp, key.encode(), start, end, tell, absent=row is None)), "", place

    def _row_topic(self, table: str) -> str:
        self._lineage.home(table)  # raises UnknownTable
        if table not in self._lineage.rows:
            source = self._lineage.sources[table][0]
            raise BadRequest(
                f"{table!r} is a replica, and each worker has a copy of its own, so there is no one order of its rows; "
                f"watch a table of the service that owns {source}"
            )
        return self._lineage.rows[table]

    async def _present(
        self, request: web.Request, table: str, key: str, partition: int, asked: ReadOptions
    ) -> tuple[dict[str, Any] | None, int]:
        """The row, and how far the row topic is in it: the next offset."""
        loop = asyncio.get_running_loop()
        until_s = loop.time() + asked.wait_s
        while True:  # a partition that moves is back soon, and readers in browsers do not ask again
            try:
                if self._tables.holds(table, partition):
                    await self._consistency.reach(table, partition, asked)
                    found = await self._forwarding.blocking(lambda: self._tables.read(table, partition, key))
                    return found.row, found.rows
                return await self._elsewhere(request, table, key, partition, asked)
            except TableUnavailable:
                if loop.time() > until_s:
                    raise
            await asyncio.sleep(RETRY_S)

    async def _elsewhere(
        self, request: web.Request, table: str, key: str, partition: int, asked: ReadOptions
    ) -> tuple[dict[str, Any] | None, int]:
        path = f"/v1/tables/{quote(table)}/{quote(key, safe='')}"
        fetched = await self._forwarding.fetch(request, table, partition, path, asked.query(), asked.wait_s)
        there = fetched.status != 404 or fetched.body.get("error") != "UnknownKey"
        if there and (error := problem_of(Answer(fetched.status, fetched.body, fetched.headers))):
            raise error
        place = self._lineage.rows[table], partition
        rows = Token(fetched.headers.get(ROWS, "")).positions.get(place, -1) + 1
        return fetched.body if there else None, rows

    # --- what is told -------------------------------------------------------------------------------------------------

    def _tell(self, table: str, key: str, place: Place) -> Tell:
        if table not in self._codecs:
            self._codecs[table] = row_codec(self._topology, self._make, table, place[0])
        decode = self._codecs[table].decode

        def tell(offset: int, value: bytes | None) -> str:
            row = {"row": None} if value is None else row_json(decode(value))
            return _event(Token.of({place: offset}), {"key": key, **row})

        return tell


def row_codec(topology: Topology, make: Codecs, table: str, topic: str) -> RowCodec:
    """What reads the rows of a table from its row topic."""
    service = topology.service_of(table)
    for aggregate in service.owned:
        if aggregate.name == table:
            return make(topic, StateMessage, type(aggregate.initial))
    return make(topic, next(type(each.initial) for each in service.projections if each.name == table))


def _asked(request: web.Request) -> tuple[Token | None, ReadOptions]:
    """Where to begin, None: with the present row; and how that is to be read. Raises BadRequest, InvalidToken."""
    if unknown := request.query.keys() - OPTIONS:
        raise BadRequest(f"watch has no parameter {min(unknown)!r:.100}; it has {', '.join(sorted(OPTIONS))}")
    told = request.headers.get("Last-Event-ID") or request.query.get("since")
    query = {"wait": request.query["wait"]} if "wait" in request.query else {}
    asked = parse_read_options(query | ({"at_least": told} if told else {}))
    return None if told is None else Token(told), asked


def _event(token: Token, body: dict[str, Any]) -> str:
    return f"id: {token}\ndata: {json.dumps({**body, 'position': token})}\n\n"


def _heartbeat(place: Place, offset: int) -> str:
    """Keeps the connection, and tells from where to go on: an id without data is no event."""
    return f"id: {Token.of({place: offset})}\n: alive\n\n" if offset >= 0 else ": alive\n\n"
