"""The tables of a task in the service's database: one row a key, and the positions in the same transaction.

Other workers may open the same tables. Each opening increments the task's epoch. Each write checks, in the statement
that moves the positions, that the epoch is still its own and the positions are still those it left: compare and set. So
the rows are always what was committed to Kafka up to the positions beside them.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite

from pipeline.adapters.avro.registry import Registry
from pipeline.adapters.sql.columns import Shape
from pipeline.adapters.sql.database import PLAIN, POSITIONS, SqlDatabase
from pipeline.adapters.sql.plain import PlainRows
from pipeline.engine.ports import TP
from pipeline.engine.state.table import TableSpec
from pipeline.errors import DatabaseUnusable, Superseded, TableUnavailable
from pipeline.model.projection.sql_names import KEY, PARTITION

if TYPE_CHECKING:
    from pipeline.engine.ports import SharedStore, SharedStores

KEYS_PER_QUERY = 1_000
Rows = dict[str, tuple[list[str], list[dict[str, Any]]]]  # by table: keys to delete, rows to write


class SqlStore:
    """A `SharedStore`. The last opener owns it."""

    damage: str | None = None

    def __init__(self, database: SqlDatabase, source: TP, shapes: Sequence[Shape]) -> None:
        self._database, self._source = database, source
        self._shapes = {shape.spec.prefix: shape for shape in shapes}
        self._plain = PlainRows(source)
        self._open = True
        self._task = sa.and_(POSITIONS.c.source == source.topic, POSITIONS.c.partition == source.partition)
        with database.transaction() as connection:
            database.claim(connection)
            for shape in shapes:
                self._make(connection, shape)
            self._epoch, self._noted = self._take_over(connection)
        self._positions: dict[str, int] = json.loads(self._noted)

    def _make(self, connection: sa.Connection, shape: Shape) -> None:
        """Create the table if it is missing, to be filled from the row topic. Raises DatabaseUnusable if it differs."""
        table, inspector = shape.table, sa.inspect(connection)
        if not inspector.has_table(table.name):
            table.create(connection)
            for noted in (POSITIONS, PLAIN):
                connection.execute(sa.delete(noted).where(noted.c.source == self._source.topic))
            return
        there = {column["name"]: _kind(column["type"], connection) for column in inspector.get_columns(table.name)}
        for column in table.columns:
            wanted, found = _kind(column.type, connection), there.get(column.name)
            if found != wanted:
                raise DatabaseUnusable(
                    f"the table {table.name} of the database {self._database.name} has {found or 'nothing'} for "
                    f"{column.name!r}, but its schema needs {wanted}. Stop the service's workers and drop the table: "
                    "it is restored from its row topic"
                )

    def _take_over(self, connection: sa.Connection) -> tuple[int, str]:
        """Fence the former owner of the tables: it can no longer write."""
        claimed = connection.execute(
            sa.update(POSITIONS)
            .where(self._task)
            .values(epoch=POSITIONS.c.epoch + 1)
            .returning(POSITIONS.c.epoch, POSITIONS.c.positions)
        ).first()
        if claimed is not None:
            return claimed[0], claimed[1]
        new = {"source": self._source.topic, "partition": self._source.partition, "epoch": 1, "positions": "{}"}
        connection.execute(sa.insert(POSITIONS).values(new))
        return 1, "{}"

    # --- Store --------------------------------------------------------------------------------------------------------

    def get(self, key: bytes) -> bytes | None:
        if self._place(key) is not None:
            return self.get_many([key]).get(key)
        with self._database.reading() as connection:
            return self._plain.get(connection, key)

    def get_many(self, keys: Sequence[bytes]) -> dict[bytes, bytes]:
        self._check_open()
        places = [place for place in map(self._place, keys) if place is not None]
        names = [(shape, name) for shape, name in places if _can_be_key(name)]
        found: dict[bytes, bytes] = {}
        with self._database.reading() as connection:
            for begin in range(0, len(names), KEYS_PER_QUERY):
                some = names[begin : begin + KEYS_PER_QUERY]
                shape = some[0][0]
                column = shape.table.c[KEY]
                these = column.in_([name.decode() for _, name in some])
                query = sa.select(shape.table).where(these, shape.table.c[PARTITION] == self._source.partition)
                for row in connection.execute(query):
                    found[shape.spec.prefix + row[0].encode()] = shape.data(row._asdict())
        return found

    def scan(self, prefix: bytes, start: bytes, limit: int) -> list[tuple[bytes, bytes]]:
        place = self._place(prefix)
        if place is None:
            with self._database.reading() as connection:
                return self._plain.scan(connection, prefix, start, limit)
        shape, prefix_name = place
        start_name = start[len(shape.spec.prefix) :] if start > shape.spec.prefix else b""
        begin, zero, _ = max(prefix_name, start_name).partition(b"\0")
        column = shape.table.c[KEY]
        # No key contains a zero character. So keys from one with a zero on are those after the part before the zero.
        from_there = column > begin.decode() if zero else column >= begin.decode()
        some = (
            sa.select(shape.table)
            .where(from_there, shape.table.c[PARTITION] == self._source.partition)
            .order_by(column)
            .limit(limit)
        )
        with self._database.reading() as connection:
            rows = [row._asdict() for row in connection.execute(some)]
        found = [(row[KEY].encode(), row) for row in rows]
        return [(shape.spec.prefix + key, shape.data(row)) for key, row in found if key.startswith(prefix_name)]

    def check(self, key: bytes, value: bytes) -> None:
        place = self._place(key)
        if place is not None:
            shape, name = place
            shape.check(name, value)

    def write(self, pairs: Iterable[tuple[bytes, bytes | None]], positions: Mapping[str, int]) -> None:
        self._check_open()
        moved = {**self._positions, **positions}
        noted = json.dumps(moved, sort_keys=True)
        rows, plain = self._sorted(dict(pairs))  # the last value of a key counts
        with self._database.transaction() as connection:
            self._advance(connection, noted)
            for name, (gone, put) in rows.items():
                self._change(connection, self._shapes[name.encode() + b"\0"], gone, put)
            self._plain.write(connection, plain)
        self._positions, self._noted = moved, noted

    def _sorted(self, changes: Mapping[bytes, bytes | None]) -> tuple[Rows, dict[bytes, bytes | None]]:
        """Split changes into rows of tables with columns, and those without."""
        rows: Rows = {}
        plain: dict[bytes, bytes | None] = {}
        for key, value in changes.items():
            place = self._place(key)
            if place is None:
                plain[key] = value
                continue
            shape, name = place
            gone, put = rows.setdefault(shape.spec.name, ([], []))
            if value is None:
                gone.append(name.decode())
            else:
                put.append({KEY: name.decode(), PARTITION: self._source.partition, **shape.columns(value)})
        return rows, plain

    def _advance(self, connection: sa.Connection, noted: str) -> None:
        """Move the positions if the fence holds. Raises Superseded if it does not."""
        mine = (POSITIONS.c.epoch == self._epoch, POSITIONS.c.positions == self._noted)
        moved = connection.execute(sa.update(POSITIONS).where(self._task, *mine).values(positions=noted))
        if moved.rowcount != 1:
            raise Superseded(
                f"the tables of {self._source.topic}-{self._source.partition} in {self._database.name} belong to "
                "another worker, or are not as this one left them; their owner goes on from the row topic"
            )

    def _change(self, connection: sa.Connection, shape: Shape, gone: list[str], put: list[dict[str, Any]]) -> None:
        table = shape.table
        if gone:
            which = (table.c[KEY] == sa.bindparam("gone"), table.c[PARTITION] == self._source.partition)
            connection.execute(sa.delete(table).where(*which), [{"gone": key} for key in gone])
        if put:
            upsert = (sqlite if self._database.is_sqlite else postgresql).insert(table)
            others = {column.name: upsert.excluded[column.name] for column in table.columns if column.name != KEY}
            connection.execute(upsert.on_conflict_do_update(index_elements=[KEY], set_=others), put)

    def position(self, name: str) -> int | None:
        self._check_open()
        return self._positions.get(name)

    def flush(self) -> None:
        """Do nothing: all writes are committed already."""

    def wipe(self) -> None:
        self._check_open()
        with self._database.transaction() as connection:
            self._advance(connection, "{}")
            for shape in self._shapes.values():
                mine = shape.table.c[PARTITION] == self._source.partition
                connection.execute(sa.delete(shape.table).where(mine))
            self._plain.wipe(connection)
        self._positions, self._noted = {}, "{}"

    def close(self) -> None:
        self._open = False

    # --- helpers ------------------------------------------------------------------------------------------------------

    def _check_open(self) -> None:
        if not self._open:
            raise TableUnavailable("the partition has just moved to another worker; ask again")

    def _place(self, key: bytes) -> tuple[Shape, bytes] | None:
        """Return the table that a key begins with, and the row's key in it; None if that has no columns."""
        self._check_open()
        name, zero, row_key = key.partition(b"\0")
        shape = self._shapes.get(name + zero)
        return None if shape is None else (shape, row_key)


