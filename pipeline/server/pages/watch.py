"""`GET /v1/tables/{table}/{key}/watch`: each new row of a key, as server-sent events, on any worker.

The present row comes from the owner, with the offset of the row topic up to which it is current; all later rows are
read from that topic. So none is missed and none comes twice, even if the partition moves meanwhile.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from typing import Any

from pipeline.adapters.json.writing import json_text, row_json
from pipeline.client.wire.read_options import ReadOptions, parse_read_options
from pipeline.engine.ports import TP
from pipeline.engine.state.table import Codecs, RowCodec
from pipeline.errors import BadRequest, TableUnavailable, UnknownKey
from pipeline.flow import Lineage
from pipeline.model import StateMessage, Token
from pipeline.server import endpoint
from pipeline.server.endpoint import Page, Pages, Reply, Request, Stream
from pipeline.server.endpoints.tables import ROW, WATCH
from pipeline.server.owner.dispatch import Dispatcher
from pipeline.server.owner.forward import ROWS
from pipeline.server.reads.consistency import Consistency
from pipeline.server.reads.local_tables import LocalTables
from pipeline.server.watch.row_tail import Tell, Watch
from pipeline.server.watch.subscriptions import Subscription, Subscriptions
from pipeline.topology import Topology

log = logging.getLogger(__name__)

HEARTBEAT_S = 5.0
RETRY_S = 0.1
Place = tuple[str, int]  # a row topic's declared name, and a partition
OPTIONS = {"since", "wait"}
HEADERS = {"Content-Type": "text/event-stream", "Cache-Control": "no-store", "X-Accel-Buffering": "no"}


class WatchApi:
    """Serves watches of rows on one worker."""

    def __init__(
        self,
        hub: Subscriptions,
        tables: LocalTables,
        dispatcher: Dispatcher,
        consistency: Consistency,
        lineage: Lineage,
        make: Codecs,
    ) -> None:
        self._hub, self._tables, self._dispatcher = hub, tables, dispatcher
        self._consistency, self._lineage, self._make = consistency, lineage, make
        self._topology = dispatcher.topology
        self._codecs: dict[str, RowCodec] = {}

    def pages(self) -> Pages:
        """Return the pages. Mount them before rows, whose keys may be anything."""
        return {WATCH: Page(self.watch)}

    async def watch(self, request: Request) -> Stream:
        """Yield events until the reader goes, is too slow, or the worker stops."""
        self._hub.check()
        stream, first, place = await self._open(request)
        return Stream(
            _texts(stream, first, lambda at: self._consistency.marked({place: at})),
            HEADERS,
            lambda: self._hub.leave(stream),
        )

    # --- the beginning ------------------------------------------------------------------------------------------------

    async def _open(self, request: Request) -> tuple[Subscription, str, Place]:
        """Return the subscription, its first event (empty if there is none yet), and the partition of the row topic.

        Raises as a read, and NotYet if the table does not reach `since` in time.
        """
        table, key = request.parts["table"], request.parts["key"]
        since, asked = _asked(request)
        topic = self._row_topic(table)
        partition = await self._dispatcher.partition(table, key)
        row, end = await self._present(request, table, key, partition, asked)
        place = topic, partition
        tp = TP(self._topology.names.get(topic, topic), partition)
        tell = self._tell(table, key, place)
        if since is None or (since and place not in since.positions):
            watch = Watch(tp, key.encode(), end, end, tell, absent=row is None)
            token = self._consistency.marked({place: end - 1}) if end else Token()
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
        self, request: Request, table: str, key: str, partition: int, asked: ReadOptions
    ) -> tuple[dict[str, Any] | None, int]:
        """Return the row, and the offset of the row topic up to which it is current."""
        loop = asyncio.get_running_loop()
        until_s = loop.time() + asked.wait_s

        async def here() -> tuple[dict[str, Any] | None, int]:
            await self._consistency.reach(table, partition, asked)
            found = await self._dispatcher.blocking(lambda: self._tables.read(table, partition, key))
            return found.row, found.rows

        def there(reply: Reply) -> tuple[dict[str, Any] | None, int]:
            place = self._lineage.rows[table], partition
            rows = Token(reply.headers.get(ROWS, "")).positions.get(place, -1) + 1
            return (None if reply.status == 404 else reply.body), rows

        at, parts = endpoint.Place(table, partition), {"table": table, "key": key}
        while True:  # a moving partition soon has an owner, and browsers do not ask again
            try:
                return await self._dispatcher.share(
                    request, at, here, there, ROW, parts, asked.query(), reading=asked, passes=(UnknownKey,)
                )
            except TableUnavailable:
                if loop.time() > until_s:
                    raise
            await asyncio.sleep(RETRY_S)

    # --- the events ---------------------------------------------------------------------------------------------------

    def _tell(self, table: str, key: str, place: Place) -> Tell:
        if table not in self._codecs:
            self._codecs[table] = row_codec(self._topology, self._make, table, place[0])
        decode, marked = self._codecs[table].decode, self._consistency.marked

        def tell(offset: int, value: bytes | None) -> str:
            row = {"row": None} if value is None else row_json(decode(value))
            return _event(marked({place: offset}), {"key": key, **row})

        return tell


async def _texts(stream: Subscription, first: str, token: Callable[[int], Token]) -> AsyncIterator[str]:
    yield f"retry: 1000\n\n{first}"
    while True:
        text = await stream.news(HEARTBEAT_S)
        if stream.ended is not None:
            yield f"{text}event: end\ndata: {json_text({'reason': stream.ended})}\n\n"
            return
        yield text or _heartbeat(token, stream.passed - 1)


def row_codec(topology: Topology, make: Codecs, table: str, topic: str) -> RowCodec:
    """Return the decoder of a table's rows in its row topic."""
    service = topology.service_of(table)
    for aggregate in service.owned:
        if aggregate.name == table:
            return make(topic, StateMessage, type(aggregate.initial), upcasts=aggregate.migrate)
    return make(topic, next(type(each.initial) for each in service.projections if each.name == table))


def _asked(request: Request) -> tuple[Token | None, ReadOptions]:
    """Return where to begin, None: with the present row, and how to read it.

    Raises BadRequest, InvalidToken.
    """
    if unknown := request.query.keys() - OPTIONS:
        raise BadRequest(f"watch has no parameter {min(unknown)!r:.100}; it has {', '.join(sorted(OPTIONS))}")
    told = request["Last-Event-ID"] or request["since"]
    query = {} if request["wait"] is None else {"wait": request["wait"]}
    asked = parse_read_options(query | ({"at_least": told} if told else {}))
    return None if told is None else Token(told), asked


def _event(token: Token, body: dict[str, Any]) -> str:
    return f"id: {token}\ndata: {json_text({**body, 'position': token})}\n\n"


def _heartbeat(token: Callable[[int], Token], offset: int) -> str:
    """Return an event without data: it keeps the connection and updates the position from which to go on."""
    return f"id: {token(offset)}\n: alive\n\n" if offset >= 0 else ": alive\n\n"
