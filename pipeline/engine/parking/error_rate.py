"""How often the topology's code raises: now and then it is the data, often it is the code, and the service stops."""

from __future__ import annotations

import logging
from collections import deque

from pipeline.engine.ports import TP, Clock
from pipeline.engine.stats import LaneStats
from pipeline.errors import FoldError

log = logging.getLogger(__name__)

WINDOW_S = 60.0
LOOK_S = 1.0  # between counts of the records folded
SHARE = 0.01  # of the records of a minute
AT_LEAST = 10  # so that a bad record in a quiet minute stops nobody
LOG_S = 1.0  # between warnings of parked records


class ErrorRate:
    """Counts what one lane folds and what raises. A record that is folded again after an abort counts once."""

    def __init__(self, service: str, clock: Clock, stats: LaneStats, share: float, at_least: int) -> None:
        self._service, self._clock, self._stats = service, clock, stats
        self._share, self._at_least = share, at_least
        self._counts: deque[tuple[float, int]] = deque([(clock.monotonic_s(), stats.records)])
        self._raised: dict[tuple[TP, int], float] = {}  # when, by the record's place; in the order of time
        self._error: BaseException | None = None
        self._told_s, self._untold = -LOG_S, 0

    def sample(self) -> None:
        """Notes from time to time how many records have been folded."""
        now = self._clock.monotonic_s()
        if now - self._counts[-1][0] >= LOOK_S:
            self._counts.append((now, self._stats.records))
            while len(self._counts) > 1 and self._counts[1][0] <= now - WINDOW_S:
                self._counts.popleft()

    def record(self, tp: TP, offset: int, error: BaseException) -> None:
        """The topology's code has raised on that record."""
        self._raised.setdefault((tp, offset), self._clock.monotonic_s())
        self._error = error

    def stop_if_high(self) -> None:
        """Raises FoldError if it is the code."""
        if not self._raised:
            return
        since = self._clock.monotonic_s() - WINDOW_S
        while self._raised and next(iter(self._raised.values())) < since:
            del self._raised[next(iter(self._raised))]
        raised, folded = len(self._raised), self._stats.records - self._counts[0][1]
        if raised >= self._at_least and raised > self._share * folded:
            (topic, partition), offset = next(reversed(self._raised))
            raise FoldError(
                f"{self._service}: {raised} of the {folded} records folded within a minute raised, at last "
                f"{topic}-{partition} offset {offset}: {self._error!r}. So it is the code, and not the data; mend the "
                "topology and start the worker again, it goes on behind its last commit. What was parked until then "
                "is to be redriven: pipeline parked redrive"
            ) from self._error

    def warn(self, tp: TP, offset: int, key: bytes, cause: str) -> None:
        """Warns of a parked record, unless one was warned of a moment ago."""
        now = self._clock.monotonic_s()
        if now - self._told_s < LOG_S:
            self._untold += 1
            return
        others = f" (and {self._untold} others before it)" if self._untold else ""
        self._told_s, self._untold = now, 0
        log.warning(
            "%s parks %s-%d offset %d, and with it the key %r: %s%s", self._service, *tp, offset, key, cause, others
        )
