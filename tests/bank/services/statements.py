"""The statements service: tables made for reading, in RocksDB and in SQL. Its messages are named tuples."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from pipeline import Database, Projection, Service, Source, Tumbling
from tests.bank.services.accounts import NOBODY, Profile
from tests.bank.services.conduct import conduct

# --- what it follows --------------------------------------------------------------------------------------------------


class AccountOpened(NamedTuple):
    iban: str
    profile: Profile


class Described(NamedTuple):
    profile: Profile
    memo: str


class Deposited(NamedTuple):
    amount: int
    memo: str


class Withdrawn(NamedTuple):
    amount: int
    memo: str


class AccountClosed(NamedTuple):
    pass


Event = AccountOpened | Described | Deposited | Withdrawn | AccountClosed
ACCOUNTS = Source("accounts.event", Event)

# --- customers: a row of every type, in SQL; deleted with the account -------------------------------------------------


def describe(row: Profile, event: Event) -> Profile | None:
    conduct(getattr(event, "memo", ""), "project")
    match event:
        case AccountOpened(_, profile) | Described(profile):
            return profile
        case AccountClosed():
            return None
    return row


customers = Projection(
    "customers", sources=[ACCOUNTS], initial=NOBODY, evolve=describe, database=Database.SQLITE, version=1
)

# --- balances: the same key and home, so also in SQL; portraits: the largest row, in RocksDB, by another key ----------


class Balance(NamedTuple):
    cents: int = 0
    movements: int = 0
    mean: float = 0.0  # as an Avro float


def move(row: Balance, event: Event) -> Balance:
    if not isinstance(event, Deposited | Withdrawn):
        return row
    cents = row.cents + (event.amount if isinstance(event, Deposited) else -event.amount)
    return Balance(cents, row.movements + 1, row.mean + 0.1)


balances = Projection("balances", sources=[ACCOUNTS], initial=Balance(), evolve=move, database=Database.SQLITE)


class Branch(NamedTuple):
    code: bytes = b"\0\0\0\0"
    customers: int = 0
    last: Profile | None = None


class Seen(NamedTuple):
    profile: Profile


def by_branch(key: str, event: Event) -> Iterator[tuple[str, Seen]]:
    conduct(getattr(event, "memo", ""), "route")
    if isinstance(event, AccountOpened | Described):
        yield event.profile.branch.hex(), Seen(event.profile)


def count(row: Branch, message: Seen) -> Branch:
    return Branch(message.profile.branch, row.customers + 1, message.profile)


branches = Projection(
    "branches",
    sources=[ACCOUNTS],
    route=by_branch,
    by_key=Seen,
    initial=Branch(),
    evolve=count,
    indexes={"tier": lambda row: row.last and row.last.tier, "name": lambda row: row.last and row.last.name},
)

# --- turnover by the day, in windows of the events' own time ----------------------------------------------------------


class Amount(NamedTuple):
    cents: int


class Turnover(NamedTuple):
    cents: int = 0
    movements: int = 0


def by_kind(key: str, event: Event) -> Iterator[tuple[str, Amount]]:
    if isinstance(event, Deposited | Withdrawn):
        yield type(event).__name__, Amount(event.amount)


turnover = Projection(
    "turnover",
    sources=[ACCOUNTS],
    route=by_kind,
    by_key=Amount,
    initial=Turnover(),
    evolve=lambda row, message: Turnover(row.cents + message.cents, row.movements + 1),
    windows=Tumbling(86_400_000),
)

# --- service ----------------------------------------------------------------------------------------------------------

service = Service("statements", projections=[customers, balances, branches, turnover], transient=(TimeoutError,))
