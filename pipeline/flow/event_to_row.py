"""event -> row: route an event to the rows that it concerns, and fold it into each."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from pipeline.flow.functions.in_context import of_event
from pipeline.flow.functions.returned import returned_list
from pipeline.model.changes.upcasts import Upcast, today
from pipeline.model.projection.projection import Projection, Replica
from pipeline.model.projection.windows import Tumbling
from pipeline.model.records.messages import EventMessage


def event_to_messages(
    projection: Projection[Any, Any], topic: str, key: str, event: EventMessage
) -> Iterable[tuple[str, Any]]:
    """Return the pairs (row key, message) of a routed projection for `event` of the aggregate `key`, on `topic`."""
    route = projection.route
    assert route is not None
    if type(event.body) is Upcast:
        parts = event.body.of(event)
        return [pair for part in parts for pair in event_to_messages(projection, topic, key, part)]
    if projection.route_in_context:
        route = of_event(route, topic, key, event)
    windows = projection.windows
    if windows is None:
        return _pairs(projection, event, route(key, event.body))
    if late_events(projection, event):
        return []
    start = windows.name(_happened_ms(windows, event))
    pairs = _pairs(projection, event, route(key, event.body))
    # A key that is not text stays as it is; encoding it raises an error.
    return [(f"{row_key}/{start}" if isinstance(row_key, str) else row_key, part) for row_key, part in pairs]


def _pairs(projection: Projection[Any, Any], event: EventMessage, returned: Any) -> Sequence[tuple[Any, Any]]:
    where = f"route of {projection.name!r}"
    pairs = returned_list(where, event.body, returned, "pairs of row key and message")
    for pair in pairs:
        if not isinstance(pair, tuple | list) or len(pair) != 2:
            kind = type(event.body).__name__
            raise TypeError(f"{where} gave {pair!r:.100} on a {kind}: give pairs of row key and message")
    return pairs


def late_events(projection: Projection[Any, Any], event: EventMessage) -> int:
    """Return how many events were stored too late for their window, so that they are left out: 1 or 0, or of parts."""
    windows = projection.windows
    if windows is None:
        return 0
    return sum(windows.is_late(_happened_ms(windows, part), part.time_ms) for part in today(event))


def _happened_ms(windows: Tumbling, event: EventMessage) -> int:
    if windows.at is None:
        return event.time_ms
    at_ms = windows.at(event.body)
    if type(at_ms) is not int:
        kind = type(event.body).__name__
        raise TypeError(f"`at` of the windows gives {at_ms!r:.100} for {kind}, not a whole number of milliseconds")
    return at_ms


def event_to_row(
    table: Projection[Any, Any] | Replica[Any, Any], key: bytes, row: Any | None, event: EventMessage
) -> Any | None:
    """The row of `key` after `event`; None stands for no row, in what is given and what is returned."""
    body = event.body
    if type(body) is Upcast:
        for part in body.of(event):
            row = event_to_row(table, key, row, part)
        return row
    evolve = table.evolve
    if table.evolve_in_context:
        source = table.source if isinstance(table, Replica) else table.sources[0]
        evolve = of_event(evolve, source.topic, key.decode(), event)
    return evolve(table.initial if row is None else row, body)


def message_to_row(projection: Projection[Any, Any], row: Any | None, message: Any) -> Any | None:
    """The row of a routed projection after `message`; None stands for no row, given or returned."""
    return projection.evolve(projection.initial if row is None else row, message)
