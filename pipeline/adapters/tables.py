"""Local tables on RocksDB (rocksdict).

One database per task, one column family, no write-ahead log: what is not flushed yet comes back from the changelog.
Values and positions go into the same write batch, and one column family keeps them together through a crash (with two,
or with a flush in between, they part).
"""

from __future__ import annotations

import contextlib
import fcntl
import logging
import shutil
import time
from collections.abc import Iterable, Mapping
from functools import cache
from operator import itemgetter
from pathlib import Path
from typing import IO

from rocksdict import (
    BlockBasedOptions,
    Cache,
    DbClosedError,
    Options,
    Rdict,
    WriteBatch,
    WriteBufferManager,
    WriteOptions,
)

from pipeline.errors import PipelineError, StateDirectoryError, StoreDamaged, TableUnavailable

log = logging.getLogger(__name__)

POSITION = b"\0position\0"  # no table has an empty name, so no row begins like this
OWNER = "service"  # a file of this name says whose tables a directory has
DAMAGED = "damaged"  # a file of this name tells the next opening to begin anew
DAMAGE = ("Corruption", "No such file", "Invalid argument")  # in the message of a database that cannot be read
LOCK_S = 5.0
LOCK_PAUSE_S = 0.02
BLOCK_CACHE_BYTES = 64 << 20
MEMTABLES_BYTES = 64 << 20  # of all databases
MEMTABLE_BYTES = 16 << 20  # of one
MEMTABLE_BLOOM = 0.01  # of it: taken whether it is full or not, and enough for rows of 250 bytes
KEY = itemgetter(0)
WRITE_OPTIONS = WriteOptions()
WRITE_OPTIONS.disable_wal = True  # type: ignore[method-assign, assignment]  # a property, whatever the stub says


class RocksStore:
    """A `Store` in one RocksDB directory. Reads are safe from any thread; after `close` they raise TableUnavailable."""

    def __init__(self, path: Path, options: Options) -> None:
        self.path, self._options = path, options
        self.damage: str | None = None
        marker = path / DAMAGED
        if marker.exists():
            self._throw_away(marker.read_text())
        self._db = self._open()

    def _open(self) -> Rdict:
        deadline = time.monotonic() + LOCK_S
        while True:
            try:
                return Rdict(str(self.path), self._options)
            except Exception as error:  # rocksdict raises no class of its own
                why = str(error)
            if "lock hold by" in why and time.monotonic() < deadline:
                time.sleep(LOCK_PAUSE_S)  # a reader of the same process still holds what has just been closed
            elif any(sign in why for sign in DAMAGE) and self.damage is None:
                self._throw_away(why)
            else:
                raise StateDirectoryError(
                    f"cannot open the table {self.path}: {why}; if another worker uses this state directory stop it, "
                    "if the disk is full free some space, else delete the table's directory: it is rebuilt from Kafka"
                )

    def _throw_away(self, why: str) -> None:
        self.damage = why or "damaged"
        shutil.rmtree(self.path)

    def _failed(self, error: Exception) -> PipelineError:
        """What an error of the database means; a damaged one is marked, so that it is not opened again."""
        if isinstance(error, DbClosedError) or "borrowed" in str(error):  # closed, or just being closed
            return TableUnavailable("the partition has just moved to another worker; ask again")
        why = f"the table {self.path} cannot be read or written: {error}"
        if "No space left" in why:
            return StateDirectoryError(f"{why}; free some space and start the worker again, nothing is lost")
        with contextlib.suppress(OSError):
            (self.path / DAMAGED).write_text(str(error))
        return StoreDamaged(why)

    def get(self, key: bytes) -> bytes | None:
        try:
            value: bytes | None = self._db.get(key)
        except Exception as error:
            raise self._failed(error) from None
        return value

    def scan(self, prefix: bytes, start: bytes, limit: int) -> list[tuple[bytes, bytes]]:
        found: list[tuple[bytes, bytes]] = []
        try:
            # Not items(): that ends without a word where a block cannot be read.
            cursor = self._db.iter()
            cursor.seek(max(prefix, start))
            while cursor.valid() and len(found) < limit:
                key = cursor.key()
                if not key.startswith(prefix):
                    break
                found.append((key, cursor.value()))
                cursor.next()
            cursor.status()
        except Exception as error:
            raise self._failed(error) from None
        return found

    def write(self, pairs: Iterable[tuple[bytes, bytes | None]], positions: Mapping[str, int]) -> None:
        batch = WriteBatch(raw_mode=True)
        for key, value in sorted(pairs, key=KEY):  # goes in at a third of the cost; stable, as keys may recur
            if value is None:
                batch.delete(key)
            else:
                batch.put(key, value)
        for name, offset in positions.items():
            batch.put(POSITION + name.encode(), offset.to_bytes(8, "big"))
        try:
            self._db.write(batch, WRITE_OPTIONS)
        except Exception as error:
            raise self._failed(error) from None

    def position(self, name: str) -> int | None:
        value = self.get(POSITION + name.encode())
        return None if value is None else int.from_bytes(value, "big")

    def flush(self) -> None:
        try:
            self._db.flush()
        except Exception as error:
            raise self._failed(error) from None

    def wipe(self) -> None:
        self.close()
        shutil.rmtree(self.path)
        self._db = self._open()

    def close(self) -> None:
        try:
            self._db.close()
        except Exception as error:  # what could not be flushed comes back from the changelog
            log.warning("closing the table %s: %s", self.path, error)


