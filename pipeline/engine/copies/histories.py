"""The histories of a lane: one for each command partition that it folds, over a log reader of their own.

They come last: opened when no task waits for its tables any more, and not read while one does.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable

from pipeline.engine.copies.history_follower import HistoryFollower
from pipeline.engine.copies.log_followers import LogFollowers
from pipeline.engine.plan import ServicePlan
from pipeline.engine.ports import TP, Clock, LogReader, Stores
from pipeline.engine.stats import LaneStats
from pipeline.errors import BrokerUnreachable

log = logging.getLogger(__name__)

OPENED_AT_ONCE = 4  # a database takes 7 ms to open, for which nothing is folded
SNAPSHOT_EVERY = 100  # events of a key: so many at most are folded for a state of then
PAUSE_S = 1.0  # after a question that the broker has not answered


Views = dict[tuple[str, int], HistoryFollower]  # by aggregate and partition


class Histories:
    """All histories that one lane keeps. `reader` is theirs alone, and closed with them."""

    def __init__(
        self,
        plan: ServicePlan,
        reader: LogReader,
        stores: Stores,
        clock: Clock,
        stats: LaneStats,
        snapshot_every: int = SNAPSHOT_EVERY,
    ) -> None:
        self.views: Views = {}  # read by other threads
        self._plan, self._reader, self._stores = plan, reader, stores
        self._clock, self._stats, self._every = clock, stats, snapshot_every
        self._following = LogFollowers(reader, clock)
        self._to_open: list[TP] = []
        self._again_s = 0.0  # not before that

    def add(self, sources: Iterable[TP]) -> None:
        """Take in partitions that are folded from now on; `step` opens their histories."""
        self._to_open += [tp for tp in sources if tp.topic in self._plan.histories]

    def remove(self, sources: Iterable[TP]) -> None:
        """Close those of partitions that are given up."""
        for tp in sources:
            if tp in self._to_open:
                self._to_open.remove(tp)
            spec = self._plan.histories.get(tp.topic)
            copy = self.views.pop((spec.aggregate.name, tp.partition), None) if spec else None
            if copy is not None:
                self._following.forget(copy)
                copy.close()

    def step(self) -> bool:
        """Open what is to be opened and take in what has arrived, without waiting. False if that was nothing."""
        opened = bool(self._to_open) and self._clock.monotonic_s() >= self._again_s and self._open()
        if not self.views:
            return False
        followed = self._following.step() or opened
        if followed or self._stats.histories_building:
            self._stats.histories_building = sum(copy.building for copy in self.views.values())
        return followed

    def flush(self) -> None:
        """Bound what a crash leaves to read again."""
        for copy in self.views.values():
            copy.flush()

    def close(self) -> None:
        """Close what is left, and the reader."""
        self._to_open.clear()
        for copy in self.views.values():
            copy.close()
        self.views.clear()
        self._reader.close()

    def _open(self) -> bool:
        """Open some; False if the broker has to be asked again."""
        sources, histories = self._to_open[:OPENED_AT_ONCE], self._plan.histories
        logs = {tp: TP(histories[tp.topic].topic, tp.partition) for tp in sources}
        try:
            facts = self._reader.facts(sorted({event_log.topic for event_log in logs.values()}))
            ends = self._reader.ends(list(logs.values()))
        except BrokerUnreachable as error:  # what is folded goes on
            log.warning("%s: its history waits: %s", self._plan.service.name, error)
            self._again_s = self._clock.monotonic_s() + PAUSE_S
            return False
        for tp, event_log in logs.items():
            spec = histories[tp.topic]
            store = self._stores.open(f"history.{spec.aggregate.name}-{tp.partition}")
            copy = HistoryFollower(spec, tp.partition, store, self._stats, self._every)
            self.views[spec.aggregate.name, tp.partition] = copy
            self._to_open.remove(tp)
            self._following.follow(copy, {event_log: copy.begin(facts[event_log.topic], ends[event_log])})
        self._stats.histories_building = sum(copy.building for copy in self.views.values())
        return True
