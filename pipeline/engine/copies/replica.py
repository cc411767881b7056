"""Replicas: a service's own copies of what others' events say."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from pipeline.engine.ports import TP, LogFacts, Record, Store
from pipeline.engine.state.cache import MISSING
from pipeline.engine.state.row_keys import table_prefix
from pipeline.engine.state.table import RowCodec
from pipeline.engine.stats import LaneStats, Wipe
from pipeline.errors import UndecodableRecord
from pipeline.flow import message_to_row
from pipeline.model import Replica
from pipeline.model.records.partitioning import partition_of

log = logging.getLogger(__name__)
IDENTITY = "replica of"  # the position that holds the identity of the source topic


class ReplicaCopy:
    """Keeps the rows of one replica up to date with all partitions of its source, for ever."""

    def __init__(
        self, replica: Replica[Any, Any], events: RowCodec, rows: RowCodec, store: Store, stats: LaneStats
    ) -> None:
        self.replica, self.store = replica, store
        self._events, self._rows, self._stats = events, rows, stats
        self._partitions = self._identity = 0
        self._goal: tuple[Mapping[TP, int], float] | None = None  # ends to get to, and when they were asked for
        self._caught_up_s: float | None = None
        if store.damage is not None:
            log.warning("the rows of replica %s could not be used: %s", replica.name, store.damage)
            stats.wipe(Wipe.DAMAGED)

    def starts(self, facts: LogFacts) -> dict[TP, int | None]:
        """Where to read on each of the source's partitions."""
        self._partitions, self._identity = facts.partitions, facts.identity
        if self.store.position(IDENTITY) not in (None, facts.identity):
            self._wipe(Wipe.OTHER_TOPIC)
        self.store.write([], {IDENTITY: facts.identity})
        return {tp: self.store.position(self.position(tp)) for tp in self.sources()}

    def prefix(self, partition: int) -> bytes:
        """What the keys of the rows from one of the source's partitions begin with."""
        return table_prefix(f"{self.replica.name}.{partition}")

    def sources(self) -> list[TP]:
        """The partitions that it follows, all of them."""
        return [TP(self.replica.source.topic, partition) for partition in range(self._partitions)]

    @staticmethod
    def position(tp: TP) -> str:
        """Name of the position up to which a partition of the source is contained."""
        return f"replica:{tp.topic}-{tp.partition}"

    def apply(self, tp: TP, records: Sequence[Record]) -> None:
        prefix = self.prefix(tp.partition)
        changed: dict[bytes, Any] = {}
        for record in records:
            key = record.key()
            try:
                message = self._events.decode(record.value())
            except UndecodableRecord as error:
                self._stats.skipped_by_replica += 1
                log.error("replica %s skips %s-%d offset %d: %s", self.replica.name, *tp, record.offset(), error)
                continue
            if key and message.body is not None:
                changed[key] = message_to_row(
                    self.replica, self._row(prefix + key, changed.get(key, MISSING)), message.body
                )
        pairs = [(prefix + k, None if row is None else self._rows.encode(row)) for k, row in changed.items()]
        self.store.write(pairs, {self.position(tp): records[-1].offset() + 1})

    def _row(self, place: bytes, changed: Any) -> Any | None:
        """The row as changed in this batch, else as stored."""
        if changed is not MISSING:
            return changed
        data = self.store.get(place)
        return None if data is None else self._rows.decode(data)

    def find(self, key: str) -> tuple[int, int, Any]:
        """For decisions: the partition of `key`, the offset up to which that is contained, and the row; None: no row.

        In the lane's thread, which also applies: so all that is found between two turns is as of one position.
        """
        name = key.encode()
        partition = partition_of(name, self._partitions)
        end = self.store.position(self.position(TP(self.replica.source.topic, partition))) or 0
        return partition, end, self._row(self.prefix(partition) + name, MISSING)

    def has_reached(self, ends: Mapping[TP, int]) -> bool:
        """Whether the replica has applied its source up to these ends."""
        return all((self.store.position(self.position(tp)) or 0) >= ends[tp] for tp in self.sources())

    def sample_lag(self, ends: Mapping[TP, int], asked_s: float) -> None:
        """Note when the replica had last caught up; see TableRecovery.sample_lag."""
        if self._goal is None:
            self._goal = ends, asked_s
        goal, caught_up_s = self._goal
        if self.has_reached(goal):
            self._caught_up_s, self._goal = caught_up_s, (ends, asked_s)

    def age_s(self, now_s: float) -> float | None:
        """The replica's lag in seconds; None if it has never caught up. Safe from any thread."""
        return None if self._caught_up_s is None else now_s - self._caught_up_s

    def reached(self, tp: TP, end: int) -> None:
        # Records that came in the same poll may lie behind the end that was told before them.
        if end > (self.store.position(self.position(tp)) or 0):
            self.store.write([], {self.position(tp): end})

    def begin_again(self) -> Iterable[TP]:
        self._wipe(Wipe.OUT_OF_RANGE)
        self.store.write([], {IDENTITY: self._identity})
        return self.sources()

    def _wipe(self, why: Wipe) -> None:
        log.warning("replica %s is wiped and begins again: %s", self.replica.name, why.value)
        self._caught_up_s = self._goal = None
        self._stats.wipe(why)
        self.store.wipe()
