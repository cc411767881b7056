"""Tables in memory: local ones, and those of a database that outlives its workers.

A crash may lose the last writes to local ones since the last flush, each as a whole.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

from pipeline.errors import (
    DatabaseUnreachable,
    LaneFatal,
    StateDirectoryError,
    StoreDamaged,
    Superseded,
    TableUnavailable,
)

if TYPE_CHECKING:
    from pipeline.engine.ports import TP, SharedStore, SharedStores, Store, Stores
    from pipeline.engine.state.table import TableSpec

Write = tuple[list[tuple[bytes, bytes | None]], dict[str, int]]


class Disk:
    """The disk of one store, and the writes since its last flush."""

    def __init__(self) -> None:
        self.rows: dict[bytes, bytes] = {}
        self.positions: dict[str, int] = {}
        self.unflushed: list[Write] = []
        self.damage: str | None = None
        self.in_use = False

    def now(self) -> tuple[dict[bytes, bytes], dict[str, int]]:
        """Return rows and positions with all writes, flushed or not."""
        if not self.unflushed:
            return self.rows, self.positions
        level = Disk()
        level.rows, level.positions = dict(self.rows), dict(self.positions)
        level.take_in(list(self.unflushed))
        return level.rows, level.positions

    def take_in(self, writes: Iterable[Write]) -> None:
        for pairs, positions in writes:
            for key, value in pairs:
                if value is None:
                    self.rows.pop(key, None)
                else:
                    self.rows[key] = value
            self.positions |= positions
        self.unflushed.clear()


class MemoryStore:
    """A `Store` on a Disk."""

    def __init__(self, name: str, disk: Disk) -> None:
        self.name, self._disk = name, disk
        self.damage, disk.damage = disk.damage, None
        self._rows, self._positions = dict(disk.rows), dict(disk.positions)
        self._open = disk.in_use = True

    def _check(self) -> None:
        if not self._open:
            raise TableUnavailable("the partition has just moved to another worker; ask again")

    def get(self, key: bytes) -> bytes | None:
        self._check()
        return self._rows.get(key)

    def scan(self, prefix: bytes, start: bytes, limit: int) -> list[tuple[bytes, bytes]]:
        self._check()
        found = sorted(key for key in self._rows if key.startswith(prefix) and key >= start)
        return [(key, self._rows[key]) for key in found[:limit]]

    def write(self, pairs: Iterable[tuple[bytes, bytes | None]], positions: Mapping[str, int]) -> None:
        self._check()
        kept = list(pairs)
        for key, value in kept:
            if value is None:
                self._rows.pop(key, None)
            else:
                self._rows[key] = value
        self._positions.update(positions)
        self._disk.unflushed.append((kept, dict(positions)))

    def position(self, name: str) -> int | None:
        self._check()
        return self._positions.get(name)

    def flush(self) -> None:
        self._check()
        self._disk.take_in(self._disk.unflushed)

    def wipe(self) -> None:
        self._check()
        for part in (self._rows, self._positions, self._disk.rows, self._disk.positions, self._disk.unflushed):
            part.clear()

    def damaged(self) -> LaneFatal:
        """Damage the store: it cannot be read any more; opened again, it is empty. Return the error."""
        self.wipe()
        self._disk.damage = "a block's checksum is wrong"
        self._open = self._disk.in_use = False
        return StoreDamaged(f"the table {self.name} cannot be read or written: {self._disk.damage}")

    def close(self) -> None:
        if self._open:
            self.flush()
        self._open = self._disk.in_use = False


class MemoryStores:
    """The stores of one service in one slot; they outlive the workers that open them."""

    def __init__(self) -> None:
        self.disks: dict[str, Disk] = {}

    def open(self, name: str) -> MemoryStore:
        disk = self.disks.setdefault(name, Disk())
        if disk.in_use:
            raise StateDirectoryError(f"cannot open the table {name}: another worker uses this state directory")
        return MemoryStore(name, disk)

    def crash(self, kept: Callable[[int], int]) -> None:
        """End the process. `kept(n)`: how many of the n writes since a store's last flush are on the disk."""
        for disk in self.disks.values():
            disk.take_in(disk.unflushed[: kept(len(disk.unflushed))])
            disk.in_use = False


class SharedDisk(Disk):
    """The tables of one task in a database."""

    def __init__(self) -> None:
        super().__init__()
        self.epoch = 0


class MemorySharedStore(MemoryStore):
    """A `SharedStore`. The last opener owns it; what is written is safe at once."""

    def __init__(self, name: str, disk: SharedDisk) -> None:
        super().__init__(name, disk)
        disk.epoch += 1
        self._shared, self._epoch = disk, disk.epoch

    def get_many(self, keys: Sequence[bytes]) -> dict[bytes, bytes]:
        self._check()
        return {key: self._rows[key] for key in keys if key in self._rows}

    def check(self, key: bytes, value: bytes) -> None:
        """Accept everything."""

    def _mine(self) -> None:
        self._check()
        if self._shared.epoch != self._epoch or self._shared.positions != self._positions:
            raise Superseded(f"the tables of {self.name} are another worker's now")

    def write(self, pairs: Iterable[tuple[bytes, bytes | None]], positions: Mapping[str, int]) -> None:
        self._mine()
        super().write(pairs, positions)
        self.flush()

    def wipe(self) -> None:
        self._mine()
        super().wipe()

    def damaged(self) -> LaneFatal:
        """Return the error of a database that does not respond for a moment; its contents stay."""
        return DatabaseUnreachable(f"the database of {self.name} does not answer")

    def close(self) -> None:
        self._open = False


class MemoryDatabase:
    """The database of one service, `SharedStores` of all its workers."""

    def __init__(self) -> None:
        self.disks: dict[TP, SharedDisk] = {}

    def open(self, source: TP, tables: Sequence[TableSpec]) -> MemorySharedStore:
        disk = self.disks.setdefault(source, SharedDisk())
        return MemorySharedStore(f"{source.topic}-{source.partition}", disk)


if TYPE_CHECKING:

    def _is_shared(store: MemorySharedStore) -> SharedStore:
        return store

    def _is_a_database(database: MemoryDatabase) -> SharedStores:
        return database

    def _is_a_store(store: MemoryStore) -> Store:
        return store

    def _are_stores(stores: MemoryStores) -> Stores:
        return stores
