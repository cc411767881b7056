"""The task: one source partition, the tables it feeds and the nodes that fold its records."""

from __future__ import annotations

from collections.abc import Sequence

from pipeline.errors import (
    FoldError,
    LaneFatal,
    StateDirectoryError,
    TransactionAborted,
    UndecodableRecord,
)
from pipeline.model import NEVER
from pipeline.runtime.deadlines import Deadlines, Fired
from pipeline.runtime.ports import TP, Producer, Record, Store
from pipeline.runtime.stats import LaneStats
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
        self._deadlines = [table for table in self.tables if isinstance(table, Deadlines)]
        self.position: int | None = None
        self.committed: int | None = None
        self.changelogs: dict[str, tuple[int, int]] = {}  # as committed beside it; see Position
        self.running = False
        self.touched = False  # whether something has happened that no record stands for; it is committed like one
        self.unflushed = 0  # rows written to the store since its last flush
        self.flushed_s = 0.0

    def fold(self, records: Sequence[Record]) -> None:
        """Runs every node on every record, in order. FoldError names the record where the topology's code raised."""
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
    def next_due_ms(self) -> int:
        """Before this time nothing is to be fired; may be too soon."""
        if not self.running or self.position is None:
            return NEVER
        return min((table.next_ms for table in self._deadlines), default=NEVER)

    @property
    def pending(self) -> int:
        """How many deadlines and scheduled commands are to come."""
        return sum(table.pending for table in self._deadlines)

    def take_due(self, now_ms: int, most: int) -> list[Fired]:
        """What is due, at most so much of each table; `fire` has to follow in the same transaction."""
        return [fired for table in self._deadlines for fired in table.take(now_ms, most)]

    def fire(self, fired: Sequence[Fired], now_ms: int) -> None:
        """Sends it to its own partition."""
        self.touched = True
        for key, command, due_ms in fired:
            self._producer.produce(self.tp.topic, key, command, self.tp.partition)
            self._stats.deadlines_late_s += (now_ms - due_ms) / 1000
        self._stats.deadlines_fired += len(fired)

    @property
    def uncommitted(self) -> bool:
        """Whether a checkpoint would move this task on."""
        return self.running and (self.position != self.committed or self.touched)

    def drop(self) -> None:
        """Forgets what was folded since the last commit."""
        self.position, self.touched = self.committed, False
        for table in self.tables:
            table.drop()