@cache
def shared_options() -> Options:
    """What all databases of this process are opened with.

    They share one block cache and one write buffer manager, so that memory does not grow with the number of tables and
    services.
    """
    blocks_cache = Cache(BLOCK_CACHE_BYTES)
    blocks = BlockBasedOptions()
    blocks.set_block_cache(blocks_cache)
    blocks.set_bloom_filter(10, False)
    options = Options(raw_mode=True)
    options.create_if_missing(True)
    options.set_block_based_table_factory(blocks)
    # A key that is not there, as most ids of commands are not, is not looked for in the memtable either.
    options.set_write_buffer_size(MEMTABLE_BYTES)
    options.set_memtable_prefix_bloom_ratio(MEMTABLE_BLOOM)
    options.set_memtable_whole_key_filtering(True)
    options.set_write_buffer_manager(
        WriteBufferManager.new_write_buffer_manager_with_cache(MEMTABLES_BYTES, False, blocks_cache)
    )
    return options


class RocksStores:
    """The stores of one service in one slot, under `<state directory>/<service>/<slot>`, locked for this process."""

    def __init__(self, directory: Path, lock: IO[str]) -> None:
        self.directory, self._lock = directory, lock

    def open(self, name: str) -> RocksStore:
        return RocksStore(self.directory / name, shared_options())

    @property
    def last_port(self) -> int:
        """The port that this slot's worker served on last; 0 where there was none."""
        try:
            return int((self.directory / "port").read_text())
        except (OSError, ValueError):
            return 0

    def remember_port(self, port: int) -> None:
        """Keeps the port for the next worker in this slot."""
        (self.directory / "port").write_text(str(port))

    def close(self) -> None:
        """Releases the slot; stores must be closed before."""
        self._lock.close()


def claim_slot(state_dir: Path, service: str, slot: int | None) -> tuple[int, RocksStores]:
    """Takes a slot of `service` for this process: the given one, or the first free one.

    A slot is a directory with a lock that ends with the process. It gives a worker its stable identity in the group, so
    that it finds its tables and partitions again after a restart. Raises StateDirectoryError.
    """
    for number in [slot] if slot is not None else range(1000):
        directory = state_dir / service / str(number)
        try:
            directory.mkdir(parents=True, exist_ok=True)
            lock = (directory / "lock").open("w")
        except OSError as error:
            raise StateDirectoryError(
                f"cannot use {directory}: {error.strerror}; choose another --state-dir"
            ) from error
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
        return number, RocksStores(directory, lock)
    raise StateDirectoryError(
        f"slot {slot} of service {service!r} in {state_dir} is in use by a running worker; "
        "stop that worker, or leave --slot out to take the first free one"
    )


def _sign(directory: Path, service: str) -> None:
    """Notes whose tables these are. Raises StateDirectoryError where they are another service's."""
    mark = directory / OWNER
    try:
        owner = mark.read_text().strip() if mark.exists() else ""
        if not owner:
            mark.write_text(service)
    except OSError as error:
        raise StateDirectoryError(f"cannot use {mark}: {error.strerror}; choose another --home") from error
    if owner not in ("", service):
        raise StateDirectoryError(
            f"{directory} has the tables of service {owner!r}, and is no business of {service!r}: a service's data is "
            "had over its API or from the topics that it publishes. Put the directory back where it was, or choose "
            "another --home"
        )
