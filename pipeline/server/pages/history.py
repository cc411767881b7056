"""History over HTTP: the events of an aggregate, and its earlier states."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping
from typing import Any

from pipeline.adapters.json.writing import row_json, to_json
from pipeline.engine.copies.history_follower import HistoryFollower
from pipeline.engine.state.history_reader import HistoryReader
from pipeline.errors import FoldError, HistoryIncomplete, TableUnavailable, UnknownKey, UpcastFailed
from pipeline.model import EventMessage, StateMessage
from pipeline.model.changes.upcasts import today
from pipeline.server.endpoint import Page, Pages, Reply, Request
from pipeline.server.endpoints.aggregates import HISTORY, STATE
from pipeline.server.owner.dispatch import Dispatcher
from pipeline.server.reads.local_tables import LocalTables

LEVEL_S, LOOK_S = 1.0, 0.005  # how long to wait for events that the table contains, how often to look
Histories = Mapping[tuple[str, int], HistoryFollower]


class HistoryApi:
    """`GET /v1/history/{aggregate}/{key}` and `GET /v1/history/{aggregate}/{key}/state`."""

    def __init__(self, histories: Callable[[], Histories], tables: LocalTables, dispatcher: Dispatcher) -> None:
        self._histories, self._tables, self._dispatcher = histories, tables, dispatcher

    def pages(self) -> Pages:
        """Return the pages."""
        return {HISTORY: Page(self.events, self._check), STATE: Page(self.state, self._check)}

    async def events(self, request: Request) -> Reply:
        """Return events in the order of their versions, page by page."""
        return await self._told(request, lambda copy, key: page_of(copy.past, key, request["after"], request["limit"]))

    async def state(self, request: Request) -> Reply:
        """Return the state at a version or time; the present one by default."""
        return await self._told(request, lambda copy, key: _state(copy, key, *request["as_of"]))

    def _check(self, request: Request) -> None:
        self._dispatcher.topology.with_history(request.parts["aggregate"])

    async def _told(self, request: Request, tell: Callable[[HistoryFollower, bytes], dict[str, Any]]) -> Reply:
        name, key, partition = request.parts["aggregate"], request.parts["key"], request.partition
        copy, current = await self._level(name, partition, key)
        found = await self._dispatcher.blocking(lambda: tell(copy, key.encode()))
        self._copy(name, partition)  # raises if it was wiped meanwhile
        return Reply(200, {"aggregate": name, "key": key, **found, "current": current})

    async def _level(self, name: str, partition: int, key: str) -> tuple[HistoryFollower, int]:
        """Return the history once it has caught up with the table, and the table's version of the key.

        So a client that has seen a command's outcome finds its events. After a second, return the history as it is.
        Raises UnknownKey if the key has no events.
        """
        row = self._tables.get(name, partition, key)
        current: int = 0 if row is None else row["version"]
        deadline = time.monotonic() + LEVEL_S
        while True:
            copy = self._copy(name, partition)
            last = copy.past.last(key.encode())
            if last >= current > 0:
                return copy, current
            if current == 0:  # its first events may be committed, and the table written in a moment
                if last == 0:
                    raise UnknownKey(f"{name} {key!r} has no events")
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
    """Return up to `limit` versions after `after` as JSON, and the range of versions there are.

    If the log has lost its beginning, the first page begins with what is left.
    """
    first, last = past.first(key), past.last(key)
    after = max(after, first - 1)
    events = [
        {
            "version": event.version,
            "time_ms": event.time_ms,
            "command_id": event.command_id,
            "correlation_id": event.correlation_id,
            "event": to_json(event.body, tagged=True),
            **({"read": event.read} if past.spec.aggregate.reads else {}),
        }
        for stored in past.events(key, after, limit)
        if stored.version <= last
        for event in shown_events(stored)
    ]
    return {"events": events, "next": after + limit if after + limit < last else None, "first": first, "last": last}


def shown_events(stored: EventMessage) -> list[EventMessage]:
    """Return the events that an event stands for; those that an old one was upcast to share its version.

    One that was upcast to none is shown without a body.
    """
    try:
        return today(stored) or [stored._replace(body=None)]
    except UpcastFailed as error:
        raise FoldError(f"version {stored.version} cannot be shown: {error}") from error


def _state(copy: HistoryFollower, key: bytes, version: int | None, time_ms: int | None) -> dict[str, Any]:
    past = copy.past
    last = past.last(key)
    if time_ms is not None:
        version = past.version_at(key, time_ms)
    elif version is None:
        version = last
    elif version > last:
        raise UnknownKey(f"{key.decode()!r} is at version {last}; version {version} does not exist yet")
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
