"""Transfers as a saga: the payer's money is held, then the payee's account is asked, then both are booked.

What comes to nothing, such as a payee without an account, is undone: the payer's money is let go.
"""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal
from typing import Annotated, Literal

from pipeline import EventContext, Precision, Progress, Service, Step, To, linear_saga

Money = Annotated[Decimal, Precision(18, 2)]
Side = Literal["out", "in"]
PATIENCE_S = 600.0  # an account that has not answered by then has the transfer undone

# --- what begins it --------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class BeginTransfer:
    payer: str
    payee: str
    amount: Money
    text: str = ""


# --- state -----------------------------------------------------------------------------------------------------------

NOT_BEGUN = Progress()


@dataclass(frozen=True, slots=True)
class Transfer:
    id: str = ""
    payer: str = ""
    payee: str = ""
    amount: Money = Decimal("0.00")
    text: str = ""
    progress: Progress = NOT_BEGUN


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


# --- the steps. Each side is a transaction of its own: a payer may be the payee ---------------------------------------


def hold_payer(t: Transfer) -> list[To]:
    return [To("accounts", t.payer, HoldEntry(f"{t.id}:out", "out", t.amount, f"to {t.payee}: {t.text}"))]


def drop_payer(t: Transfer) -> list[To]:
    return [To("accounts", t.payer, DropEntry(f"{t.id}:out"))]


def hold_payee(t: Transfer) -> list[To]:
    return [To("accounts", t.payee, HoldEntry(f"{t.id}:in", "in", t.amount, f"from {t.payer}: {t.text}"))]


def drop_payee(t: Transfer) -> list[To]:
    return [To("accounts", t.payee, DropEntry(f"{t.id}:in"))]


def book(t: Transfer) -> list[To]:
    return [To("accounts", t.payer, BookEntry(f"{t.id}:out")), To("accounts", t.payee, BookEntry(f"{t.id}:in"))]


STEPS = [
    Step("payer", do=hold_payer, undo=drop_payer, timeout_s=PATIENCE_S),
    Step("payee", do=hold_payee, undo=drop_payee, timeout_s=PATIENCE_S),
    Step("book", do=book, must=True, timeout_s=PATIENCE_S),
]

transfers_saga = linear_saga(
    "transfers_saga",
    state=Transfer(),
    begin=BeginTransfer,
    begun=begun,
    asks={"accounts": HoldEntry | BookEntry | DropEntry},
    versions={1: STEPS},
)

# --- service ---------------------------------------------------------------------------------------------------------

service = Service("transfers_saga", sagas=[transfers_saga])
