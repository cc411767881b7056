"""The accounts service: an aggregate and a local table, with a field of each type."""

from __future__ import annotations

from dataclasses import dataclass, fields
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from enum import Enum, StrEnum
from typing import Annotated, Literal, NamedTuple, NewType
from uuid import UUID

from pipeline import Aggregate, Precision, Projection, Service, Source

Money = Annotated[Decimal, Precision(18, 2)]
Iban = NewType("Iban", str)


class Tier(Enum):
    BASIC = 1
    GOLD = 2


class Currency(StrEnum):
    EURO = "€"
    POUND = "£"


class Limit(NamedTuple):
    """How much may go out in a time."""

    amount: Money
    within: timedelta = timedelta(days=1)


@dataclass(frozen=True, slots=True)
class Open:
    """Ask for an account."""

    id: UUID
    iban: Iban
    balance: Money  # may be less than nothing
    opened_at: datetime
    birthday: date
    called_at: time
    notice: timedelta
    tier: Tier
    currency: Currency
    colour: Literal["red", "blue"]
    vip: bool
    children: int
    rating: float
    portrait: bytes
    names: list[str]
    limits: tuple[Limit, ...]
    rates: dict[str, Money]
    last_seen: date | datetime | None = None
    note: str | int | None = None


@dataclass(frozen=True, slots=True)
class Opened(Open):
    """All of it is noted."""


@dataclass(frozen=True, slots=True)
class Account:
    last: Opened | None = None
    total: Money = Decimal("0.00")
    tiers: tuple[Tier, ...] = ()


@dataclass(frozen=True, slots=True)
class Holder(Open):
    """A row with the same fields as columns."""


def decide(command: Open, state: Account) -> list[Opened]:
    return [Opened(*values(command))]


def evolve(state: Account, event: Opened) -> Account:
    return Account(event, state.total + event.balance, (*state.tiers, event.tier))


def hold(row: Holder, event: Opened) -> Holder:
    return Holder(*values(event))


def values(message: Open) -> list[object]:
    return [getattr(message, field.name) for field in fields(message)]


NOBODY = Holder(
    UUID(int=0),
    Iban(""),
    Decimal("0.00"),
    datetime(1970, 1, 1, tzinfo=UTC),
    date(1970, 1, 1),
    time(),
    timedelta(),
    Tier.BASIC,
    Currency.EURO,
    "red",
    vip=False,
    children=0,
    rating=0.0,
    portrait=b"",
    names=[],
    limits=(),
    rates={},
)

accounts = Aggregate("accounts", Open, Opened, Account(), decide, evolve)
holders = Projection("holders", (Source("accounts.event", Opened),), NOBODY, hold)
service = Service("accounts", (accounts,), projections=(holders,))
