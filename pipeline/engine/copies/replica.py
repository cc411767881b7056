"""Replicas: a service's own copies of what others' events say."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

from pipeline.engine.copies.log_followers import Follower
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


class ReplicaCopy(Follower):
    """Keeps the rows of one replica up to date with all partitions of its source, for ever."""

    def __init__(
        self, replica: Replica[Any, Any], events: RowCodec, rows: RowCodec, store: Store, stats: LaneStats
    ) -> None:
        super().__init__(f"the rows of replica {replica.name}", store, stats, {})
        self.replica, self._events, self._rows = replica, events, rows

    def starts(self, facts: LogFacts) -> dict[TP, int | None]:
        """Where to read on each of the source's partitions."""
        topic, self._marks = self.replica.source.topic, {IDENTITY: facts.identity}
        self.places = {TP(topic, n): f"replica:{topic}-{n}" for n in range(facts.partitions)}
        if self.store.position(IDENTITY) not in (None, facts.identity):
            self._wipe(Wipe.OTHER_TOPIC)
        self._sign()
        return {tp: self.stored(tp) for tp in self.places}

    def prefix(self, partition: int) -> bytes:
        """What the keys of the rows from one of the source's partitions begin with."""
        return table_prefix(f"{self.replica.name}.{partition}")

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
        self._write(pairs, tp, records[-1].offset() + 1)

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
        partition = partition_of(name, len(self.places))
        end = self.stored(TP(self.replica.source.topic, partition)) or 0
        return partition, end, self._row(self.prefix(partition) + name, MISSING)
