"""event -> row: route an event to the rows that it concerns, and fold it into each."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from pipeline.model.projection.projection import Projection, Replica
from pipeline.model.projection.windows import Tumbling
from pipeline.model.records.messages import EventMessage


def event_to_messages(projection: Projection[Any, Any], key: str, event: EventMessage) -> Iterable[tuple[str, Any]]:
    """Return the pairs (row key, message) of a routed projection for `event` of the aggregate `key`."""
    assert projection.route is not None
    windows = projection.windows
    if windows is None:
        return projection.route(key, event.body)
    if is_late(projection, event):
        return []
    start = windows.name(_happened_ms(windows, event))
    pairs = projection.route(key, event.body)
    # A key that is not text stays as it is; encoding it raises an error.
    return [(f"{row_key}/{start}" if isinstance(row_key, str) else row_key, part) for row_key, part in pairs]


def is_late(projection: Projection[Any, Any], event: EventMessage) -> bool:
    """Whether the event was stored too late for its window, so that it is left out."""
    windows = projection.windows
    return windows is not None and windows.is_late(_happened_ms(windows, event), event.time_ms)


def _happened_ms(windows: Tumbling, event: EventMessage) -> int:
    if windows.at is None:
        return event.time_ms
    at_ms = windows.at(event.body)
    if type(at_ms) is not int:
        kind = type(event.body).__name__
        raise TypeError(f"`at` of the windows gives {at_ms!r:.100} for {kind}, not a whole number of milliseconds")
    return at_ms


def message_to_row(projection: Projection[Any, Any] | Replica[Any, Any], row: Any | None, message: Any) -> Any | None:
    """The row after `message`; `row` is None if there is none yet, and None is returned if it is to be deleted."""
    return projection.evolve(projection.initial if row is None else row, message)
