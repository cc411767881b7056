"""History over HTTP: what has happened to an aggregate, and what its state was. Forwarded to the partition's owner."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping
from typing import Any

import faust
from aiohttp import web

from pipeline.client.wire.as_of import parse_as_of
from pipeline.client.wire.from_json import to_json
from pipeline.engine.copies.history_follower import HistoryFollower
from pipeline.engine.state.history_reader import HistoryReader
from pipeline.errors import BadRequest, FoldError, HistoryIncomplete, TableUnavailable, UnknownKey
from pipeline.model import StateMessage
from pipeline.server.owner.forward import Forwarding
from pipeline.server.problems import add_pages, answer, key_in_path
from pipeline.server.reads.local_tables import LocalTables, row_json

EVENTS, EVENTS_MAX = 100, 1_000  # of one page
VERSION_MAX = 2**63 - 1
LEVEL_S, LOOK_S = 1.0, 0.005  # how long to wait for events that the table holds already, and how often to look
Histories = Mapping[tuple[str, int], HistoryFollower]


class HistoryApi:
    """`GET /v1/history/{aggregate}/{key}` and `GET /v1/history/{aggregate}/{key}/state`."""

    def __init__(self, histories: Callable[[], Histories], tables: LocalTables, forwarding: Forwarding) -> None:
        self._histories, self._tables, self._forwarding = histories, tables, forwarding

    def mount(self, app: faust.App) -> None:
        """Adds the pages to a Faust app's web server."""
        add_pages(
            app, get={"/v1/history/{aggregate}/{key}": self.events, "/v1/history/{aggregate}/{key}/state": self.state}
        )

    # --- pages --------------------------------------------------------------------------------------------------------

    async def events(self, request: web.Request) -> web.Response:
        """Events in the order of their versions, page by page."""
        after = _number(request, "after", 0, 0, VERSION_MAX)
        limit = _number(request, "limit", EVENTS, 1, EVENTS_MAX)
        return await self._answered(request, lambda copy, key: page_of(copy.past, key, after, limit))

    async def state(self, request: web.Request) -> web.Response:
        """The state as of a version or a time; of now where neither is given."""
        version, time_ms = parse_as_of(request.query["as_of"]) if "as_of" in request.query else (None, None)
        return await self._answered(request, lambda copy, key: _state(copy, key, version, time_ms))

    # --- local or elsewhere -------------------------------------------------------------------------------------------

    async def _answered(
        self, request: web.Request, tell: Callable[[HistoryFollower, bytes], dict[str, Any]]
    ) -> web.Response:
        name, key = request.match_info["aggregate"], key_in_path(request)
        self._forwarding.router.topology.with_history(name)
        partition = await self._forwarding.partition(name, key)
        if not self._tables.holds(name, partition):
            path, query = request.rel_url.raw_path, dict(request.query)
            return await self._forwarding.pass_on(request, name, partition, path, query)
        copy, current = await self._level(name, partition, key)
        found = await self._forwarding.blocking(lambda: tell(copy, key.encode()))
        self._copy(name, partition)  # not wiped meanwhile
        return answer(200, {"aggregate": name, "key": key, **found, "current": current})

    async def _level(self, name: str, partition: int, key: str) -> tuple[HistoryFollower, int]:
        """The history, once it holds what the table does, and the table's version of the key.

        So those who have seen the outcome of a command find its events. After a second it answers with what it has.
        Raises UnknownKey where nothing has ever happened to that key.
        """
        row = self._tables.get(name, partition, key)
        current: int = 0 if row is None else row["version"]
        deadline = time.monotonic() + LEVEL_S
        while True:
            copy = self._copy(name, partition)
            last = copy.past.last(key.encode())
            if last >= current > 0:
                return copy, current
            if current == 0:  # its first events may just be committed, and the table be written next
                if last == 0:
                    raise UnknownKey(f"nothing has happened to {name} {key!r}")
                return copy, last
            if time.monotonic() > deadline:
                break
            await asyncio.sleep(LOOK_S)
        if last == 0 and not copy.ended:
            raise TableUnavailable(f"the history of partition {partition} of {name!r} is behind its table; ask again")
        if last == 0:
            raise HistoryIncomplete(
                f"{name} {key!r} is at version {current}, but the event log holds none of its events"
            )
        return copy, current

    def _copy(self, name: str, partition: int) -> HistoryFollower:
        copy = self._histories().get((name, partition))
        if copy is None or copy.building:
            raise TableUnavailable(f"the history of partition {partition} of {name!r} is being built; ask again")
        return copy


def page_of(past: HistoryReader, key: bytes, after: int, limit: int) -> dict[str, Any]:
    """The events of the `limit` versions that come after `after`, as JSON, and which versions there are.

    Where the log has lost its beginning, the first page begins with what is left.
    """
    first, last = past.first(key), past.last(key)
    after = max(after, first - 1)
    events = [
        {
            "version": event.version,
            "time_ms": event.time_ms,
            "command_id": event.command_id,
            "correlation_id": event.correlation_id,
            "event": to_json(event.body),
            **({"read": event.read} if past.spec.aggregate.reads else {}),
        }
        for event in past.events(key, after, limit)
        if event.version <= last
    ]
    return {"events": events, "next": after + limit if after + limit < last else None, "first": first, "last": last}


def _state(copy: HistoryFollower, key: bytes, version: int | None, time_ms: int | None) -> dict[str, Any]:
    past = copy.past
    last = past.last(key)
    if time_ms is not None:
        version = past.version_at(key, time_ms)
    elif version is None:
        version = last
    elif version > last:
        raise UnknownKey(f"{key.decode()!r} has got to version {last}, not yet to {version}")
    try:
        state = past.state(key, version)
    except (HistoryIncomplete, TableUnavailable):
        raise
    except Exception as error:
        raise FoldError(f"evolve of {past.spec.aggregate.name!r} cannot fold version {version}: {error!r}") from error
    if state is None:
        state = StateMessage(0, 0, past.spec.aggregate.initial)
    row = row_json(state)
    return {**row, "time_ms": row["time_ms"] if version else None, "last": last}


def _number(request: web.Request, name: str, default: int, least: int, most: int) -> int:
    text = request.query.get(name, str(default))
    if not (text.isascii() and text.isdigit() and len(text) <= len(str(most)) and least <= int(text) <= most):
        raise BadRequest(f"{name}={text!r:.100} is not a number from {least} to {most}")
    return int(text)
