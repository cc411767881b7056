"""state -> projection: bring what happened to the rows it concerns, and fold it into each row."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from pipeline.model.messages import EventMessage
from pipeline.model.projection import Projection, Replica


def event_to_messages(projection: Projection[Any, Any], key: str, event: EventMessage) -> Iterable[tuple[str, Any]]:
    """Pairs (row key, message) that `event` of the aggregate `key` brings to a re-keyed projection."""
    assert projection.route is not None
    return projection.route(key, event.body)


def message_to_row(projection: Projection[Any, Any] | Replica[Any, Any], row: Any | None, message: Any) -> Any | None:
    """The row after `message`; `row` is None where there is none yet, and None comes back where it is to be deleted."""
    return projection.evolve(projection.initial if row is None else row, message)
