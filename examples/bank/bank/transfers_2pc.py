"""Transfers as a two-phase commit: both accounts hold their entry at once, and both book it, or neither does."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal
from typing import Annotated, Literal

from pipeline import EventContext, Precision, Service, Transaction, Work, two_phase_saga

Money = Annotated[Decimal, Precision(18, 2)]
Side = Literal["out", "in"]
PATIENCE_S = 600.0  # an account that has not voted by then has the transfer aborted

# --- what begins it --------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class BeginTransfer:
    payer: str
    payee: str
    amount: Money
    text: str = ""


# --- state -----------------------------------------------------------------------------------------------------------

IDLE = Transaction()


@dataclass(frozen=True, slots=True)
class Transfer:
    id: str = ""
    payer: str = ""
    payee: str = ""
    amount: Money = Decimal("0.00")
    text: str = ""
    transaction: Transaction = IDLE


def begun(begin: BeginTransfer, context: EventContext) -> Transfer:
    return Transfer(context.key, begin.payer, begin.payee, begin.amount, begin.text)


# --- what it asks of others: commands of accounts, as their schema says ----------------------------------------------


@dataclass(frozen=True, slots=True)
class HoldEntry:
    transaction: str
    side: Side
    amount: Money
    text: str


@dataclass(frozen=True, slots=True)
class BookEntry:
    transaction: str


@dataclass(frozen=True, slots=True)
class DropEntry:
    transaction: str


# --- who takes part. Each side is a transaction of its own: a payer may be the payee ----------------------------------


def works(t: Transfer, attempt: int) -> list[Work]:
    given, taken = f"{t.id}:out/{attempt}", f"{t.id}:in/{attempt}"
    out = HoldEntry(given, "out", t.amount, f"to {t.payee}: {t.text}")
    come = HoldEntry(taken, "in", t.amount, f"from {t.payer}: {t.text}")
    return [
        Work("accounts", t.payer, out, BookEntry(given), DropEntry(given)),
        Work("accounts", t.payee, come, BookEntry(taken), DropEntry(taken)),
    ]


transfers_2pc = two_phase_saga(
    "transfers_2pc",
    state=Transfer(),
    begin=BeginTransfer,
    begun=begun,
    asks={"accounts": HoldEntry | BookEntry | DropEntry},
    works=works,
    vote_s=PATIENCE_S,
)

# --- service ---------------------------------------------------------------------------------------------------------

service = Service("transfers_2pc", sagas=[transfers_2pc])
