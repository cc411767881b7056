"""Measures how far the lanes of a worker are behind, every other second, in a thread of its own.

Scrapes and probes read what was measured last: they ask no broker. Nor does a lane wait for what is asked here.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple, Protocol

from pipeline.engine.places import Place, Places, Restore, WaitsFor
from pipeline.engine.ports import TP, Clock
from pipeline.errors import PipelineError

log = logging.getLogger(__name__)

LOOK_S = 2.0  # between two looks
GOES_ON = (WaitsFor.NOTHING, WaitsFor.PARKED_KEY)


class Logs(Protocol):
    """What is asked of the broker; see KafkaLogs."""

    def ends(self, partitions: Sequence[TP]) -> Mapping[TP, int]: ...
    def firsts(self, partitions: Sequence[TP]) -> Mapping[TP, int]: ...
    def appended_ms(self, starts: Mapping[TP, int]) -> Mapping[TP, int | None]: ...


class Lag(NamedTuple):
    """How far a partition of a service is behind.

    `records`: from the next to fold to the end of the log, transaction markers included; None before it is known what
    was committed. `seconds`: the age of the next record to fold, 0 if there is none; None if it is not known.
    """

    service: str
    tp: TP
    records: int | None
    seconds: float | None
    waits_for: WaitsFor
    restore: Restore | None = None


class Seen(NamedTuple):
    """What a look has seen of a partition that stood at `offset` of a log up to `end`.

    `since_ms`: when its next record was appended; 0 if there is none. `is_read`: that record was read; else it is an
    estimate, or None. `caught_up_ms`: when the partition was last seen without lag; 0: never.
    """

    offset: int
    end: int
    caught_up_ms: int
    since_ms: int | None
    is_read: bool = False

    @property
    def lagged(self) -> bool:
        """Whether anything stood behind it."""
        return self.end > self.offset


class LagWatch:
    """The lag of all partitions of a worker's lanes. `places`: of each service, those of its present lane."""

    def __init__(self, places: Callable[[], Mapping[str, Places]], logs: Logs, clock: Clock) -> None:
        self.places, self._logs, self._clock = places, logs, clock
        self._seen: dict[tuple[str, TP], Seen] = {}
        self._lags: Sequence[Lag] = ()
        self._looked_s: float | None = None
        self._ended = threading.Event()

    # --- what others ask ----------------------------------------------------------------------------------------------

    @property
    def lags(self) -> Sequence[Lag]:
        """What was measured last. Safe from any thread."""
        return self._lags

    def age_s(self) -> float | None:
        """How long ago that was; None if nothing was measured yet. It grows while the broker does not answer."""
        return None if self._looked_s is None else self._clock.monotonic_s() - self._looked_s

    def as_json(self) -> dict[str, dict[str, Any]]:
        """Return what was measured last by service and partition, such as `users.command-0`, for /v1/status."""
        found: dict[str, dict[str, Any]] = {}
        for lag in self._lags:
            each: dict[str, Any] = {"records": lag.records, "seconds": lag.seconds, "waits_for": lag.waits_for.value}
            each |= {"restore": lag.restore._asdict()} if lag.restore is not None else {}
            found.setdefault(lag.service, {})[f"{lag.tp.topic}-{lag.tp.partition}"] = each
        return found

    def start(self) -> None:
        """Begin to look, in a thread."""
        threading.Thread(target=self._run, name="lag", daemon=True).start()

    async def close(self) -> None:
        """Look no more. Does not wait for a question to the broker that is under way."""
        self._ended.set()

    def _run(self) -> None:
        while not self._ended.wait(LOOK_S):
            try:
                self.look()
            except PipelineError as error:  # the lanes say that the broker is away
                log.debug("the lag is not measured: %s", error)
            except Exception:
                log.exception("the lag cannot be measured")

    # --- a look -------------------------------------------------------------------------------------------------------

    def look(self) -> None:
        """Measure once. Raises BrokerUnreachable."""
        places = {(service, tp): place for service, of in self.places().items() for tp, place in of.all().items()}
        known = {at: place for at, place in places.items() if place.known}
        ends = self._logs.ends(sorted({tp for _, tp in known}))
        firsts = self._logs.firsts(sorted({tp for (_, tp), place in known.items() if place.offset is None}))
        now_ms = self._clock.time_ms()
        seen: dict[tuple[str, TP], Seen] = {}
        for at, place in known.items():
            offset = firsts[at[1]] if place.offset is None else place.offset
            seen[at] = self._estimated(at, place, offset, ends[at[1]], now_ms)
        self._read_next(seen, known)
        self._seen = seen
        now_ms = self._clock.time_ms()
        self._lags = [self._lag(at, place, now_ms) for at, place in sorted(places.items(), key=lambda it: it[0])]
        self._looked_s = self._clock.monotonic_s()

    def _estimated(self, at: tuple[str, TP], place: Place, offset: int, end: int, now_ms: int) -> Seen:
        """Return what is known of a partition without reading its next record.

        Where it moves, that came behind the last one folded, and after the partition was last seen without lag. Where
        it stands, the record is to be read, once.
        """
        if end <= offset:
            return Seen(offset, end, now_ms, 0)
        before = self._seen.get(at)
        if before is not None and before.offset == offset and before.is_read and (before.since_ms or before.end == end):
            return before._replace(end=end)
        caught_up_ms = 0 if before is None else before.caught_up_ms
        stands = before is not None and before.offset == offset and before.lagged
        if stands or place.waits_for not in GOES_ON:
            return Seen(offset, end, caught_up_ms, None)
        return Seen(offset, end, caught_up_ms, max(place.appended_ms, caught_up_ms) or None)

    def _read_next(self, seen: dict[tuple[str, TP], Seen], places: Mapping[tuple[str, TP], Place]) -> None:
        """Read the next records of partitions of which it is not known when they were appended."""
        unread = {at: each for at, each in seen.items() if each.since_ms is None}
        while unread:  # services may stand at different offsets of a partition
            starts = {tp: each.offset for (_, tp), each in unread.items()}
            found = self._logs.appended_ms(starts)
            for at in [at for at, each in unread.items() if starts[at[1]] == each.offset]:
                each = unread.pop(at)
                if at[1] in found:
                    seen[at] = each._replace(since_ms=found[at[1]] or 0, is_read=True)
                else:  # no answer in time
                    seen[at] = each._replace(since_ms=max(places[at].appended_ms, each.caught_up_ms) or None)

    def _lag(self, at: tuple[str, TP], place: Place, now_ms: int) -> Lag:
        seen = self._seen.get(at)
        if seen is None:
            return Lag(*at, None, None, place.waits_for, place.restore)
        seconds = max(0, now_ms - seen.since_ms) / 1000 if seen.since_ms else seen.since_ms
        return Lag(*at, max(0, seen.end - seen.offset), seconds, place.waits_for, place.restore)
