"""The queues of a source partition: records that are parked, by key and in order, each behind those before it.

A key that has a queue is held: whatever comes for it goes to the queue's end, until the queue is empty. The queues are
a table of the task like any other, so they are committed with what is folded and restored with it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Any, NamedTuple

from pipeline.engine.ports import Record, Store
from pipeline.engine.state.row_keys import join_key, scan_all, split_key
from pipeline.engine.state.table import Pairs, Table, TableSpec


class Header(NamedTuple):
    """A record's header."""

    name: str
    value: bytes | None


class ParkedRecord(NamedTuple):
    """A record in the queue of its key; see schemas/queue.avsc."""

    reason: str
    topic: str
    partition: int
    offset: int
    time_kind: int
    time_ms: int
    value: bytes | None
    bare: bool
    headers: tuple[Header, ...]
    cause: str
    traceback: str
    queued_ms: int
    done: tuple[str, ...]
    new: bool
    reserved: tuple[str, ...] = ()
    id: str = ""


class ReplayedRecord:
    """A queued record as the nodes see it: a `Record`."""

    def __init__(self, key: bytes, entry: ParkedRecord) -> None:
        self._key, self.entry = key, entry

    def key(self) -> bytes:
        return self._key

    def value(self) -> bytes | None:
        return self.entry.value

    def offset(self) -> int:
        return self.entry.offset

    def timestamp(self) -> tuple[int, int]:
        return self.entry.time_kind, self.entry.time_ms

    def headers(self) -> list[tuple[str, bytes | None]]:
        return [(name, value) for name, value in self.entry.headers]


def row_key(key: bytes, offset: int) -> bytes:
    """Where a queued record stands: behind those of its key that came before it."""
    return join_key(key, offset.to_bytes(8, "big"))


def parts(row: bytes) -> tuple[bytes, int]:
    """Key and offset of a row; the reverse of `row_key`."""
    key, offset = split_key(row)
    return key, int.from_bytes(offset, "big")


