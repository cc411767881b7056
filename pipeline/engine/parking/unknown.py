"""Records that cannot be read yet: their reader stands before them until it has their schema, or newer code."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from pipeline.engine.ports import TP

if TYPE_CHECKING:
    from pipeline.engine.ports import Clock, Record
    from pipeline.engine.stats import LaneStats
    from pipeline.errors import NotKnownYet

log = logging.getLogger(__name__)

AGAIN_S = 1.0  # between two tries
PATIENCE_S = 30.0  # for the schema of a command, as anybody may have written that …
PAUSE_S = 300.0  # … and after one was given up, for so long none is waited for


class Unknown:
    """What one reader of a partition stands before. `reader`: for people, who that is."""

    def __init__(self, reader: str, tp: TP, stats: LaneStats) -> None:
        self._reader, self._tp, self._stats = reader, tp, stats
        self.offset: int | None = None  # of the record that is waited for
        self._name = f"{reader} at {tp.topic}-{tp.partition}"

    def wait(self, offset: int, error: NotKnownYet) -> None:
        """Stand before a record. Say so once in the log, and in the status as long as it lasts."""
        if self.offset != offset:
            event = {"event": "waits_for_schema", **self._tp._asdict(), "offset": offset}
            log.warning("%s waits before offset %d: %s", self._name, offset, error, extra=event)
        self.offset = offset
        self._stats.waiting[self._name] = f"offset {offset}: {error}"

    def go_on(self) -> None:
        """Wait no more."""
        if self.offset is not None:
            event = {"event": "goes_on", **self._tp._asdict(), "offset": self.offset}
            log.warning("%s goes on at offset %d", self._name, self.offset, extra=event)
            self.forget()

    def forget(self) -> None:
        """Drop what is said of it, as the partition is given up."""
        self.offset = None
        self._stats.waiting.pop(self._name, None)


class UnknownInTask(Unknown):
    """What a task stands before."""

    def __init__(self, reader: str, tp: TP, stats: LaneStats, clock: Clock) -> None:
        super().__init__(reader, tp, stats)
        self._clock = clock
        self._since_s, self._gave_up_s = 0.0, -PAUSE_S

    def is_awaited(self, record: Record, error: NotKnownYet, *, by_anybody: bool) -> bool:
        """Whether to stand before a record; else it is to be parked. `by_anybody`: who may have written it."""
        now_s, offset = self._clock.monotonic_s(), record.offset()
        if by_anybody and not error.published:
            if self.offset != offset:
                self._since_s = now_s
            if now_s - self._gave_up_s < PAUSE_S or now_s - self._since_s >= PATIENCE_S:
                if self.offset == offset:
                    self._gave_up_s = now_s
                return False
        self.wait(offset, error)
        return True
