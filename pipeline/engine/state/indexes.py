"""Secondary indexes of a table: entries beside the rows in the same store, which change in the same write.

They are made from the rows wherever these come from, so a table restored from its changelog has them, too.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any
from zlib import crc32

from pipeline.engine.ports import Store
from pipeline.engine.state.row_keys import join_key, table_prefix
from pipeline.flow import row_to_index

if TYPE_CHECKING:
    from pipeline.engine.state.table import Pairs, TableSpec


def entries_prefix(table: str, index: str, value: str) -> bytes:
    """What the entries of one value begin with; the row's key follows."""
    return table_prefix(f"{table}.index.{index}") + join_key(value.encode())


def index_mark(table: str) -> str:
    """Name of the position that says which indexes a store has."""
    return f"indexes:{table}"


def declared(spec: TableSpec) -> int:
    """Return a number for the names of the indexes that a table is to have; 0 if none. Functions do not count."""
    return crc32("\0".join(sorted(spec.indexes)).encode()) or 1 if spec.indexes else 0


def index_rows(spec: TableSpec, store: Store, pairs: Pairs) -> Iterator[tuple[bytes, bytes | None]]:
    """What changes among the entries when these rows do."""
    for key, data in dict(pairs).items():
        before, after = _entries(spec, key, store.get(spec.prefix + key)), _entries(spec, key, data)
        for entry in before - after:
            yield entry, None
        for entry in after - before:
            yield entry, b""


def _entries(spec: TableSpec, key: bytes, data: bytes | None) -> set[bytes]:
    row: Any = None if data is None else spec.codec.decode(data)
    found = () if row is None else row_to_index(spec.indexes, row)
    return {entries_prefix(spec.name, index, value) + key for index, value in found}
