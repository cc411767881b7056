"""Local tables on RocksDB (rocksdict).

A store has what one task, replica or history keeps: a range of keys in a database that it shares with the others of its
service in its slot (`pipeline.adapters.rocksdb.database`). Values and positions are in the same write batch, and one
column family keeps them together through a crash (with two, or with a flush in between, they part).
"""

from __future__ import annotations

import fcntl
import logging
import threading
import weakref
from collections.abc import Iterable, Mapping
from operator import itemgetter
from pathlib import Path
from typing import IO

from rocksdict import WriteBatch

from pipeline.adapters import descriptors
from pipeline.adapters.rocksdb.database import FILES_MAX, ID_BYTES, RocksDatabase, StateFigures, unavailable
from pipeline.errors import OutOfDescriptors, PipelineError, StateDirectoryError

log = logging.getLogger(__name__)

POSITION = b"\0position\0"  # no table has an empty name, so no row begins with this
OWNER = "service"  # a file of this name says which service owns a directory
HISTORY = "history."  # prefix of the names of histories, which may be large and are rebuilt separately
KEY = itemgetter(0)


class RocksStore:
    """A `Store` in a shared database. Reads are safe from any thread; after `close` they raise TableUnavailable."""

    def __init__(self, name: str, database: RocksDatabase, cached_partition: Shelf, damage: str | None) -> None:
        self.name, self.damage = name, damage
        self._database, self._shelf, self._prefix = database, cached_partition, database.number_of(name)
        self._db = database.db
        self._written_at = -1  # the database's number of flushes at the last write to this store
        self.closed = False

    def _check(self) -> None:
        if self.closed:
            raise unavailable()

    def get(self, key: bytes) -> bytes | None:
        self._check()
        try:
            value: bytes | None = self._db.get(self._prefix + key)
        except Exception as error:
            raise self._database.failed(error) from None
        return value

    def scan(self, prefix: bytes, start: bytes, limit: int) -> list[tuple[bytes, bytes]]:
        self._check()
        found: list[tuple[bytes, bytes]] = []
        first, prefix = self._prefix + max(prefix, start), self._prefix + prefix
        try:
            # Not items(): it ends silently if a block cannot be read.
            cursor = self._db.iter()
            cursor.seek(first)
            while cursor.valid() and len(found) < limit:
                key = cursor.key()
                if not key.startswith(prefix):
                    break
                found.append((key[ID_BYTES:], cursor.value()))
                cursor.next()
            cursor.status()
        except Exception as error:
            raise self._database.failed(error) from None
        return found

    def write(self, pairs: Iterable[tuple[bytes, bytes | None]], positions: Mapping[str, int]) -> None:
        self._check()
        batch, mine = WriteBatch(raw_mode=True), self._prefix
        for key, value in sorted(pairs, key=KEY):  # sorted, writes cost a third; stable, as keys may recur
            if value is None:
                batch.delete(mine + key)
            else:
                batch.put(mine + key, value)
        for name, offset in positions.items():
            batch.put(mine + POSITION + name.encode(), offset.to_bytes(8, "big"))
        self._written_at = self._database.flushes
        self._database.write(batch)

    def position(self, name: str) -> int | None:
        value = self.get(POSITION + name.encode())
        return None if value is None else int.from_bytes(value, "big")

    def flush(self) -> None:
        """Flush the database, and so all stores in it, unless it was flushed since the last write to this one."""
        self._check()
        if self._written_at == self._database.flushes:
            self._database.flush()

    def wipe(self) -> None:
        self._check()
        batch = WriteBatch(raw_mode=True)
        batch.delete_range(self._prefix, (int.from_bytes(self._prefix, "big") + 1).to_bytes(ID_BYTES + 1, "big")[1:])
        self._written_at = self._database.flushes
        self._database.write(batch)

    def close(self) -> None:
        """Close the store, and make what was written survive a crash if possible."""
        if not self.closed:
            self.closed = True
            self._shelf.give_back(self, unflushed=self._written_at == self._database.flushes)


