"""The events of a replica that wait in its store, each key's in order: its code raises, or they are misplaced.

A key of which an event raised is held: its row lacks that event. A misplaced one, in a partition where the key does not
belong, holds up nothing but later ones in that partition.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from pipeline.engine.parking.misplaced import describe_misplaced
from pipeline.engine.parking.parking_log import describe_error
from pipeline.engine.ports import TP, Record, Store
from pipeline.engine.state.parked_table import ParkedRecord, parts, queued, row_key
from pipeline.engine.state.row_keys import READ_AT_ONCE, join_key, scan_all, table_prefix
from pipeline.engine.state.table import RowCodec
from pipeline.errors import CopyHeld, Misplaced, PipelineError
from pipeline.flow import KeyState
from pipeline.model.records.partitioning import partition_of

Pairs = list[tuple[bytes, bytes | None]]


class Waiting(NamedTuple):
    """What one batch adds to a queue: the key, and its entries."""

    key: bytes
    entries: list[ParkedRecord]


class ReplicaQueue:
    """The events of one source partition that wait. A key is held as long as it has any.

    `name`: of the replica. `source`: the partition; `partitions`: how many the topic has. Nothing here writes: pairs
    are for the store's next write, `count` takes note of them then. `in` and the errors are for any thread.
    """

    def __init__(self, name: str, source: TP, partitions: int, store: Store, codec: RowCodec) -> None:
        self.name, self.source, self.partition, self._partitions = name, source, source.partition, partitions
        self.prefix = table_prefix(f"{name}.{source.partition}.held")
        self._store, self._codec = store, codec
        self._held: dict[bytes, int] = {}
        for row, _ in scan_all(store, self.prefix):
            key, _ = parts(row[len(self.prefix) :])
            self._held[key] = self._held.get(key, 0) + 1

    def __contains__(self, key: bytes) -> bool:
        return key in self._held

    def __len__(self) -> int:
        """The number of keys that are held."""
        return len(self._held)

    def waiting(self, key: bytes) -> int:
        """How many events of a key wait."""
        return self._held.get(key, 0)

    @property
    def keys(self) -> list[bytes]:
        """The keys that are held, in order."""
        return sorted(self._held)

    def is_misplaced(self, key: bytes) -> bool:
        """Whether a key belongs to another partition."""
        return partition_of(key, self._partitions) != self.partition

    def misplaced(self, key: bytes) -> Misplaced:
        """Why an event is not folded whose key belongs to another partition, and what to do."""
        chosen = f"--topic {self.name} --key {shlex.quote(key.decode(errors='replace'))} --why …"
        return Misplaced(
            f"{describe_misplaced(self.source, key, self._partitions)}; the copy {self.name!r} lacks this event: have "
            f"its owner send it again, and then: pipeline parked discard {chosen}"
        )

    def error(self, key: bytes) -> PipelineError:
        """Why the row of a held key cannot be had, or why a misplaced one waits."""
        if self.is_misplaced(key):
            return self.misplaced(key)
        first = next(self.entries(key, 1), None)
        cause = "" if first is None else f" at {first.topic}-{first.partition} offset {first.offset}: {first.cause}"
        return CopyHeld(
            f"the copy {self.name!r} holds the key {key.decode(errors='replace')!r}, as its evolve raised{cause}. The "
            "row lacks that event and all later ones, which wait; mend evolve and start the worker again, and it "
            "goes on by itself"
        )

    def check(self, first: bytes, end: bytes, prefix: bytes) -> None:
        """Raise CopyHeld if a key with `prefix` is held from `first` on and before `end`; empty: no end."""
        for key in list(self._held):
            if key >= first and (not end or key < end) and key.startswith(prefix) and not self.is_misplaced(key):
                raise self.error(key)

    def entries(self, key: bytes, most: int = READ_AT_ONCE) -> Iterator[ParkedRecord]:
        """Yield the first events of a key."""
        prefix = self.prefix + join_key(key)
        for _, data in self._store.scan(prefix, prefix, most):
            yield self._codec.decode(data)

    def entry(self, tp: TP, record: Record, error: BaseException | None = None) -> ParkedRecord:
        """The entry of an event that waits: behind others, or as it raised."""
        cause, trace = ("", "") if error is None else describe_error(error)
        reason = KeyState.BEHIND if error is None else KeyState.FAILED
        if isinstance(error, Misplaced):
            reason, trace = KeyState.MISPLACED, ""
        more: dict[str, Any] = {
            "cause": cause,
            "traceback": trace,
            "done": (),
            "new": False,
            "queued_ms": record.timestamp()[1],
        }
        return queued(record, *tp, bare=False, reason=reason.value, **more)

    def added(self, waiting: Sequence[Waiting]) -> Pairs:
        """What is to be written for events that wait from now on."""
        return [(self._row(key, each.offset), self._codec.encode(each)) for key, entries in waiting for each in entries]

    def removed(self, key: bytes, entries: Sequence[ParkedRecord]) -> Pairs:
        """What is to be written for events that wait no more."""
        return [(self._row(key, each.offset), None) for each in entries]

    def count(self, key: bytes, more: int) -> None:
        """Take note of so many events that wait now, or wait no more."""
        count = self._held.get(key, 0) + more
        if count:
            self._held[key] = count
        else:
            self._held.pop(key, None)

    def _row(self, key: bytes, offset: int) -> bytes:
        return self.prefix + row_key(key, offset)
