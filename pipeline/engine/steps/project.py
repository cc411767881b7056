"""message -> row."""

from __future__ import annotations

from typing import Any

from pipeline.engine.ports import Record
from pipeline.engine.state.table import Table
from pipeline.engine.steps.step import DecidedAt, Step
from pipeline.flow import event_to_row, message_to_row, row_to_index
from pipeline.model import Projection


class ProjectStep(Step):
    """message -> row: into the projection's table; its changelog `<name>.row` carries the rows downstream."""

    def __init__(self, projection: Projection[Any, Any], table: Table) -> None:
        self.name = f"project:{projection.name}"
        self.projection, self.table = projection, table
        self.indexes = projection.indexes
        self.direct = projection.route is None  # fed by events themselves, which come in an envelope
        self.start = projection.start if self.direct else None  # a topic of messages by key is its own

    def fold(self, key: bytes, record: Record, message: Any, placed: DecidedAt | None = None) -> None:
        row = self.table.get(key)
        if self.direct:
            row = event_to_row(self.projection, key, row, message)
        else:
            row = message_to_row(self.projection, row, message)
        if self.indexes and row is not None:
            for _ in row_to_index(self.indexes, row):  # what it raises is to be raised here, and not after the commit
                pass
        self.table.put(key, row)
