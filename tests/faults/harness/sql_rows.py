"""What stands in the SQL tables of reports, read past the engine."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa

from pipeline.adapters.sql import database_url
from pipeline.model.records.partitioning import partition_of
from tests.faults.harness.load import PRODUCTS, SCARCE, Sent

COLUMNS = {"units_sold": "quantity", "products": "description"}
Rows = dict[str, dict[str, Any]]  # by table and key: the row's value, and in which partition it is said to be


def found(url: str) -> Rows:
    """What there is."""
    engine = sa.create_engine(database_url(url))
    try:
        with engine.connect() as connection:
            tables = {}
            for table, column in COLUMNS.items():
                asked = sa.text(f"SELECT row_key, {column}, row_partition FROM {table}")
                tables[f"{table} in SQL"] = {key: (value, n) for key, value, n in connection.execute(asked)}
            return tables
    finally:
        engine.dispose()


def expected(sent: Sent, partitions: int) -> Rows:
    """What there has to be."""
    rows = {
        "units_sold": sent.figures["units_sold"],
        "products": {code: f"Product {code}" for code in (*PRODUCTS, *SCARCE)},
    }
    return {
        f"{table} in SQL": {code: (value, partition_of(code.encode(), partitions)) for code, value in values.items()}
        for table, values in rows.items()
    }
