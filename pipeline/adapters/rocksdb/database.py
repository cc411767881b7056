"""One RocksDB directory: how it is opened, what its errors mean, and who uses it.

All tables of a service in one slot share one, their histories another: a database takes 6 open files before it holds
anything, and a service has dozens of tables. One column family, no write-ahead log: what is not flushed yet comes back
from Kafka, and what a crash leaves is a prefix of the writes.
"""

from __future__ import annotations

import contextlib
import logging
import shutil
import threading
import time
from functools import cache
from pathlib import Path

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

DAMAGED = "damaged"  # a file of this name tells the next opening to begin anew
DAMAGE = ("Corruption", "No such file", "Invalid argument")  # in the message of a database that cannot be read
# In the message of one that is whole, and cannot be used as things are: what to do about that.
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
MEMTABLES_BYTES = 64 << 20  # of all databases
MEMTABLE_BYTES = 16 << 20  # of one
MEMTABLE_BLOOM = 0.01  # of it: taken whether it is full or not, and enough for rows of 250 bytes
FILES_MIN = 20  # RocksDB takes no less; of these, it keeps 10 for itself
FILES_MAX = 512  # table files of 64 MB: 32 GB that are read without opening any of them again
WRITE_OPTIONS = WriteOptions()
WRITE_OPTIONS.disable_wal = True  # type: ignore[method-assign, assignment]  # a property, whatever the stub says
NAMES = b"\0\0"  # begins the keys under which names have their numbers
ID_BYTES = 2  # a number begins all keys of its name; none is 0


@cache
def _blocks_cache() -> Cache:
    return Cache(BLOCK_CACHE_BYTES)


@cache
def _memtables() -> WriteBufferManager:
    return WriteBufferManager.new_write_buffer_manager_with_cache(MEMTABLES_BYTES, False, _blocks_cache())


@cache
def shared_options(files: int) -> Options:
    """What all databases of this process are opened with; `files`: how many each may keep open.

    They share one block cache and one write buffer manager, so that memory does not grow with the number of services.
    """
    blocks = BlockBasedOptions()
    blocks.set_block_cache(_blocks_cache())
    blocks.set_bloom_filter(10, False)
    options = Options(raw_mode=True)
    options.create_if_missing(True)
    options.set_max_open_files(files)
    options.set_table_cache_num_shard_bits(2)  # each shard keeps one at least, and by itself there are 64 of them
    options.set_block_based_table_factory(blocks)
    # A key that is not there, as most ids of commands are not, is not looked for in the memtable either.
    options.set_write_buffer_size(MEMTABLE_BYTES)
    options.set_memtable_prefix_bloom_ratio(MEMTABLE_BLOOM)
    options.set_memtable_whole_key_filtering(True)
    options.set_write_buffer_manager(_memtables())
    return options


def not_damaged(path: Path, why: str) -> PipelineError | None:
    """The error to raise if `why` says nothing against what the database holds; None if it may."""
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

    `damage`: why what was there before could not be used; it began empty then.
    """

    def __init__(self, path: Path, files: int = FILES_MAX) -> None:
        self.path, self._options = path, shared_options(files)
        self.damage: str | None = None
        self.broken = False  # it has given an error that will not pass; the next opening begins anew
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
            except Exception as error:  # rocksdict raises no class of its own
                why = str(error)
            if "lock hold by" in why and time.monotonic() < deadline:
                time.sleep(LOCK_PAUSE_S)  # a reader of the same process still holds what has just been closed
            elif not_damaged(self.path, why) is None and any(sign in why for sign in DAMAGE) and self.damage is None:
                self._throw_away(why)
            else:
                raise self._unusable(why)

    def _unusable(self, why: str) -> PipelineError:
        return not_damaged(self.path, why) or StateDirectoryError(
            f"cannot open the tables {self.path}: {why}; if another worker uses this state directory stop it, "
            "else start the worker with another --home: its tables are made again from Kafka"
        )

    def _throw_away(self, why: str) -> None:
        self.remove()
        self.damage = why or "damaged"

    def remove(self) -> None:
        """Deletes what is on the disk."""
        try:
            shutil.rmtree(self.path)
        except OSError as error:
            raise self._unusable(str(error)) from error

    def failed(self, error: Exception) -> PipelineError:
        """What an error of the database means; a damaged one is marked, so that it is not opened again."""
        if isinstance(error, DbClosedError) or "borrowed" in str(error):  # closed, or just being closed
            return unavailable()
        if passing := not_damaged(self.path, str(error)):
            return passing
        self.broken = True
        with contextlib.suppress(OSError):
            (self.path / DAMAGED).write_text(str(error))
        return StoreDamaged(f"the tables {self.path} cannot be read or written: {error}")

    def number_of(self, name: str) -> bytes:
        """What begins all keys of `name`, a number that it keeps for good."""
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
        """All or nothing. Survives a crash only once flushed."""
        try:
            self.db.write(batch, WRITE_OPTIONS)
        except Exception as error:
            raise self.failed(error) from None

    def flush(self) -> None:
        """Has all that was written survive a crash."""
        try:
            self.db.flush()
        except Exception as error:
            raise self.failed(error) from None
        self.flushes += 1

    def close(self) -> None:
        """Flushes and closes it, if it can."""
        try:
            self.db.close()
        except Exception as error:  # what could not be flushed comes back from Kafka
            log.warning("closing the tables %s: %s", self.path, error)


def unavailable() -> TableUnavailable:
    """Of a table that is closed."""
    return TableUnavailable("the partition has just moved to another worker; ask again")
