"""The auditor: what each account had at a moment, and what all of them had together.

    python -m bank.audit 2026-11-30T12:00
    python -m bank.audit now

The state of then comes from the accounts' histories, by the bank's own `evolve`. A transfer that was under way at that
moment may be booked on one side only: then look at a moment before or after it.
"""

from __future__ import annotations

import sys
from datetime import UTC, datetime
from decimal import Decimal

from bank.accounts import accounts
from pipeline import QueryClient, find_cluster
from pipeline.errors import PipelineError


def audit(query: QueryClient, moment: str) -> list[tuple[str, Decimal, Decimal]]:
    """Return of each account the balance of then, and the cash that had been paid in and not paid out."""
    then = ((found.key, query.state_as_of(accounts, found.key, moment).row) for found in query.scan(accounts))
    return [(key, account.balance, account.cash) for key, account in then]


def main(moment: str) -> int:
    """Print the audit; the exit code is 1 if money was made or lost."""
    if moment == "now":
        moment = datetime.now(UTC).isoformat()
    cluster = find_cluster()
    with QueryClient(cluster.address, cluster.topology, patience_s=30) as query:
        found = audit(query, moment)
    print(f"{'account':<20} {'balance':>16} {'cash':>16}   as of {moment}")
    for key, balance, cash in found:
        print(f"{key:<20} {balance:>16,} {cash:>16,}")
    balances, cashes = (sum((each[column] for each in found), Decimal("0.00")) for column in (1, 2))
    print(f"{'all':<20} {balances:>16,} {cashes:>16,}   {'equal' if balances == cashes else 'NOT EQUAL'}")
    return int(balances != cashes)


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    try:
        sys.exit(main(sys.argv[1]))
    except PipelineError as error:
        sys.exit(f"error: {error}")
