"""Takes over the databases of earlier versions, which had one for each task, replica and history."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path

from pipeline.adapters.rocks import RocksDatabase
from pipeline.errors import StoreDamaged
from pipeline.runtime.ports import Store

log = logging.getLogger(__name__)

AT_ONCE = 1_000  # rows


def take_over(directory: Path, store: Store) -> None:
    """Moves the rows of the database in `directory` into `store`, positions and all.

    Ended half way, it begins again with the next opening. A database that cannot be read is deleted, as what it held
    comes back from Kafka.
    """
    log.debug("%s: its rows move into the database beside it", directory)
    store.wipe()
    former = RocksDatabase(directory)
    try:
        for rows in _rows(former):
            store.write(rows, {})
    except StoreDamaged as error:
        log.warning("%s: begins again empty: %s", directory, error)
        store.wipe()
    finally:
        former.close()
    store.flush()
    former.remove()


def _rows(database: RocksDatabase) -> Iterator[list[tuple[bytes, bytes | None]]]:
    cursor, rows = database.db.iter(), list[tuple[bytes, bytes | None]]()
    cursor.seek_to_first()
    while True:
        try:
            valid = cursor.valid()
            if valid:
                rows.append((cursor.key(), cursor.value()))
                cursor.next()
            else:
                cursor.status()
        except Exception as error:
            raise database.failed(error) from None
        if rows and (len(rows) == AT_ONCE or not valid):
            yield rows
            rows = []
        if not valid:
            return
