"""What came and what went on each account, by the statements' SQL table: `python -m bank.turnover`.

The worker keeps it in SQLite. Amounts are text there, exact to the penny; in PostgreSQL they are NUMERIC.
"""

from __future__ import annotations

import sqlite3
import sys

from pipeline import find_cluster

TURNOVER = """
SELECT account, count(*) AS lines, max(booked_at) AS last,
       round(total(CASE WHEN amount NOT LIKE '-%' THEN amount END), 2) AS came,
       round(total(CASE WHEN amount LIKE '-%' THEN amount END), 2) AS went
FROM statement GROUP BY account ORDER BY came - went DESC
"""


def main() -> None:
    """Print a line for each account, the one with the largest turnover first."""
    file = find_cluster().home / "state" / "statements" / "statements.sqlite"
    if not file.exists():
        sys.exit(f"no statements in {file}; start the bank first")
    with sqlite3.connect(f"file:{file}?mode=ro", uri=True) as database:
        for account, lines, last, came, went in database.execute(TURNOVER):
            print(f"{account:<12} {lines:>4} lines until {last:.19}   came {came:>12,.2f}   went {went:>12,.2f}")


if __name__ == "__main__":
    main()
