"""What the fault suite takes for damage: rows in SQL that are otherwise, answers without what they had to contain."""

from __future__ import annotations

import sqlite3
from collections import defaultdict
from contextlib import closing
from pathlib import Path

import pytest

from pipeline.demo import figures
from pipeline.model.records.partitioning import partition_of
from tests.faults.harness import sql_rows
from tests.faults.harness.load import PRODUCTS, SCARCE, Sent
from tests.faults.harness.witness import Witnessed
from tests.faults.oracle import PARTITIONS, Damage
from tests.faults.runs.pairs import Tally

SOLD = {"P0": 5, "P1": 7}


def partition(code: str) -> int:
    return partition_of(code.encode(), PARTITIONS)


@pytest.mark.parametrize(
    ("change", "found"),
    [
        ("", []),
        ("UPDATE units_sold SET quantity = 6 WHERE row_key = 'P0'", ["units_sold in SQL[P0]: (6, 0), expected (5, 0)"]),
        ("UPDATE units_sold SET row_partition = 9 WHERE row_key = 'P0'", ["units_sold in SQL[P0]: (5, 9)"]),
        ("DELETE FROM units_sold WHERE row_key = 'P1'", ["units_sold in SQL[P1]: None, expected (7,"]),
        ("INSERT INTO units_sold VALUES ('P9', 1, 3)", ["units_sold in SQL[P9]: (1, 3), expected None"]),
        ("UPDATE products SET description = 'x' WHERE row_key = 'P3'", ["products in SQL[P3]: ('x',"]),
    ],
)
def test_a_row_in_sql_that_is_otherwise_is_named(tmp_path: Path, change: str, found: list[str]) -> None:
    path = tmp_path / "reports.sqlite"
    with closing(sqlite3.connect(path, isolation_level=None)) as sqlite:
        sqlite.execute("CREATE TABLE units_sold (row_key TEXT, quantity INTEGER, row_partition INTEGER)")
        sqlite.execute("CREATE TABLE products (row_key TEXT, description TEXT, row_partition INTEGER)")
        sold = [(code, quantity, partition(code)) for code, quantity in SOLD.items()]
        sqlite.executemany("INSERT INTO units_sold VALUES (?, ?, ?)", sold)
        known = [(code, f"Product {code}", partition(code)) for code in (*PRODUCTS, *SCARCE)]
        sqlite.executemany("INSERT INTO products VALUES (?, ?, ?)", known)
        sqlite.execute(change)
    sent = Sent(figures={"units_sold": defaultdict(int, SOLD)})
    told = figures.differences(sql_rows.found(f"sqlite:///{path}"), sql_rows.expected(sent, PARTITIONS))
    assert len(told) == len(found)
    assert all(each.startswith(beginning) for each, beginning in zip(told, found, strict=True)), told


def test_an_answer_without_what_was_sent_before_is_stale() -> None:
    tally = Tally()
    tally.judge("c0", 3, 3)
    tally.judge("c1", 9, 3, is_all=False)  # somebody has sent more meanwhile
    assert (tally.stale, tally.too_many) == ([], [])
    tally.judge("c2", 2, 3)
    tally.judge("c3", 4, 3)
    assert (tally.stale, tally.too_many) == (["c2: 2 returns and not 3"], ["c3: 4 returns and not 3"])

    witnessed = Witnessed()
    witnessed.judge("linearizable", "w0", 4, 4)
    assert not witnessed.stale
    witnessed.judge("linearizable", "w0", 3, 4)
    assert witnessed.reads == {"linearizable": 2}
    damage = Damage(stale=witnessed.stale)
    assert damage
    assert "stale linearizable of w0: 3, and 4 was sent and stored before" in str(damage)