def _can_be_key(name: bytes) -> bool:
    """Return whether a row may have this key; a record that is to be parked may have any."""
    try:
        name.decode()
    except UnicodeDecodeError:
        return False
    return b"\0" not in name


def _kind(kind: sa.types.TypeEngine[Any], connection: sa.Connection) -> str:
    """Return the name of a column's type, without its collation."""
    return kind.compile(connection.dialect).partition(" COLLATE")[0]


class SqlStores:
    """Opens the tables of tasks in a service's database.

    `part`: a later version of one of its projections, whose tasks may have the same sources as the service's.
    """

    def __init__(self, database: SqlDatabase, registry: Registry, part: str = "") -> None:
        self._database, self._registry, self._part = database, registry, part
        self.service = database.service
        self._shapes: dict[str, Shape] = {}
        self._metadata = sa.MetaData()

    def open(self, source: TP, tables: Sequence[TableSpec]) -> SqlStore:
        for spec in tables:
            if spec.name not in self._shapes:
                self._shapes[spec.name] = Shape(spec, self._registry, self._metadata)
        if self._part:
            source = source._replace(topic=f"{self._part}:{source.topic}")
        return SqlStore(self._database, source, [self._shapes[spec.name] for spec in tables])

    def check(self) -> None:
        """Raise DatabaseUnreachable or DatabaseUnusable if the database cannot be used."""
        self._database.check()

    def close(self) -> None:
        """Close all connections."""
        self._database.close()


if TYPE_CHECKING:

    def _is_a_store(store: SqlStore) -> SharedStore:
        return store

    def _are_stores(stores: SqlStores) -> SharedStores:
        return stores
