"""Keeping a lane: what its driver is to do next, and whether another follows one that failed. No I/O, no clock."""

from __future__ import annotations

import logging
from collections.abc import Callable, Generator
from functools import partial
from typing import Any, NamedTuple

from pipeline.engine.loop.lane import Lane
from pipeline.engine.stats import LaneStats
from pipeline.errors import BrokerUnreachable, DatabaseUnreachable, LaneFatal, OutOfDescriptors

log = logging.getLogger(__name__)

REOPEN_S = (0.1, 0.5, 1.0, 2.0, 5.0)
AWAY_S = 0.5  # on top of the seconds that it takes to find that no broker answers
CALM_S = 60.0  # a lane that has lived so long was opened rightly
HEALS_MAX = 2  # of these, that are no error yet: what another lane cures
FRUITLESS_MAX = 10  # lanes in a row that fail early and without a single commit, before the worker gives up


class Call(NamedTuple):
    """Call this, which makes a lane, opens, closes or abandons it; what it returns is the answer."""

    call: Callable[[], Lane | None]
    error: Exception | None = None  # what ended the lane that is abandoned


class Turn(NamedTuple):
    """Run one turn of the lane. The answer is Now."""

    lane: Lane


class Pause(NamedTuple):
    """Let so much time pass, or less if the service is to stop. The answer is Now."""

    seconds: float


class Now(NamedTuple):
    """The driver's monotonic clock, and whether the service is to stop."""

    seconds: float
    stopping: bool


Step = Call | Turn | Pause


def supervise(
    service: str, stats: LaneStats, make: Callable[[], Lane], lane: Lane | None = None
) -> Generator[Step, Any, None]:
    """Keep a lane until the service is to stop: another takes the place of one that fails, after a pause.

    `lane`: the first, if it is made already. Raises the error that another lane does not cure.
    """
    fruitless, again = 0, False
    while True:
        commits, lived_s = stats.checkpoints, 0.0
        try:
            if lane is None:
                lane = yield Call(make)
                stats.reopened += again
            yield Call(lane.open)
            now = first = yield Turn(lane)
            while not now.stopping:
                now = yield Turn(lane)
                lived_s = now.seconds - first.seconds
        except Exception as error:
            if lane is not None:
                try:
                    yield Call(partial(lane.abandon, error), error)
                except Exception:  # what it leaves behind, the next lane or the next process has to cope with anyway
                    log.exception("%s: the failed lane could not be closed cleanly", service)
            if stats.checkpoints > commits or lived_s > CALM_S:
                fruitless = 0
            if isinstance(error, (BrokerUnreachable, DatabaseUnreachable)):  # however long: it comes back
                pause_s = AWAY_S
            # A lane that is closed gives its files back, and what else had taken them may, too.
            elif isinstance(error, (LaneFatal, OutOfDescriptors)) and fruitless < FRUITLESS_MAX:
                pause_s = REOPEN_S[min(fruitless, len(REOPEN_S) - 1)]
                fruitless += 1
            else:
                raise
            level = logging.WARNING if fruitless <= HEALS_MAX else logging.ERROR
            text, event = "%s: %s; going on from the last commit in %.1f s", {"event": "reopened", "service": service}
            log.log(level, text, service, error, pause_s, extra=event)
            if (yield Pause(pause_s)).stopping:
                return
            lane, again = None, True
        else:
            try:
                yield Call(lane.close)
            except (LaneFatal, BrokerUnreachable) as error:
                log.warning("%s: stopped without a last commit (%s); nothing is lost", service, error)
            return
