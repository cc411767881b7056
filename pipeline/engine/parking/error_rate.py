"""How often the topology's code raises: now and then it is the data, often it is the code, and the service is held."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Mapping
from shlex import quote
from typing import NamedTuple

from pipeline.engine.parking.parking_log import describe_error, key_text, raised_at
from pipeline.engine.ports import TP, Clock
from pipeline.engine.stats import LaneStats

log = logging.getLogger(__name__)

WINDOW_S = 60.0
TRICKLE_S = 3600.0  # for so long at most a quiet service is looked back on, to see enough of its records
LOOK_S = 1.0  # commits within that are counted together
LOG_S = 1.0  # between warnings of parked records


class Committed(NamedTuple):
    """What was committed at some time: records folded, and how many of them raised."""

    at_s: float
    folded: int
    raised: int


class ErrorRate:
    """Counts what one lane folds, and what raises, once it is committed; and holds the service if that is too much.

    The window is the last minute, or longer if that has too few records to judge by: as many as `at_least` are the
    `share` of. A record that is folded again after an abort counts once.
    """

    def __init__(self, service: str, clock: Clock, stats: LaneStats, share: float, at_least: int) -> None:
        self._service, self._clock, self._stats = service, clock, stats
        self._share, self._at_least = share, at_least
        self._enough = at_least / share if share else 0.0  # records to judge by
        self._window: deque[Committed] = deque()
        self._folded = self._raised = 0  # of the window
        self._before = stats.records  # as of the last commit or abort
        self._raised_now: dict[tuple[TP, int], BaseException] = {}  # since then, by the record's place
        self._told_s, self._untold = -LOG_S, 0
        self.error: BaseException | None = None  # the last one before the service was held

    def record(self, tp: TP, offset: int, error: BaseException) -> None:
        """The topology's code has raised on that record."""
        self._raised_now[tp, offset] = error

    def roll_back(self) -> None:
        """What was folded since the last commit was not committed."""
        self._before = self._stats.records
        self._raised_now.clear()

    def mark_committed(self) -> None:
        """What was folded since the last commit is committed. Hold the service if too much of the window raised."""
        now, folded, raised = self._clock.monotonic_s(), self._stats.records - self._before, len(self._raised_now)
        if folded or raised:
            if self._window and now - self._window[-1].at_s < LOOK_S:
                last = self._window.pop()
                self._window.append(Committed(last.at_s, last.folded + folded, last.raised + raised))
            else:
                self._window.append(Committed(now, folded, raised))
            self._folded, self._raised = self._folded + folded, self._raised + raised
            self._forget(now)
        if raised and self._raised >= self._at_least and self._raised > self._share * self._folded:
            self._hold(now)
        self.roll_back()

    def _forget(self, now: float) -> None:
        while (first := self._window[0]).at_s < now - WINDOW_S:
            if self._folded - first.folded < self._enough and first.at_s >= now - TRICKLE_S:
                break
            self._window.popleft()
            self._folded, self._raised = self._folded - first.folded, self._raised - first.raised

    def _hold(self, now: float) -> None:
        (topic, partition), offset = next(reversed(self._raised_now))
        self.error = next(reversed(self._raised_now.values()))
        cause, _ = describe_error(self.error)
        lately = max(WINDOW_S, now - self._window[0].at_s)
        self._stats.hold(
            f"{self._service} is held, as {self._raised} of the {self._folded} records folded within {lately:.0f} s "
            f"raised, at last {topic}-{partition} offset {offset}: {cause}. They are parked and committed; nothing "
            "more is folded here. If it is the code, mend it, start the worker again and redrive what was parked "
            f"(pipeline parked redrive --service {self._service}); if it is the data, go on with: pipeline "
            f"resume {self._service}"
        )
        log.error("%s", self._stats.held_why, extra={"event": "held", "service": self._service})

    def resume(self) -> None:
        """Begin to count anew."""
        self._window.clear()
        self._folded = self._raised = 0
        self._stats.hold("")

    def warn(
        self, tp: TP, offset: int, key: bytes, cause: str, error: BaseException, ids: Mapping[str, str] | None = None
    ) -> None:
        """Warn of a parked record, unless a warning was logged a moment ago. `ids`: of command and request."""
        now = self._clock.monotonic_s()
        if now - self._told_s < LOG_S:
            self._untold += 1
            return
        others = f" (and {self._untold} others before it)" if self._untold else ""
        self._told_s, self._untold = now, 0
        name = key_text(key)
        line = f", raised at {place}" if (place := raised_at(error)) else ""
        event = {"event": "parked", "service": self._service, **tp._asdict(), "offset": offset, "key": name}
        log.warning(
            "%s parks %s-%d offset %d, and with it the key %s: %s%s%s; more with: pipeline parked show --key %s",
            *(self._service, *tp, offset, name, cause, line, others, quote(name)),
            extra=event | dict(ids or {}),
        )
