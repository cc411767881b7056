"""A table of one task while folding: committed rows, overlaid by changes since the last checkpoint."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import Any, Literal, NamedTuple, Protocol, cast

from pipeline.engine.ports import SharedStore, Store
from pipeline.engine.state.cache import MISSING, RowCache
from pipeline.engine.state.indexes import index_rows
from pipeline.engine.state.row_keys import table_prefix
from pipeline.model.changes.upcasts import NONE, Upcasts

CACHE_BYTES = 1 << 20  # until the lane says what it may use
Pairs = Sequence[tuple[bytes, bytes | None]]  # None deletes


class RowCodec(Protocol):
    """Turns a row into the bytes that both the table and its changelog hold, and back.

    `fit`: gives a row, or the body of an envelope, as it will be read back; None if it does not change.
    """

    @property
    def fit(self) -> Callable[[Any], Any] | None: ...
    def encode(self, value: Any) -> bytes: ...
    def decode(self, data: bytes | None) -> Any: ...


Strict = bool | Literal["fields", "read"]  # see adapters.avro.binding.Binding


class Codecs(Protocol):
    """Makes the codec of a topic; see adapters.avro.Codec for the meaning of the arguments."""

    def __call__(
        self, topic: str, root: object, body: object = None, *, strict: Strict = True, upcasts: Upcasts = NONE
    ) -> RowCodec: ...


def rows_by_key(spec: TableSpec, store: Store, pairs: Pairs) -> Pairs:
    """Each record of the changelog under its key, and what changes in the table's indexes."""
    prefix = spec.prefix
    rows = [(prefix + key, value) for key, value in pairs]
    return [*rows, *index_rows(spec, store, pairs)] if spec.indexes else rows


class Table:
    """Rows of a table in one partition."""

    cached = True  # whether decoded rows are kept in memory

    def __init__(self, spec: TableSpec, store: Store) -> None:
        self.spec, self.changelog, self.codec, self.store = spec, spec.changelog, spec.codec, store
        self.prefix = spec.prefix
        self.cache = RowCache(CACHE_BYTES)
        self._changed: dict[bytes, Any] = {}
        self._read: dict[bytes, Any] = {}  # from the store since the last checkpoint
        self.hits = self.misses = 0  # rows of the last checkpoint that were in memory before it, or were not

    def get(self, key: bytes) -> Any | None:
        """Return the row as of the last record folded, committed or not."""
        row = self._changed.get(key, MISSING)
        if row is MISSING:
            row = self.cache.get(key)
            if row is MISSING:
                row = self._fetch(key)
        return row

    def _fetch(self, key: bytes) -> Any | None:
        row = self._read.get(key, MISSING)
        if row is MISSING:
            data = self.store.get(self.prefix + key)
            row = self._read[key] = None if data is None else self.codec.decode(data)
        return row

    def put(self, key: bytes, row: Any | None) -> None:
        """Change a row; None deletes it. Nothing is written before the checkpoint."""
        self._changed[key] = row

    def changes(self) -> list[tuple[bytes, bytes | None]]:
        """The last value of each key changed since the checkpoint, encoded."""
        encode = self.codec.encode
        return [(key, None if row is None else encode(row)) for key, row in self._changed.items()]

    def kept(self, pairs: Pairs) -> tuple[Pairs, dict[str, int]]:
        """What a checkpoint with these changes writes to the local store: rows, and positions of the table's own."""
        return self.spec.rows(self.spec, self.store, pairs), {}

    def mark_committed(self) -> None:
        """Move the changes into the cache: they are committed."""
        self.misses = len(self._read)
        self._read.update(self._changed)
        self.hits = len(self._read) - self.misses
        self.cache.update(self._read)
        self._read.clear()
        self._changed.clear()

    def roll_back(self) -> None:
        """Drop the changes: they were not committed. The cache holds committed rows only, so it stays."""
        self._changed.clear()


class SharedTable(Table):
    """Rows of a table in a database."""

    def expect(self, keys: Iterable[bytes]) -> None:
        """Fetch rows soon to be read in one query, instead of one query each."""
        unknown = [
            key for key in set(keys) - self._changed.keys() - self._read.keys() if self.cache.get(key) is MISSING
        ]
        if unknown:
            prefix, decode = self.prefix, self.codec.decode
            found = cast(SharedStore, self.store).get_many([prefix + key for key in unknown])
            self._read.update(dict.fromkeys(unknown))
            self._read.update({key[len(prefix) :]: decode(data) for key, data in found.items()})

    def put(self, key: bytes, row: Any | None) -> None:
        """Change a row. Raises ValueError, before anything is committed, if the database refuses it."""
        if row is not None:
            cast(SharedStore, self.store).check(self.prefix + key, self.codec.encode(row))
        super().put(key, row)


class TableSpec(NamedTuple):
    """A table as declared: its name, the topic that restores it, how its rows are written.

    `make(spec, store)` opens it in one partition; `rows(spec, store, pairs)` is what the local store keeps of records
    of the changelog. `trim(spec, store, last)` drops from a copy some of what is too old by its last record's value,
    and says whether there was any.
    """

    name: str
    changelog: str
    codec: RowCodec
    make: Callable[[TableSpec, Store], Table] = Table
    rows: Callable[[TableSpec, Store, Pairs], Pairs] = rows_by_key
    trim: Callable[[TableSpec, Store, bytes], bool] = lambda spec, store, last: False
    indexes: Mapping[str, Callable[[Any], str | None]] = MappingProxyType({})  # see Projection

    @property
    def prefix(self) -> bytes:
        """What the keys of its rows begin with."""
        return table_prefix(self.name)
