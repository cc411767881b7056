"""One RocksDB directory: how to open it, what its errors mean, and the names of its stores.

All tables of a service in one slot share one database, and their histories another: each database needs 6 open files
while it is empty, and a service has dozens of tables. One column family, no write-ahead log: what was not flushed is
restored from Kafka, and after a crash a prefix of the writes is left.
"""

from __future__ import annotations

import contextlib
import logging
import shutil
import threading
import time
from functools import cache
from pathlib import Path
from typing import NamedTuple

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

from pipeline.adapters import descriptors
from pipeline.errors import OutOfDescriptors, PipelineError, StateDirectoryError, StoreDamaged, TableUnavailable

log = logging.getLogger(__name__)

DAMAGED = "damaged"  # a file of this name makes the next opening start empty
DAMAGE = ("Corruption", "No such file", "Invalid argument")  # parts of the messages of a damaged database
# Parts of the messages of a whole database that cannot be used at present, and the cure for each.
SURROUNDINGS = {
    "No space left": "free some space",
    "quota exceeded": "free some space",
    "Permission denied": "let this user read and write it",
    "Operation not permitted": "let this user read and write it",
    "Read-only file system": "mount it for writing",
    "Cannot allocate memory": "give the process more memory",
}
LOCK_S = 5.0
LOCK_PAUSE_S = 0.02
BLOCK_CACHE_BYTES = 64 << 20
MEMTABLES_BYTES = 64 << 20  # of all databases together
MEMTABLE_BYTES = 16 << 20  # of one database
MEMTABLE_BLOOM = 0.01  # its share of the memtable: always allocated, and enough for rows of 250 bytes
FILES_MIN = 20  # RocksDB's minimum, of which it keeps 10 for itself
FILES_MAX = 512  # table files of 64 MB: 32 GB that are read without reopening files
WRITE_OPTIONS = WriteOptions()
WRITE_OPTIONS.disable_wal = True  # type: ignore[method-assign, assignment]  # a property, despite its stub
NAMES = b"\0\0"  # prefix of the keys that map names to numbers
ID_BYTES = 2  # prefix of all keys of a name, never 0


PROPERTIES = ("total-sst-files-size", "cur-size-all-mem-tables", "estimate-num-keys")


class StateFigures(NamedTuple):
    """The size of a database: bytes on disk, bytes in memory that are not there yet, and about how many rows."""

    disk_bytes: int
    memory_bytes: int
    rows: int


@cache
def _blocks_cache() -> Cache:
    return Cache(BLOCK_CACHE_BYTES)


@cache
def _memtables() -> WriteBufferManager:
    return WriteBufferManager.new_write_buffer_manager_with_cache(MEMTABLES_BYTES, False, _blocks_cache())


@cache
def shared_options(files: int) -> Options:
    """Return the options of all databases of this process. `files`: how many each may keep open.

    They share one block cache and one write buffer manager, so that memory does not grow with the number of services.
    """
    blocks = BlockBasedOptions()
    blocks.set_block_cache(_blocks_cache())
    blocks.set_bloom_filter(10, False)
    options = Options(raw_mode=True)
    options.create_if_missing(True)
    options.set_max_open_files(files)
    options.set_table_cache_num_shard_bits(2)  # each shard keeps at least one file, and the default is 64 shards
    options.set_block_based_table_factory(blocks)
    # A missing key, as most command ids are, is not searched in the memtable either.
    options.set_write_buffer_size(MEMTABLE_BYTES)
    options.set_memtable_prefix_bloom_ratio(MEMTABLE_BLOOM)
    options.set_memtable_whole_key_filtering(True)
    options.set_write_buffer_manager(_memtables())
    return options


def not_damaged(path: Path, why: str) -> PipelineError | None:
    """Return the error to raise if `why` does not mean that the data is damaged; None if it may."""
    if descriptors.exhausted(why):
        return OutOfDescriptors(f"no more files can be opened for the tables {path}: {why}; {descriptors.cure()}")
    for sign, cure in SURROUNDINGS.items():
        if sign.casefold() in why.casefold():
            return StateDirectoryError(
                f"the tables {path} cannot be used: {why}; {cure} and start the worker again, nothing is lost"
            )
    return None


