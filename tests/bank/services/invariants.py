"""What must be true of the bank's tables together, once nothing is under way."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any

from pipeline import Invariant

Rows = Mapping[str, Mapping[str, Any]]


def unbalanced(rows: Rows) -> Iterator[str]:
    for key, account in rows["accounts"].items():
        held = sum(max(hold.amount, 0) for hold in account.ledger.holds)
        come, gone = account.deposited + account.booked, account.withdrawn + account.balance + held
        if come != gone or min(account.balance, held) < 0:
            yield f"{key}: {come} have come, and {gone} are there, held or gone"


def made_of_nothing(rows: Rows) -> Iterator[str]:
    moved: Counter[str] = Counter()
    for transfer in rows["transfers"].values():
        if transfer.progress.status == "done":
            moved[transfer.giver] -= transfer.amount
            moved[transfer.taker] += transfer.amount
    booked = {key: account.booked for key, account in rows["accounts"].items()}
    for key in sorted(moved.keys() | booked.keys()):
        if moved[key] != booked.get(key, 0):
            yield f"{key}: {booked.get(key, 0)} booked, and {moved[key]} moved by transfers"


invariants = [
    Invariant("money that came is there, held or gone", ["accounts"], unbalanced),
    Invariant("what is booked went from one account to another", ["accounts", "transfers"], made_of_nothing),
]
