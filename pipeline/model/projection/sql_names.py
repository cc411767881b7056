"""Which names a projection in SQL, and the fields of its rows, may have: those that every database can tell apart."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Sequence
from typing import Any

KEY, PARTITION = "row_key", "row_partition"  # columns that each table has
OWN_TABLES = ("pipeline_owner", "pipeline_positions", "pipeline_rows")
OWN_INDEX = "pipeline_rows_by_head"
NAME_MAX = 63  # letters of a name in PostgreSQL
RESERVED = {"sqlite_": "SQLite", "pg_": "PostgreSQL"}  # what names of their own begin with
PRIMARY = "_pkey"  # how PostgreSQL calls the index of a table's key, in the same list of names as tables
POSTGRES_COLUMNS = ("tableoid", "xmin", "cmin", "xmax", "cmax", "ctid")


def field_names(row: Any) -> Sequence[str]:
    """Return the fields of a row's class, as its columns are called."""
    if dataclasses.is_dataclass(row):
        return [field.name for field in dataclasses.fields(row)]
    return getattr(row, "_fields", ())


def unfit_table(table: str, others: Iterable[str] = ()) -> str | None:
    """Return why no table can have that name beside those of the `others` and the engine's; None if one can."""
    if len(table) > NAME_MAX:
        return f"{table!r} has {len(table)} letters, and a table's name at most {NAME_MAX}; rename the projection"
    for prefix, database in RESERVED.items():
        if table.startswith(prefix):
            return f"{database} keeps names such as {table!r} to itself; rename the projection"
    taken = {each + PRIMARY for each in (*others, *OWN_TABLES)}
    if table in (*OWN_TABLES, OWN_INDEX) or table in taken:
        return f"{table!r} is the name of something of the engine's own in the database; rename the projection"
    return None


def unfit_columns(columns: Sequence[str]) -> str | None:
    """Return why no table can have these columns beside the engine's; None if one can."""
    seen: dict[str, str] = {}
    for name in columns:
        same = name.lower()  # SQLite tells none apart that differ by case only
        if len(name) > NAME_MAX:
            return f"the field {name!r} has {len(name)} letters, and a column's name at most {NAME_MAX}; rename it"
        if same in (KEY, PARTITION):
            return f"the field {name!r} would be the engine's own column {same!r}; rename it"
        if same in POSTGRES_COLUMNS:
            return f"the field {name!r} would be a column that PostgreSQL has in each table; rename it"
        if (other := seen.setdefault(same, name)) != name:
            return f"the fields {other!r} and {name!r} differ by case only, and would be one column; rename one"
    return None
