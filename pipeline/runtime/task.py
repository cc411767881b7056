"""The task: one source partition, the tables it feeds and the nodes that fold its records."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

from pipeline.errors import (
    FoldError,
    LaneFatal,
    StateDirectoryError,
    TransactionAborted,
    UndecodableRecord,
)
from pipeline.runtime.ports import TP, Producer, Record, Store
from pipeline.runtime.stats import LaneStats
from pipeline.runtime.table import SharedTable
from pipeline.runtime.wiring import Inlet

CAUSE_BYTES_MAX = 2000  # of the explanation in a parked record's header


class Task:
    """Folds one partition. `position` is the next offset to fold, `committed` the last one that was committed.

    Both are None until the task has started, and where the group has no offset yet.
    """

    def __init__(
        self, tp: TP, inlet: Inlet, store: Store | None, producer: Producer, stats: LaneStats, parked: str
    ) -> None:
        self.tp, self.inlet, self.store = tp, inlet, store
        self._producer, self._stats, self._parked = producer, stats, parked
        self.tables, self._nodes = inlet.nodes(tp.partition, store, producer, stats)
        self.position: int | None = None
        self.committed: int | None = None
        self.changelogs: dict[str, tuple[int, int]] = {}  # as committed beside it; see Position
        self.running = False
        self.touched = False  # whether something has happened that no record stands for; it is committed like one
        self.unflushed = 0  # rows written to the store since its last flush
        self.flushed_s = 0.0

    def fold(self, records: Sequence[Record]) -> None:
        """Runs every node on every record, in order. FoldError names the record where the topology's code raised."""
        if self.store is not None and not self.inlet.keeps_locally:
            for table in self.tables:
                cast(SharedTable, table).expect(key for record in records if (key := record.key()))
        decode, nodes, envelope = self.inlet.codec.decode, self._nodes, self.inlet.envelope
        for record in records:
            key = record.key()
            try:
                message = decode(record.value())
                if not key:
                    raise UndecodableRecord("no key; the key says which aggregate or row is meant")
                key.decode()
            except (UndecodableRecord, UnicodeDecodeError) as error:
                self.park(record, error)
                continue
            if message is None or (envelope and message.body is None):
                continue  # a kind of event that this service does not follow
            try:
                for node in nodes:
                    node.fold(key, record, message)
            except (TransactionAborted, LaneFatal, StateDirectoryError):
                raise
            except Exception as error:
                raise FoldError(
                    f"{self.tp.topic}-{self.tp.partition} offset {record.offset()} key {key!r}: folding it raised "
                    f"{error!r}; mend the topology and start the worker again, it goes on at this record"
                ) from error
        self.position = records[-1].offset() + 1
        self._stats.records += len(records)

    def park(self, record: Record, error: Exception, *, bare: bool = False) -> None:
        """Sends a copy with its cause to the service's parked topic, in the same transaction as everything else.

        `bare`: without value and headers, which still stand where the record came from.
        """
        self._stats.parked += 1
        where = {"source-topic": self.tp.topic, "source-partition": self.tp.partition, "source-offset": record.offset()}
        cause = f"{type(error).__name__}: {error}".encode()[:CAUSE_BYTES_MAX]
        headers = [(f"parked-{name}", str(value).encode()) for name, value in where.items()]
        headers.append(("parked-cause", cause))
        if bare:
            headers.append(("parked-without-value", b"too large"))
        else:
            headers += record.headers() or ()
        self._producer.park(self._parked, record.key(), None if bare else record.value(), headers)

    def skip(self, record: Record, error: Exception, *, bare: bool) -> None:
        """Parks a record instead of folding it."""
        self.park(record, error, bare=bare)
        self.position = record.offset() + 1

    @property
    def uncommitted(self) -> bool:
        """Whether a checkpoint would move this task on."""
        return self.running and (self.position != self.committed or self.touched)

    def drop(self) -> None:
        """Forgets what was folded since the last commit."""
        self.position, self.touched = self.committed, False
        for table in self.tables:
            table.drop()
