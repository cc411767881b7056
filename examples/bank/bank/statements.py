"""The statements service: a line of SQL for each movement of an account, to be sorted, joined and summed."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Annotated, Literal

from pipeline import Database, EventContext, Precision, Projection, Service, Source

Money = Annotated[Decimal, Precision(18, 2)]

# --- what it follows: movements of accounts; entries that are held only are none --------------------------------------


@dataclass(frozen=True, slots=True)
class PaidIn:
    amount: Money
    balance: Money


@dataclass(frozen=True, slots=True)
class PaidOut:
    amount: Money
    balance: Money


@dataclass(frozen=True, slots=True)
class EntryBooked:
    side: Literal["out", "in"]
    amount: Money
    text: str
    balance: Money


Movement = PaidIn | PaidOut | EntryBooked
ACCOUNTS = Source("accounts.event", Movement)

# --- a line of a statement -------------------------------------------------------------------------------------------

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Line:
    account: str = ""
    booked_at: datetime = EPOCH
    text: str = ""
    amount: Money = Decimal("0.00")  # below 0: money that went
    balance: Money = Decimal("0.00")  # after it


def lines(account: str, event: Movement, context: EventContext) -> Iterator[tuple[str, Line]]:
    match event:
        case PaidIn(amount):
            text = "paid in"
        case PaidOut(paid):
            amount, text = -paid, "paid out"
        case EntryBooked("in", amount, text):
            pass
        case EntryBooked("out", booked, text):
            amount = -booked
    booked_at = EPOCH + timedelta(milliseconds=context.time_ms)
    yield f"{account}/{context.version:08}", Line(account, booked_at, text, amount, event.balance)


def write(_: Line, line: Line) -> Line:
    return line


statement = Projection(
    "statement",
    sources=[ACCOUNTS],
    route=lines,
    by_key=Line,
    initial=Line(),
    evolve=write,
    database=Database.SQLITE,  # or POSTGRESQL, with: pipeline worker --database statements=postgresql://…
)

# --- service ---------------------------------------------------------------------------------------------------------

service = Service("statements", projections=[statement])
