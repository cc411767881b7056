"""A copy of a database as of its last flush, taken beside the process that has it open.

Table files never change, and there is no write-ahead log: what the manifest names is a prefix of all writes. Files are
linked, so a copy costs neither time nor room; a table file that was merged away meanwhile makes it begin again.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from rocksdict import AccessType, Rdict

from pipeline.adapters.rocksdb.database import DAMAGED, FILES_MIN, ID_BYTES, NAMES, shared_options
from pipeline.adapters.rocksdb.stores import POSITION
from pipeline.errors import StateDirectoryError

TRIES = 20
TABLE = ".sst"
MANIFEST = "MANIFEST-"
BESIDE = ("CURRENT", "IDENTITY", "OPTIONS-", "rocksdict-config.json")  # begin the names of what else is needed
Positions = dict[str, dict[str, int]]  # by store: what each says of itself


def take(database: Path, into: Path) -> Positions:
    """Copy a database into an empty folder on the same disk. Return the positions of its stores.

    Raises StateDirectoryError.
    """
    if (database / DAMAGED).exists():
        raise StateDirectoryError(f"{database} is damaged, and a worker will restore it: start one, then back up again")
    why: object = "its files change all the time"
    for _ in range(TRIES):
        shutil.rmtree(into, ignore_errors=True)
        into.mkdir(parents=True)
        try:
            _copy(database, into)
            return positions_of(into)
        except Exception as error:  # a file has gone; rocksdict raises plain Exception
            why = error
    raise StateDirectoryError(f"the tables {database} cannot be copied: {why!s:.200}; look whether they can be read")


def _copy(database: Path, into: Path) -> None:
    # Tables before the manifest and after it: it may name new ones, and old ones may be gone by then.
    _link(database, into)
    for path in sorted(database.iterdir()):
        if path.name.startswith((MANIFEST, *BESIDE)):
            shutil.copyfile(path, into / path.name)
    _link(database, into)


def _link(database: Path, into: Path) -> None:
    for path in database.glob(f"*{TABLE}"):
        target = into / path.name
        if not target.exists():
            try:
                os.link(path, target)
            except FileNotFoundError:
                continue
            except OSError:  # another disk, or one without links
                shutil.copyfile(path, target)


def positions_of(database: Path) -> Positions:
    """Return the positions of all stores of a database that no process writes."""
    with _opened(database) as db:
        found: Positions = {}
        for key, value in _pairs(db, NAMES):
            if name := key[len(NAMES) :].decode():
                positions = _pairs(db, value + POSITION)
                found[name] = {k[ID_BYTES + len(POSITION) :].decode(): int.from_bytes(v, "big") for k, v in positions}
        return found


@contextmanager
def _opened(database: Path) -> Iterator[Rdict]:
    with closing(Rdict(str(database), shared_options(FILES_MIN), access_type=AccessType.read_only())) as db:
        yield db


def _pairs(db: Rdict, prefix: bytes) -> list[tuple[bytes, bytes]]:
    found, cursor = [], db.iter()
    cursor.seek(prefix)
    while cursor.valid() and cursor.key().startswith(prefix):
        found.append((cursor.key(), cursor.value()))
        cursor.next()
    cursor.status()
    return found
