"""Following logs outside the group: restoring a task's tables from their changelogs, and keeping replicas.

Both are copies of logs. One reader serves all copies of a lane, stepped between batches, so that a restore never stops
the partitions that run.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Protocol

from pipeline.errors import UndecodableRecord
from pipeline.flow import message_to_row
from pipeline.model import Replica
from pipeline.runtime.checkpoint import changelog_position, source_position
from pipeline.runtime.ports import TP, LogReader, Record, Store
from pipeline.runtime.stats import LaneStats
from pipeline.runtime.table import MISSING, RowCodec, table_prefix
from pipeline.runtime.task import Task

log = logging.getLogger(__name__)

# rocksdict holds the interpreter while it writes; so many rows take a few milliseconds.
ROWS_PER_WRITE = 2_000


class Copy(Protocol):
    """A local copy of one or several partitions."""

    def apply(self, tp: TP, records: Sequence[Record]) -> None: ...
    def reached(self, tp: TP, end: int) -> None:
        """All stable records below `end` have been applied."""

    def begin_again(self) -> Iterable[TP]:
        """Some log no longer holds what the copy needs next: forget everything; returns what to read from its start."""


class Following:
    """All followed partitions of one lane, over one log reader."""

    def __init__(self, reader: LogReader) -> None:
        self._reader = reader
        self._copies: dict[TP, Copy] = {}

    def follow(self, copy: Copy, starts: Mapping[TP, int | None]) -> None:
        """Reads each partition from its offset (None: the log's beginning) into `copy`."""
        if starts:
            self._copies |= dict.fromkeys(starts, copy)
            self._reader.follow(starts)

    def unfollow(self, partitions: Iterable[TP]) -> None:
        """Stops following; partitions that are not followed are fine."""
        gone = [tp for tp in partitions if self._copies.pop(tp, None)]
        if gone:
            self._reader.unfollow(gone)

    def step(self) -> bool:
        """Takes in what has arrived, without waiting; False when that was nothing."""
        if not self._copies:
            return False
        polled = self._reader.poll(ROWS_PER_WRITE, 0)
        for tp, records in polled.batches.items():
            if copy := self._copies.get(tp):
                copy.apply(tp, records)
        for tp, end in polled.ends.items():
            if copy := self._copies.get(tp):
                copy.reached(tp, end)
        for tp in polled.out_of_range:
            if copy := self._copies.get(tp):
                self.unfollow([tp for tp, other in self._copies.items() if other is copy])
                self.follow(copy, dict.fromkeys(copy.begin_again()))
        return bool(polled.batches)


class Restore:
    """Brings a task's tables up to date before it may fold on, by rolling forward from what is on disk."""

    def __init__(self, task: Task, committed: int | None, ends: Mapping[TP, int], stats: LaneStats) -> None:
        """`committed`: the task's source offset; `ends`: where the changelogs end, asked after that was read."""
        self.task, self.committed, self._stats = task, committed, stats
        self._tables = {TP(table.changelog, task.tp.partition): table_prefix(table.name) for table in task.tables}
        self._targets = {tp: ends[tp] for tp in self._tables}
        if any((self._stored(tp) or 0) > target for tp, target in self._targets.items()):
            self._wipe("it is ahead of its changelog, so it belongs to another history")
        self.open = {tp for tp, target in self._targets.items() if (self._stored(tp) or 0) < target}

    def starts(self) -> dict[TP, int | None]:
        """Where to read each changelog on; empty when there is nothing to restore."""
        return {tp: self._stored(tp) for tp in self.open}

    def complete(self) -> set[TP]:
        """The changelogs that need not be read on."""
        return self._tables.keys() - self.open

    def apply(self, tp: TP, records: Sequence[Record]) -> None:
        prefix = self._tables[tp]
        position = records[-1].offset() + 1
        self._write([(prefix + record.key(), record.value()) for record in records], tp, position)
        self._stats.restored += len(records)

    def reached(self, tp: TP, end: int) -> None:
        # An end below the target is the last stable offset: a commit below the target is still under way. Wait for it.
        if end > (self._stored(tp) or 0):
            self._write([], tp, end)

    def begin_again(self) -> Iterable[TP]:
        self._wipe("a changelog no longer holds what this copy needs")
        self.open = {tp for tp, target in self._targets.items() if target > 0}
        return self.open

    def finish(self) -> None:
        """All changelogs are in: the tables are what was committed at the group's source position."""
        if self.task.store is not None and self.committed is not None:
            self.task.store.write([], {source_position(self.task.tp.topic): self.committed})

    def _write(self, rows: list[tuple[bytes, bytes | None]], tp: TP, position: int) -> None:
        self._store.write(rows, {changelog_position(tp.topic): position})
        self.task.unflushed += len(rows)
        if position >= self._targets[tp]:
            self.open.discard(tp)

    def _wipe(self, why: str) -> None:
        log.warning("the local tables of %s-%d are wiped and restored: %s", *self.task.tp, why)
        self._stats.wiped += 1
        self._store.wipe()

    def _stored(self, changelog: TP) -> int | None:
        return self._store.position(changelog_position(changelog.topic))

    @property
    def _store(self) -> Store:
        assert self.task.store is not None, "only a task with tables has something to restore"
        return self.task.store


class ReplicaCopy:
    """Keeps the rows of one replica up to date with all partitions of its source, for ever."""

    def __init__(
        self, replica: Replica[Any, Any], events: RowCodec, rows: RowCodec, store: Store, stats: LaneStats
    ) -> None:
        self.replica, self.store = replica, store
        self._events, self._rows, self._stats = events, rows, stats
        self._partitions = 0

    def starts(self, partitions: int) -> dict[TP, int | None]:
        """Where to read on each of the source's partitions."""
        self._partitions = partitions
        return {tp: self.store.position(self._position(tp)) for tp in self._sources()}

    def prefix(self, partition: int) -> bytes:
        """What the keys of the rows from one of the source's partitions begin with."""
        return table_prefix(f"{self.replica.name}.{partition}")

    def _sources(self) -> list[TP]:
        return [TP(self.replica.source.topic, partition) for partition in range(self._partitions)]

    @staticmethod
    def _position(tp: TP) -> str:
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
        self.store.write(pairs, {self._position(tp): records[-1].offset() + 1})

    def _row(self, place: bytes, changed: Any) -> Any | None:
        """The row as changed in this batch, else as stored."""
        if changed is not MISSING:
            return changed
        data = self.store.get(place)
        return None if data is None else self._rows.decode(data)

    def reached(self, tp: TP, end: int) -> None:
        self.store.write([], {self._position(tp): end})

    def begin_again(self) -> Iterable[TP]:
        log.warning("replica %s begins again: its source no longer holds what it needs next", self.replica.name)
        self._stats.wiped += 1
        self.store.wipe()
        return self._sources()
