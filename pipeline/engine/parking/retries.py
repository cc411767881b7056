"""Transient errors: how often a record is tried again, and after how long, before it is parked. No I/O, no clock."""

from __future__ import annotations

from pipeline.engine.ports import Record
from pipeline.engine.stats import LaneStats

TRIES_MAX = 5
AGAIN_S = 0.1  # after the first error; twice as long after each further one


class Retries:
    """Those of one reader of a partition, which stands before the record meanwhile. `transient`: types of errors."""

    def __init__(self, transient: tuple[type[Exception], ...], stats: LaneStats) -> None:
        self._transient, self._stats = transient, stats
        self.offset, self._times = -1, 0  # the record that has raised such an error, and how often

    def is_next(self, record: Record, error: BaseException) -> bool:
        """Whether the record is to be tried again, after `pause_s`; else it is to be parked."""
        if not isinstance(error, self._transient):
            return False
        self._times = self._times + 1 if self.offset == record.offset() else 1
        self.offset = record.offset()
        if self._times >= TRIES_MAX:
            return False
        self._stats.tried_again += 1
        return True

    @property
    def pause_s(self) -> float:
        """How long to wait before the next try."""
        pause_s: float = AGAIN_S * 2 ** (self._times - 1)
        return pause_s
