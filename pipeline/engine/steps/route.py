"""event -> messages by row key."""

from __future__ import annotations

from typing import Any

from pipeline.engine.ports import Record
from pipeline.engine.steps.step import DecidedAt, Encode, Output, Step
from pipeline.flow import event_to_messages, late_events
from pipeline.model import EventMessage, Projection
from pipeline.model.records.keys import ROW_KEY_BYTES_MAX, key_bytes, named


class RouteStep(Step):
    """event -> messages by row key, over the repartition topic. `source`: the declared topic of the events."""

    def __init__(self, projection: Projection[Any, Any], source: str, topic: str, encode: Encode, out: Output) -> None:
        self.name, self.start = f"route:{projection.name}", projection.start
        self.projection, self.source, self.topic, self.encode = projection, source, topic, encode
        self.emit = out.emit
        self.stats = out.stats
        self._giver = f"projection {projection.name!r}: its route {named(projection.route)}"

    def fold(self, key: bytes, record: Record, message: EventMessage, placed: DecidedAt | None = None) -> None:
        if self.projection.windows is not None:
            for _ in range(late_events(self.projection, message)):
                self.stats.leave_out(self.projection.name)
        parts = event_to_messages(self.projection, self.source, key.decode(), message)
        messages = [
            (key_bytes(row_key, ROW_KEY_BYTES_MAX, self._giver, "a row"), self.encode(part)) for row_key, part in parts
        ]
        for to, data in messages:
            self.emit(self.topic, to, data, -1)
