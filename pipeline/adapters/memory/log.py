"""One partition's log: records, transaction markers that take offsets, the stable end, compaction, truncation."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from pipeline.engine.ports import TP, Position

Headers = Sequence[tuple[str, str | bytes | None]]


class Transaction:
    """A producer's transaction. `outcome` is decided once; markers bring it to each log later."""

    __slots__ = ("began_s", "logs", "name", "offsets", "outcome", "unmarked")

    def __init__(self, name: str, began_s: float) -> None:
        self.name, self.began_s = name, began_s
        self.logs: list[PartitionLog] = []
        self.offsets: dict[str, dict[TP, Position]] = {}  # by group
        self.outcome = "open"  # then "commit" or "abort"
        self.unmarked = 0  # logs and groups that the outcome has not reached yet


class MemoryRecord:
    """A `Record`. `transaction`: the one it was written in, None if there was none."""

    __slots__ = ("_headers", "_key", "_offset", "_time_ms", "_value", "gone_ms", "transaction")

    def __init__(
        self,
        key: bytes | None,
        value: bytes | None,
        offset: int,
        time_ms: int,
        headers: Headers,
        transaction: Transaction | None,
    ) -> None:
        self._key, self._value, self._offset, self._time_ms, self._headers = key, value, offset, time_ms, headers
        self.transaction = transaction
        self.gone_ms: int | None = None  # after when compaction may remove a deletion

    def key(self) -> Any:
        return self._key

    def value(self) -> Any:
        return self._value

    def offset(self) -> int:
        return self._offset

    def timestamp(self) -> tuple[int, int]:
        return 2, self._time_ms  # LogAppendTime

    def headers(self) -> Any:
        return [(name, v.encode() if isinstance(v, str) else v) for name, v in self._headers] or None

    @property
    def decided(self) -> bool:
        """Whether it is or will be committed, with or without its marker."""
        return self.transaction is None or self.transaction.outcome == "commit"


class PartitionLog:
    """Offsets from `start` to `end`. `archive`: also what compaction and retention have removed, for judges."""

    def __init__(self, tp: TP) -> None:
        self.tp = tp
        self.start = self.end = 0
        self.records: list[MemoryRecord] = []
        self.archive: list[MemoryRecord] = []
        self._undecided: dict[Transaction, int] = {}  # and the offset at which each begins
        self.stable_end = 0

    def append(
        self,
        key: bytes | None,
        value: bytes | None,
        time_ms: int,
        headers: Headers = (),
        transaction: Transaction | None = None,
    ) -> int:
        """Store a record and return its offset."""
        offset = self.end
        record = MemoryRecord(key, value, offset, time_ms, headers, transaction)
        self.records.append(record)
        self.archive.append(record)
        self.end += 1
        if transaction is not None and transaction not in self._undecided:
            self._undecided[transaction] = offset
            transaction.logs.append(self)
        self._find_stable_end()
        return offset

    def mark(self, transaction: Transaction) -> None:
        """Write the marker with a transaction's outcome."""
        del self._undecided[transaction]
        self.end += 1
        self._find_stable_end()

    def _find_stable_end(self) -> None:
        self.stable_end = min(self._undecided.values(), default=self.end)

    def read(self, position: int, count: int) -> tuple[list[MemoryRecord], int]:
        """Return up to `count` committed records from `position` on, and the next position to read."""
        records, stable = self.records, self.stable_end
        at = len(records)
        while at and records[at - 1]._offset >= position:
            at -= 1
        found: list[MemoryRecord] = []
        for record in records[at:]:
            if record._offset >= stable:
                break
            if len(found) == count:
                return found, record._offset
            if record.decided:
                found.append(record)
        return found, stable

    def compact(self, now_ms: int, delete_retention_ms: int) -> None:
        """Keep the last committed record of each key; a deletion until a compaction after its retention time."""
        last = {r._key: r._offset for r in self.records if r._offset < self.stable_end and r.decided}
        kept = []
        for record in self.records:
            if record._offset < self.stable_end:
                if not record.decided or last[record._key] != record._offset:
                    continue
                if record._value is None:
                    if record.gone_ms is not None and now_ms > record.gone_ms:
                        continue
                    record.gone_ms = record.gone_ms or now_ms + delete_retention_ms
            kept.append(record)
        self.records = kept

    def truncate(self, start: int) -> None:
        """Remove the records before `start`."""
        self.start = max(self.start, min(start, self.stable_end))
        self.records = [record for record in self.records if record._offset >= self.start]