class RocksDatabase:
    """An open RocksDB directory. Reads are safe from any thread; after `close` they raise TableUnavailable.

    `damage`: why earlier data could not be used; the database is then new.
    """

    def __init__(self, path: Path, files: int = FILES_MAX) -> None:
        self.path, self._options = path, shared_options(files)
        self.damage: str | None = None
        self.broken = False  # had an error that will not pass; the next opening starts empty
        self.flushes = 0
        self._lock = threading.Lock()
        marker = path / DAMAGED
        try:
            if marker.exists():
                self._throw_away(marker.read_text())
        except OSError as error:
            raise self._unusable(str(error)) from error
        self.db = self._open()

    def _open(self) -> Rdict:
        deadline = time.monotonic() + LOCK_S
        while True:
            try:
                return Rdict(str(self.path), self._options)
            except Exception as error:  # rocksdict raises plain Exception
                why = str(error)
            if "lock hold by" in why and time.monotonic() < deadline:
                time.sleep(LOCK_PAUSE_S)  # a reader in this process still uses the one just closed
            elif not_damaged(self.path, why) is None and any(sign in why for sign in DAMAGE) and self.damage is None:
                self._throw_away(why)
            else:
                raise self._unusable(why)

    def _unusable(self, why: str) -> PipelineError:
        return not_damaged(self.path, why) or StateDirectoryError(
            f"cannot open the tables {self.path}: {why}; if another worker uses this state directory stop it, "
            "otherwise start the worker with another --home: its tables are restored from Kafka"
        )

    def _throw_away(self, why: str) -> None:
        self.remove()
        self.damage = why or "damaged"

    def remove(self) -> None:
        """Delete the directory."""
        try:
            shutil.rmtree(self.path)
        except OSError as error:
            raise self._unusable(str(error)) from error

    def failed(self, error: Exception) -> PipelineError:
        """Return the meaning of an error of the database. Mark a damaged one, so that the next opening starts empty."""
        if isinstance(error, DbClosedError) or "borrowed" in str(error):  # closed, or being closed
            return unavailable()
        if passing := not_damaged(self.path, str(error)):
            return passing
        self.broken = True
        with contextlib.suppress(OSError):
            (self.path / DAMAGED).write_text(str(error))
        return StoreDamaged(f"the tables {self.path} cannot be read or written: {error}")

    def number_of(self, name: str) -> bytes:
        """Return the prefix of all keys of `name`: a number that it keeps for good."""
        key = NAMES + name.encode()
        try:
            with self._lock:
                if (number := self.db.get(key)) is None:
                    last = self.db.get(NAMES) or bytes(ID_BYTES)
                    number = (int.from_bytes(last, "big") + 1).to_bytes(ID_BYTES, "big")
                    batch = WriteBatch(raw_mode=True)
                    batch.put(key, number)
                    batch.put(NAMES, number)
                    self.db.write(batch, WRITE_OPTIONS)
        except OverflowError:
            raise StateDirectoryError(f"{self.path} has had too many tables; give the worker another --home") from None
        except Exception as error:
            raise self.failed(error) from None
        assert isinstance(number, bytes)
        return number

    def write(self, batch: WriteBatch) -> None:
        """Write the whole batch or nothing. It survives a crash only once flushed."""
        try:
            self.db.write(batch, WRITE_OPTIONS)
        except Exception as error:
            raise self.failed(error) from None

    def figures(self) -> StateFigures | None:
        """What RocksDB says of its size, in microseconds; None if it is being closed. Safe from any thread."""
        try:
            sizes = [self.db.property_int_value(f"rocksdb.{name}") or 0 for name in PROPERTIES]
        except Exception:  # rocksdict raises plain Exception; what is wrong shows in the next read or write
            return None
        return StateFigures(*sizes)

    def flush(self) -> None:
        """Make all that was written survive a crash."""
        try:
            self.db.flush()
        except Exception as error:
            raise self.failed(error) from None
        self.flushes += 1

    def close(self) -> None:
        """Flush and close, if possible."""
        try:
            self.db.close()
        except Exception as error:  # what was not flushed is restored from Kafka
            log.warning("closing the tables %s: %s", self.path, error)


def unavailable() -> TableUnavailable:
    """Return the error of a closed table."""
    return TableUnavailable("the partition has just moved to another worker; ask again")
