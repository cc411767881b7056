"""What must be true of the bank's tables together, once nothing is under way. `pipeline verify` judges it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from decimal import Decimal
from typing import Any

from pipeline import Invariant

Rows = Mapping[str, Mapping[str, Any]]
ZERO = Decimal("0.00")


def made_or_lost(rows: Rows) -> Iterator[str]:
    balances = sum((account.balance for account in rows["accounts"].values()), ZERO)
    cash = sum((account.cash for account in rows["accounts"].values()), ZERO)
    if balances != cash:
        yield f"all accounts: their balances are {balances}, and {cash} was paid in and not paid out"


def overdrawn(rows: Rows) -> Iterator[str]:
    for key, account in rows["accounts"].items():
        if account.balance < account.held or account.held < 0:
            yield f"{key}: a balance of {account.balance}, of which {account.held} is held"


def wrong_statements(rows: Rows) -> Iterator[str]:
    sums: dict[str, Decimal] = {}
    for line in rows["statement"].values():
        sums[line.account] = sums.get(line.account, ZERO) + line.amount
    for key, account in rows["accounts"].items():
        if sums.get(key, ZERO) != account.balance:
            yield f"{key}: a balance of {account.balance}, and lines of {sums.get(key, ZERO)}"


def left_held(rows: Rows) -> Iterator[str]:
    for key, account in rows["accounts"].items():
        for entry in account.entries:
            yield f"{key}: {entry.amount} held for {entry.transaction}"


invariants = [
    Invariant("transfers make no money and lose none", ["accounts"], made_or_lost),
    Invariant("no account is overdrawn", ["accounts"], overdrawn),
    Invariant("a statement adds up to the balance", ["accounts", "statement"], wrong_statements),
    Invariant("nothing stays held", ["accounts"], left_held),
]