class Shelf:
    """The stores in one database. It opens with the first of them and closes with the last."""

    def __init__(self, path: Path, files: int) -> None:
        self._path, self._files = path, files
        self._database: RocksDatabase | None = None
        self._stores: weakref.WeakValueDictionary[str, RocksStore] = weakref.WeakValueDictionary()
        self._told: set[str] = set()  # stores that have reported the damage
        self._lock = threading.Lock()

    def open(self, name: str) -> RocksStore:
        """Open a store. Raises StateDirectoryError if it is open already, or the database cannot be used."""
        with self._lock:
            if self._database is not None and self._database.broken:
                self._close()
            if name in self._stores:
                raise StateDirectoryError(f"cannot open the table {name}: another worker uses this state directory")
            if self._database is None:
                self._database = RocksDatabase(self._path, self._files)
                self._told.clear()
            damage = None if name in self._told else self._database.damage
            self._told.add(name)
            store = RocksStore(name, self._database, self, damage)
            self._stores[name] = store
            return store

    def figures(self) -> StateFigures | None:
        """Return the size of the database; None if it is not open. Safe from any thread."""
        database = self._database
        return None if database is None else database.figures()

    def give_back(self, store: RocksStore, *, unflushed: bool) -> None:
        """Remove a closed store."""
        with self._lock:
            if self._stores.get(store.name) is not store:
                return
            del self._stores[store.name]
            if not self._stores:
                self._close()
            elif unflushed and self._database is not None:
                try:
                    self._database.flush()
                except PipelineError as error:  # what was not flushed is restored from Kafka
                    log.warning("closing %s: %s", store.name, error)

    def _close(self) -> None:
        for store in self._stores.values():
            store.closed = True
        self._stores.clear()
        if self._database is not None:
            self._database.close()
            self._database = None


class RocksStores:
    """The stores of one service in one slot, under `<state directory>/<service>/<slot>`, locked for this process.

    `files`: how many each of its databases may keep open.
    """

    def __init__(self, directory: Path, lock: IO[str], files: int = FILES_MAX) -> None:
        self.directory, self._lock = directory, lock
        self._tables, self._histories = (Shelf(directory / place, files) for place in ("tables", "history"))

    def open(self, name: str) -> RocksStore:
        """Open the store of that name. Raises StateDirectoryError if it is open already, or cannot be used."""
        return (self._histories if name.startswith(HISTORY) else self._tables).open(name)

    def figures(self) -> dict[str, StateFigures]:
        """Return the sizes of its databases that are open: `tables`, `histories`. Safe from any thread."""
        found = {"tables": self._tables.figures(), "histories": self._histories.figures()}
        return {kind: figures for kind, figures in found.items() if figures is not None}

    @property
    def last_port(self) -> int:
        """The port on which this slot's worker last served; 0 if there was none."""
        try:
            return int((self.directory / "port").read_text())
        except (OSError, ValueError):
            return 0

    def remember_port(self, port: int) -> None:
        """Keep the port for the next worker in this slot."""
        (self.directory / "port").write_text(str(port))

    def close(self) -> None:
        """Release the slot. Close the stores first."""
        self._lock.close()


def claim_slot(state_dir: Path, service: str, slot: int | None, files: int = FILES_MAX) -> tuple[int, RocksStores]:
    """Take a slot of `service` for this process: the given one, or the first free one.

    A slot is a directory with a lock that ends with the process. It gives a worker its stable identity in the group, so
    that it finds its tables and partitions again after a restart. `files`: how many each of its databases may keep
    open. Raises StateDirectoryError.
    """
    for number in [slot] if slot is not None else range(1000):
        directory = state_dir / service / str(number)
        try:
            directory.mkdir(parents=True, exist_ok=True)
            lock = (directory / "lock").open("w")
        except OSError as error:
            raise _unusable(directory, error) from error
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            lock.close()
            continue
        try:
            _sign(directory, service)
        except StateDirectoryError:
            lock.close()
            raise
        return number, RocksStores(directory, lock, files)
    raise StateDirectoryError(
        f"slot {slot} of service {service!r} in {state_dir} is in use by a running worker; "
        "stop that worker, or leave --slot out to take the first free one"
    )


def _unusable(path: Path, error: OSError) -> PipelineError:
    if descriptors.exhausted(error):
        return OutOfDescriptors(f"cannot open {path}: {error.strerror}; {descriptors.cure()}")
    return StateDirectoryError(f"cannot use {path}: {error.strerror}; choose another --home")


def _sign(directory: Path, service: str) -> None:
    """Note the service that owns the directory. Raises StateDirectoryError if another one does."""
    mark = directory / OWNER
    try:
        owner = mark.read_text().strip() if mark.exists() else ""
        if not owner:
            mark.write_text(service)
    except OSError as error:
        raise _unusable(mark, error) from error
    if owner not in ("", service):
        raise StateDirectoryError(
            f"{directory} has the tables of service {owner!r}, which {service!r} must not use: read a service's data "
            "over its API, or from the topics that it publishes. Put the directory back where it was, or choose "
            "another --home"
        )
