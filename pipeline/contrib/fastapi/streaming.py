"""Changes of a row as server-sent events, as a worker sends them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import suppress
from typing import Any, cast

from fastapi.responses import StreamingResponse

from pipeline.adapters.json.writing import json_text, to_json
from pipeline.client.typed.rows import Row
from pipeline.errors import Retryable

FIRST_S = 1.0  # how long the response waits for the first change, so that an error before it is a problem document
QUIET_S = 15.0  # after so long without a change a comment keeps the connection
HEADERS = {"Cache-Control": "no-cache", "X-Accel-Buffering": "no"}


async def event_stream(changes: AsyncIterator[Any]) -> StreamingResponse:
    """Return a response that sends each change that `queries.watch` yields, with its position as the event's id.

    A browser's EventSource goes on after the last id by itself: hand its header Last-Event-ID to `watch` as `since`.
    The stream ends if no worker can watch the row for a time, and if the browser has gone.
    """
    first = asyncio.ensure_future(anext(changes))
    try:
        await asyncio.wait({first}, timeout=FIRST_S)
        if first.done() and (error := first.exception()) and not isinstance(error, StopAsyncIteration):
            raise error
    except BaseException:
        await _end(changes, first)
        raise
    return StreamingResponse(_events(changes, first), media_type="text/event-stream", headers=HEADERS)


async def _events(changes: AsyncIterator[Any], following: asyncio.Future[Any]) -> AsyncIterator[str]:
    try:
        while True:
            await asyncio.wait({following}, timeout=QUIET_S)
            if not following.done():
                yield ":\n\n"
                continue
            change = _json(following.result())
            following = asyncio.ensure_future(anext(changes))
            yield f"id: {change['position']}\ndata: {json_text(change)}\n\n"
    except (StopAsyncIteration, Retryable):
        return
    finally:
        await _end(changes, following)


async def _end(changes: AsyncIterator[Any], following: asyncio.Future[Any]) -> None:
    """Close the watch: what waits for its next change first."""
    following.cancel()
    with suppress(BaseException):
        await following
    await cast(AsyncGenerator[Any, None], changes).aclose()


def _json(change: Row[Any] | dict[str, Any]) -> dict[str, Any]:
    """Return a change as a worker sends it."""
    if not isinstance(change, Row):
        return change
    of_aggregates = {"version": change.version, "time_ms": change.time_ms} if change.version is not None else {}
    return {"key": change.key, "row": to_json(change.row), **of_aggregates, "position": change.position}
