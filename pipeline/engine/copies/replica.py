"""Replicas: a service's own copies of what others' events say."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

from pipeline.engine.copies.log_followers import Follower
from pipeline.engine.copies.replica_queue import ReplicaQueue, Waiting
from pipeline.engine.parking.parking import Drained
from pipeline.engine.parking.parking_log import describe_error
from pipeline.engine.parking.unknown import Unknown
from pipeline.engine.ports import TP, LogFacts, Record, Store
from pipeline.engine.state.cache import MISSING
from pipeline.engine.state.parked_table import ParkedRecord, ReplayedRecord
from pipeline.engine.state.partition_counts import check_count
from pipeline.engine.state.row_keys import table_prefix
from pipeline.engine.state.table import Pairs, RowCodec
from pipeline.engine.stats import LaneStats, Wipe
from pipeline.errors import BadRequest, NotKnownYet, NotParked, UndecodableRecord
from pipeline.flow import KeyState, event_to_row
from pipeline.flow.functions.raised import is_topologys
from pipeline.model import EventMessage, Replica
from pipeline.model.records.partitioning import partition_of

log = logging.getLogger(__name__)
IDENTITY = "replica of"  # the position that holds the identity of the source topic
PARTITIONS = "partitions of the source"  # the position that holds how many it had when it was first followed


Skipped = list[tuple[Record, UndecodableRecord]]


class _Folded(NamedTuple):
    """What a batch leads to: rows as stored, events that wait, and what cannot be read."""

    rows: Pairs
    waiting: list[Waiting]
    skipped: Skipped


class ReplicaCopy(Follower):
    """Keeps the rows of one replica up to date with all partitions of its source, for ever.

    An event that makes `evolve` raise, or a row that does not fit its schema, holds its key: see ReplicaQueue.
    """

    def __init__(
        self,
        replica: Replica[Any, Any],
        events: RowCodec,
        rows: RowCodec,
        queue: RowCodec,
        store: Store,
        stats: LaneStats,
    ) -> None:
        super().__init__(f"the rows of replica {replica.name}", store, stats, {})
        self.replica, self._events, self._rows, self._queue = replica, events, rows, queue
        self.queues: list[ReplicaQueue] = []  # by partition
        self.unknown: dict[TP, Unknown] = {}

    def starts(self, facts: LogFacts) -> dict[TP, int | None]:
        """Where to read on each of the source's partitions. Raises PartitionsChanged."""
        topic = self.replica.source.topic
        self._marks = {IDENTITY: facts.identity, PARTITIONS: facts.partitions}
        self.places = {TP(topic, n): f"replica:{topic}-{n}" for n in range(facts.partitions)}
        if self.store.position(IDENTITY) not in (None, facts.identity):
            self._wipe(Wipe.OTHER_TOPIC)
        check_count(topic, self.store.position(PARTITIONS) or 0, facts.partitions)
        self._sign()
        self.unknown = {tp: Unknown(f"replica {self.replica.name}", tp, self._stats) for tp in self.places}
        self._open_queues()
        self.try_all_again()  # the code may be mended
        self._count()
        return {tp: self.stored(tp) for tp in self.places}

    def begin_again(self) -> Iterable[TP]:
        places = super().begin_again()
        self._open_queues()
        self._count()
        return places

    def prefix(self, partition: int) -> bytes:
        """What the keys of the rows from one of the source's partitions begin with."""
        return table_prefix(f"{self.replica.name}.{partition}")

    def apply(self, tp: TP, records: Sequence[Record]) -> int | None:
        try:
            folded = self._folded(tp, records)
        except NotKnownYet:
            return self._stand_still(tp, records)
        queue = self.queues[tp.partition]
        self._write([*folded.rows, *queue.added(folded.waiting)], tp, records[-1].offset() + 1)
        for record, error in folded.skipped:
            self._stats.skipped_by_replica += 1
            log.error("replica %s skips %s-%d offset %d: %s", self.replica.name, *tp, record.offset(), error)
        new = [waiting.key for waiting in folded.waiting if waiting.key not in queue]
        for key, entries in folded.waiting:
            queue.count(key, len(entries))
        if new:
            others = f" (and {len(new) - 1} other keys)" if new[1:] else ""
            log.error("%s%s", queue.error(new[0]), others)
        self._count()
        self.unknown[tp].go_on()
        return None

    def _stand_still(self, tp: TP, records: Sequence[Record]) -> int:
        """Apply what comes before an event that cannot be read yet. Return its offset."""
        for number, record in enumerate(records):
            try:
                self._event(record, [])
            except NotKnownYet as error:
                if number:
                    self.apply(tp, records[:number])
                self.unknown[tp].wait(record.offset(), error)
                return record.offset()
        return records[0].offset()  # it has become known just now

    def _folded(self, tp: TP, records: Sequence[Record]) -> _Folded:
        """Fold a batch. Raises NotKnownYet, with nothing done."""
        try:
            return self._fold(tp, records)
        except NotKnownYet:
            raise
        except BaseException as raised:
            if not is_topologys(raised):
                raise
            # Whose event it is shows when they are folded one by one.
            return self._fold_one_by_one(tp, records)

    def _fold(self, tp: TP, records: Sequence[Record]) -> _Folded:
        """Fold a batch. Raises what `evolve` raises, with nothing done."""
        prefix, queue, partitions = self.prefix(tp.partition), self.queues[tp.partition], len(self.places)
        changed: dict[bytes, Any] = {}
        waiting: dict[bytes, list[ParkedRecord]] = {}
        skipped: Skipped = []
        for record in records:
            key = record.key()
            if key and key in queue:
                waiting.setdefault(key, []).append(queue.entry(tp, record))
            elif (event := self._event(record, skipped)) is not None and key:
                if partition_of(key, partitions) != tp.partition:
                    waiting.setdefault(key, []).append(queue.entry(tp, record, queue.misplaced(key)))
                    continue
                row = self._row(prefix + key, changed.get(key, MISSING))
                changed[key] = event_to_row(self.replica, key, row, event)
        rows = [(prefix + k, None if row is None else self._rows.encode(row)) for k, row in changed.items()]
        return _Folded(rows, [Waiting(*each) for each in waiting.items()], skipped)

    def _fold_one_by_one(self, tp: TP, records: Sequence[Record]) -> _Folded:
        """Fold a batch in which some event raises. That one waits, and all later ones of its key behind it."""
        prefix, queue, partitions = self.prefix(tp.partition), self.queues[tp.partition], len(self.places)
        changed: dict[bytes, bytes | None] = {}  # encoded: an `evolve` that raises may have changed the row before
        waiting: dict[bytes, list[ParkedRecord]] = {}
        skipped: Skipped = []
        for record in records:
            key = record.key()
            if key and (key in waiting or key in queue):
                waiting.setdefault(key, []).append(queue.entry(tp, record))
            elif (event := self._event(record, skipped)) is not None and key:
                if partition_of(key, partitions) != tp.partition:
                    waiting[key] = [queue.entry(tp, record, queue.misplaced(key))]
                    continue
                data = changed[key] if key in changed else self.store.get(prefix + key)
                try:
                    changed[key] = self._next(key, data, event)
                except BaseException as error:
                    if not is_topologys(error):
                        raise
                    waiting[key] = [queue.entry(tp, record, error)]
        rows = [(prefix + key, data) for key, data in changed.items()]
        return _Folded(rows, [Waiting(*each) for each in waiting.items()], skipped)

    def _event(self, record: Record, skipped: Skipped) -> EventMessage | None:
        """The event; None if it is not followed, or cannot be read. Raises NotKnownYet if it may be read later."""
        try:
            event: EventMessage | None = self._events.decode(record.value())
        except NotKnownYet:
            raise
        except UndecodableRecord as error:
            skipped.append((record, error))
            return None
        return None if event is None or event.body is None else event

    def _next(self, key: bytes, data: bytes | None, event: EventMessage) -> bytes | None:
        """The row after an event, both rows as stored."""
        row = event_to_row(self.replica, key, None if data is None else self._rows.decode(data), event)
        return None if row is None else self._rows.encode(row)

    def _row(self, place: bytes, changed: Any) -> Any | None:
        """The row as changed in this batch, else as stored."""
        if changed is not MISSING:
            return changed
        data = self.store.get(place)
        return None if data is None else self._rows.decode(data)

    # --- keys that are held -------------------------------------------------------------------------------------------

    @property
    def held(self) -> int:
        """The number of keys that are held."""
        return sum(map(len, self.queues))

    def try_again(self, partition: int, key: bytes) -> Drained:
        """Fold what waits for a key, in order, until an event raises again."""
        queue, place, done = self.queues[partition], self.prefix(partition) + key, 0
        if queue.is_misplaced(key):
            return Drained(0, queue.waiting(key), str(queue.misplaced(key)))
        while entries := list(queue.entries(key)):
            data = self.store.get(place)
            folded: list[ParkedRecord] = []
            raised: BaseException | None = None
            for entry in entries:
                try:
                    event = self._event(ReplayedRecord(key, entry), [])
                    data = data if event is None else self._next(key, data, event)
                except BaseException as error:
                    if not is_topologys(error):
                        raise
                    raised = error
                    break
                folded.append(entry)
            pairs = [(place, data), *queue.removed(key, folded)]
            if raised is not None:
                cause, trace = describe_error(raised)
                again = entries[len(folded)]._replace(reason=KeyState.FAILED.value, cause=cause, traceback=trace)
                pairs += queue.added([Waiting(key, [again])])
            self.store.write(pairs, {})
            done += len(folded)
            queue.count(key, -len(folded))
            if raised is not None:
                self._count()
                return Drained(done, queue.waiting(key), cause)
        self._count()
        return Drained(done, 0)

    def discard(self, partition: int, key: bytes, offset: int | None, limit: int) -> Drained:
        """Discard the first event that waits for a misplaced key, that of `offset`; None: the first `limit`.

        Raises BadRequest for another key: its events have happened where they belong. Raises NotParked.
        """
        queue = self.queues[partition]
        if not queue.is_misplaced(key):
            raise BadRequest(
                f"{self.replica.name!r} is a replica, and what it follows has happened: its events cannot be "
                "discarded; mend evolve and start the worker again, or redrive"
            )
        gone = list(queue.entries(key, limit if offset is None else 1))
        if offset is not None and gone and gone[0].offset != offset:
            raise NotParked(f"the first event that waits is that of offset {gone[0].offset}, not of {offset}")
        self.store.write(queue.removed(key, gone), {})
        queue.count(key, -len(gone))
        self._count()
        return Drained(len(gone), queue.waiting(key))

    def try_all_again(self) -> tuple[int, str | None]:
        """Fold what waits for all held keys. Return how many keys are free now, and why one of the others is not."""
        freed, why = 0, None
        for queue in self.queues:
            for key in queue.keys:
                left = self.try_again(queue.partition, key).left
                freed += not left
                why = str(queue.error(key)) if left and why is None else why
        if freed or why:
            text = f"; {why}" if why else ""
            log.warning("replica %s goes on with %d of the keys that it held%s", self.replica.name, freed, text)
        return freed, why

    def _count(self) -> None:
        self._stats.replica_keys[self.replica.name] = self.held

    def _open_queues(self) -> None:
        partitions = sorted(self.places)
        self.queues = [
            ReplicaQueue(self.replica.name, tp, len(partitions), self.store, self._queue) for tp in partitions
        ]

    # --- reads --------------------------------------------------------------------------------------------------------

    def find(self, key: str) -> tuple[int, int, Any]:
        """For decisions: the partition of `key`, the offset up to which that is contained, and the row; None: no row.

        Raises CopyHeld: the decision's command is parked with it, for a row that lacks events would decide wrongly.
        In the lane's thread, which also applies: so all that is found between two turns is as of one position.
        """
        name = key.encode()
        partition = partition_of(name, len(self.places))
        if name in self.queues[partition]:
            raise self.queues[partition].error(name)
        end = self.stored(TP(self.replica.source.topic, partition)) or 0
        return partition, end, self._row(self.prefix(partition) + name, MISSING)
