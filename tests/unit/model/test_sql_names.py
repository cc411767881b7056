"""Names of projections in SQL and of their fields: what cannot stand in a database is refused when it is declared."""

from __future__ import annotations

import sqlite3
from dataclasses import make_dataclass
from typing import Any, NamedTuple

import pytest
import sqlalchemy as sa

from pipeline import Database, Projection, Service, Source
from pipeline.adapters.sql.database import METADATA
from pipeline.errors import TopologyError
from pipeline.model.projection.sql_names import (
    KEY,
    OWN_INDEX,
    OWN_TABLES,
    PARTITION,
    field_names,
    unfit_columns,
    unfit_table,
)


class Row(NamedTuple):
    total: int = 0
    Total: int = 0


def declared(*names: str, columns: tuple[str, ...] = ("n",), database: Database = Database.SQLITE) -> Service:
    row = make_dataclass("Row", [(name, int, 0) for name in columns], frozen=True)()
    source = Source("sums.event", int)
    return Service("sums", projections=[projection(name, source, row, database) for name in names])


def projection(name: str, source: Source, row: Any, database: Database) -> Projection[Any, Any]:
    return Projection(name, [source], row, lambda row, event: row, database=database)


@pytest.mark.parametrize("database", [Database.SQLITE, Database.POSTGRESQL])
@pytest.mark.parametrize(
    ("columns", "says"),
    [
        (("total", "Total"), "the fields 'total' and 'Total' differ by case only, and would be one column; rename one"),
        (("a", "b", "aB", "Ab"), "the fields 'aB' and 'Ab' differ by case only"),
        (("Row_Key",), "the field 'Row_Key' would be the engine's own column 'row_key'; rename it"),
        (("row_key",), "the engine's own column"),
        (("ROW_PARTITION",), "the engine's own column"),
        (("xmin",), "a column that PostgreSQL has in each table"),
        (("CTID",), "a column that PostgreSQL has in each table"),
        (("n" * 64,), "has 64 letters"),
    ],
)
def test_columns_that_no_table_can_have(columns: tuple[str, ...], says: str, database: Database) -> None:
    with pytest.raises(TopologyError, match=says):
        declared("by_day", columns=columns, database=database)
    declared("by_day", columns=columns, database=Database.ROCKSDB)


@pytest.mark.parametrize("database", [Database.SQLITE, Database.POSTGRESQL])
@pytest.mark.parametrize(
    "name", [*OWN_TABLES, OWN_INDEX, "sqlite_things", "pg_class", "by_day_pkey", "pipeline_rows_pkey", "p" * 64]
)
def test_tables_that_no_database_can_have(name: str, database: Database) -> None:
    with pytest.raises(TopologyError, match="rename the projection"):
        declared("by_day", name, database=database)
    declared("by_day", name, database=Database.ROCKSDB)


def test_rows_may_be_named_tuples() -> None:
    with pytest.raises(TopologyError, match="differ by case only"):
        Service("sums", projections=[projection("p", Source("s.event", int), Row(), Database.SQLITE)])
    assert field_names(5) == ()


def test_the_names_that_the_engine_has_are_known() -> None:
    assert set(METADATA.tables) == set(OWN_TABLES)
    assert {index.name for table in METADATA.tables.values() for index in table.indexes} == {OWN_INDEX}


@pytest.mark.parametrize("table", ["order", "group", "by_day", "pipeline", "pipeline_row", "pgs", "p" * 63])
def test_what_is_let_through_can_be_made(table: str) -> None:
    columns = ["select", "rowid", "oid", "excluded", "Order", "n_", "_n", "value", "gone", "C" * 63]
    assert unfit_table(table, ["other"]) is None
    assert unfit_columns(columns) is None
    metadata = sa.MetaData()
    made = sa.Table(table, metadata, *(sa.Column(name, sa.Integer) for name in (KEY, PARTITION, *columns)))
    engine = sa.create_engine("sqlite://")
    with engine.begin() as connection:
        METADATA.create_all(connection)
        metadata.create_all(connection)
        connection.execute(sa.insert(made).values(dict.fromkeys(columns, 1)))
    engine.dispose()


def test_sqlite_tells_no_columns_apart_by_case() -> None:
    with pytest.raises(sqlite3.OperationalError, match="duplicate column name"):
        sqlite3.connect(":memory:").execute('CREATE TABLE t ("total" INTEGER, "Total" INTEGER)')
