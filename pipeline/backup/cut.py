"""A cut through all logs of a topology, at which no service is in the midst of anything.

A service commits its outputs, its positions and its offsets in one transaction, over many partitions, and there is no
moment at which the broker would tell all of them. So for a moment there is a barrier in all that services fold: they
fold what stands before it, commit, and wait. Then nothing moves but what clients send, and where logs end is asked.
"""

from __future__ import annotations

import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager
from typing import NamedTuple

from pipeline.adapters.kafka import QUIET_S, KafkaLogReader, admin, end_offsets, first_offsets
from pipeline.adapters.kafka.cluster import member_names
from pipeline.adapters.kafka.exact.barrier import Barrier
from pipeline.adapters.kafka.group_offsets import Committed, GroupOffsets
from pipeline.adapters.kafka.topics import partition_counts
from pipeline.engine.plan import ServicePlan
from pipeline.engine.ports import TP
from pipeline.errors import ServicesBusy, TopicError
from pipeline.model import TopicKind
from pipeline.model.records.topics import SCHEMAS_TOPIC

NAME = "pipeline-backup"
NEAR = 1_000  # records that a service may be behind when the barrier is set
NEAR_S = 60.0
HOLD_S = 5.0  # for how long services wait at most
STILL_S = 0.15  # longer than a transaction that is under way takes to commit
TRIES = 3
PAUSE_S = 0.02
LOOK_S = 0.2
Offsets = Mapping[str, Mapping[TP, Committed]]  # by group


class Cut(NamedTuple):
    """Where all logs begin and end, and what groups have committed then. `held_s`: for how long services waited."""

    low: dict[TP, int]
    end: dict[TP, int]
    committed: Offsets
    held_s: float