class ParkedTable(Table):
    """The queues of one partition. `held`: how many records wait, by key; keyless ones under the empty key."""

    cached = False

    def __init__(self, spec: TableSpec, store: Store) -> None:
        super().__init__(spec, store)
        self._held: dict[bytes, int] | None = None
        self._ids: dict[bytes, Counter[str]] = {}  # of the commands that wait, by key
        self._since: dict[tuple[bytes, int], int] = {}  # since when each record waits: the oldest first
        self._entries: dict[bytes, dict[int, ParkedRecord | None]] = {}  # changed since then; None: gone
        self._disordered: set[bytes] = set()  # keys to which one may have been added before those that waited
        self._gone_to: dict[bytes, int] = {}  # the offset behind the last one that was taken out since then

    @property
    def held(self) -> dict[bytes, int]:
        """To be looked at, not to be changed. Read from the store when it is first asked for: then it is complete."""
        if self._held is None:
            self._held, self._ids, self._since = {}, {}, {}
            cut = len(self.prefix)
            found: list[tuple[int, tuple[bytes, int]]] = []
            for row, data in scan_all(self.store, self.prefix):
                place, entry = parts(row[cut:]), self.codec.decode(data)
                self._count(place[0], entry.id, 1)
                found.append((entry.queued_ms, place))
            self._since = {place: queued_ms for queued_ms, place in sorted(found)}
        return self._held

    @property
    def waiting(self) -> tuple[int, int]:
        """How many keys are held, and how many records wait; nothing if it has not been read yet."""
        return len(self._held or ()), len(self._since)

    @property
    def since_ms(self) -> int:
        """Since when the record that has waited longest waits; 0 if none does, or it has not been read yet."""
        return next(iter(self._since.values()), 0)

    def has(self, key: bytes, command_id: str) -> bool:
        """Whether a command of that id waits under the key."""
        return key in self.held and self._ids[key][command_id] > 0

    def add(self, key: bytes, entry: ParkedRecord) -> None:
        """Add a record to the end of its key's queue; the first one parks the key."""
        self._count(key, entry.id, 1)
        self._since[key, entry.offset] = entry.queued_ms
        self._entries.setdefault(key, {})[entry.offset] = entry

    def change(self, key: bytes, entry: ParkedRecord) -> None:
        """The entry of that offset is now this."""
        self._entries.setdefault(key, {})[entry.offset] = entry

    def take(self, key: bytes, offset: int) -> None:
        """Remove the first record. The key is free again if it was the last."""
        changed = self._entries.setdefault(key, {})
        entry = changed.get(offset) or self.codec.decode(self.store.get(self.prefix + row_key(key, offset)))
        self._count(key, entry.id, -1)
        del self._since[key, offset]
        changed[offset] = None
        self._gone_to[key] = offset + 1

    def first(self, key: bytes) -> ParkedRecord | None:
        """The first record of the key, which the others wait for."""
        return next(self.entries(key), None)

    def entries(self, key: bytes) -> Iterator[ParkedRecord]:
        """All records of the key, in order. The queue must not change meanwhile."""
        changed = self._entries.get(key, {})
        start = self._gone_to.get(key, 0).to_bytes(8, "big")
        rows = scan_all(self.store, self.prefix + join_key(key), start)
        if key in self._disordered:
            every = {parts(row[len(self.prefix) :])[1]: self.codec.decode(data) for row, data in rows} | changed
            yield from (every[offset] for offset in sorted(every) if every[offset] is not None)
            return
        stored = set()
        for row, data in rows:
            _, offset = parts(row[len(self.prefix) :])
            stored.add(offset)
            entry = changed[offset] if offset in changed else self.codec.decode(data)
            if entry is not None:
                yield entry
        for offset in sorted(changed.keys() - stored):
            if (entry := changed[offset]) is not None:
                yield entry

    def goes_before(self, key: bytes, offset: int) -> bool:
        """Whether a record comes before all of its key that wait. If it is added, it is the first."""
        first = self.first(key)
        if first is None or offset < first.offset:
            self._disordered.add(key)
            return True
        return False

    def waits(self, key: bytes, offset: int) -> bool:
        """Whether the record of that offset waits."""
        changed = self._entries.get(key, {})
        if offset in changed:
            return changed[offset] is not None
        return self.store.get(self.prefix + row_key(key, offset)) is not None

    def _count(self, key: bytes, command_id: str, more: int) -> None:
        held = self.held
        count = held.get(key, 0)
        if count + more:
            held[key] = count + more
            self._ids.setdefault(key, Counter())[command_id] += more
        else:
            del held[key], self._ids[key]

    # --- Table --------------------------------------------------------------------------------------------------------

    def changes(self) -> list[tuple[bytes, bytes | None]]:
        encode = self.codec.encode
        return [
            (row_key(key, offset), None if entry is None else encode(entry))
            for key, entries in self._entries.items()
            for offset, entry in entries.items()
        ]

    def kept(self, pairs: Pairs) -> tuple[Pairs, dict[str, int]]:
        return [(self.prefix + key, value) for key, value in pairs], {}

    def mark_committed(self) -> None:
        self._clear()

    def roll_back(self) -> None:
        if self._entries:
            self._held, self._ids, self._since = None, {}, {}  # to be read again, when the store has been restored
        self._clear()

    def _clear(self) -> None:
        self._entries.clear()
        self._gone_to.clear()
        self._disordered.clear()


def queued(record: Record, topic: str, partition: int, *, bare: bool, **more: Any) -> ParkedRecord:
    """The entry of a record. `more`: the fields that it does not have by itself."""
    kind, time_ms = record.timestamp()
    headers = () if bare else tuple(Header(name, value) for name, value in record.headers() or ())
    value = None if bare else record.value()
    place: dict[str, Any] = {"topic": topic, "partition": partition, "offset": record.offset()}
    return ParkedRecord(**place, time_kind=kind, time_ms=time_ms, value=value, bare=bare, headers=headers, **more)