class Cutter:
    """Takes a cut. `topics`: all that belong to the services."""

    def __init__(self, bootstrap: str, plans: Sequence[ServicePlan], topics: Collection[str]) -> None:
        self._bootstrap, self._admin = bootstrap, admin(bootstrap)
        counts = partition_counts(self._admin)
        self.all = [TP(topic, n) for topic in sorted(topics) for n in range(counts[topic])]
        self._sources = {
            plan.group: [TP(topic, n) for topic in plan.source_topics for n in range(counts[topic])] for plan in plans
        }
        commands = TopicKind.COMMAND
        self._told = [tp for tp in self.all if TopicKind.of(tp.topic) is not commands]  # only services write there
        self._running: list[str] = []

    def take(self) -> Cut:
        """Take a cut. Raises ServicesBusy, BrokerUnreachable."""
        self._running = self._members()
        with ExitStack() as clients:
            offsets = {
                group: clients.enter_context(closing(GroupOffsets(self._bootstrap, group))) for group in self._sources
            }
            if not self._running and (found := self._look(offsets)) and not self._members():
                return self._cut(*found, 0.0)
            self._running = self._members()
            reader = clients.enter_context(closing(KafkaLogReader(self._bootstrap, NAME)))
            self._come_near(offsets)
            late = ""
            for _ in range(TRIES):
                with self._barrier() as stand:
                    began_s = time.monotonic()
                    while time.monotonic() - began_s < HOLD_S:
                        if late := self._late(self._committed(offsets), stand, reader):
                            time.sleep(PAUSE_S)
                        elif found := self._look(offsets):
                            held_s = time.monotonic() - began_s
                            break
                    else:
                        continue
                return self._cut(*found, held_s)
        raise ServicesBusy(
            f"services do not come to rest within {HOLD_S:.0f} s"
            + (f": {late}" if late else ", as deadlines fire all the time")
            + "; try again when less is under way, or stop the workers meanwhile"
        )

    def _members(self) -> list[str]:
        """Return the groups that have members."""
        return [group for group in self._sources if member_names(self._admin, group)]

    @contextmanager
    def _barrier(self) -> Iterator[Mapping[TP, int]]:
        """Hold all partitions that running services fold."""
        held = sorted({tp for group in self._running for tp in self._sources[group]})
        with Barrier(self._bootstrap, NAME) as barrier:
            yield barrier.hold(held)

    def _committed(self, offsets: Mapping[str, GroupOffsets]) -> dict[str, dict[TP, Committed]]:
        return {group: each.of_all(self._sources[group], QUIET_S) for group, each in offsets.items()}

    def _look(self, offsets: Mapping[str, GroupOffsets]) -> tuple[dict[TP, int], Offsets] | None:
        """Return where logs end and groups stand; None if services have written anything meanwhile."""
        before, end = self._committed(offsets), end_offsets(self._admin, self.all)
        time.sleep(STILL_S)
        if end_offsets(self._admin, self._told) != {tp: end[tp] for tp in self._told}:
            return None
        return (end, before) if self._committed(offsets) == before else None

    def _cut(self, end: dict[TP, int], committed: Offsets, held_s: float) -> Cut:
        return Cut(first_offsets(self._admin, self.all), end, committed, held_s)

    # --- services that are behind -------------------------------------------------------------------------------------

    def _come_near(self, offsets: Mapping[str, GroupOffsets]) -> None:
        """Wait until no running service is far behind. Raises ServicesBusy."""
        deadline_s = time.monotonic() + NEAR_S
        while far := self._far(self._committed(offsets)):
            if time.monotonic() > deadline_s:
                raise ServicesBusy(
                    f"{far}; a backup is taken once all services have caught up. Wait for that, or stop the workers"
                )
            time.sleep(LOOK_S)

    def _far(self, committed: Offsets) -> str:
        sources = sorted({tp for group in self._running for tp in self._sources[group]})
        end, low = end_offsets(self._admin, sources), first_offsets(self._admin, sources)
        for group in self._running:
            at = {tp: each.offset for tp, each in committed[group].items()}
            behind = sum(end[tp] - at.get(tp, low[tp]) for tp in self._sources[group])
            if behind > NEAR + len(self._sources[group]):
                return f"service {group!r} is some {behind:,} records behind"
        return ""

    def _late(self, committed: Offsets, stand: Mapping[TP, int], reader: KafkaLogReader) -> str:
        """Return which running service has records before the barrier still; empty if none has."""
        low: dict[TP, int] = {}
        for group in self._running:
            behind = {tp: at.offset for tp, at in committed[group].items() if at.offset < stand[tp]}
            if unread := [tp for tp in self._sources[group] if tp not in committed[group]]:
                low = low or first_offsets(self._admin, sorted(stand))
                behind |= {tp: low[tp] for tp in unread}
            if behind and (tp := self._first_with_records(behind, reader)):
                return f"service {group!r} has not folded all of {tp.topic}-{tp.partition}"
        return ""

    def _first_with_records(self, starts: Mapping[TP, int], reader: KafkaLogReader) -> TP | None:
        """Return a partition that has records from there on, up to the barrier."""
        reader.follow(starts)
        try:
            open_, deadline_s = set(starts), time.monotonic() + HOLD_S
            while open_ and time.monotonic() < deadline_s:
                polled = reader.poll(len(starts) + 1, LOOK_S)
                if found := next((tp for tp in polled.batches if tp in open_), None):
                    return found
                open_ -= polled.ends.keys()
            return next(iter(open_), None)
        finally:
            reader.unfollow(starts)


def topics_of(bootstrap: str, plans: Sequence[ServicePlan]) -> list[str]:
    """Return the topics that these services write or follow, and that of schemas. Raises TopicError."""
    counts = partition_counts(admin(bootstrap))
    own = {topic for plan in plans for topic, _ in plan.own_topics()}
    wanted = own | {topic for plan in plans for topic in plan.followed_topics()} | {SCHEMAS_TOPIC}
    if missing := sorted(wanted - counts.keys()):
        raise TopicError(
            f"the broker has no topic {', '.join(missing)}; create it with: pipeline topics create TOPOLOGY"
        )
    return sorted(wanted)
