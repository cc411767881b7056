"""The transfers service: a saga that moves money, a reaction that begins one, and limits decided with a replica."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from pipeline import (
    Aggregate,
    Copy,
    Progress,
    Reaction,
    Rejected,
    Replica,
    Retry,
    Send,
    Service,
    Source,
    Step,
    To,
    linear_saga,
)
from tests.bank.services.conduct import conduct

# --- what it follows --------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class AccountOpened:
    iban: str


@dataclass(frozen=True, slots=True)
class Deposited:
    amount: int
    save_to: str | None
    receipt: str
    memo: str


@dataclass(frozen=True, slots=True)
class AccountClosed:
    pass


Followed = AccountOpened | Deposited | AccountClosed
ACCOUNTS = Source("accounts.event", Followed)

# --- the saga ---------------------------------------------------------------------------------------------------------


class BeginTransfer(NamedTuple):
    id: str  # that of the transfer
    giver: str
    taker: str
    amount: int
    memo: str = ""


NOT_BEGUN = Progress()


@dataclass(frozen=True, slots=True)
class Moving:
    id: str = ""
    giver: str = ""
    taker: str = ""
    amount: int = 0
    memo: str = ""
    progress: Progress = NOT_BEGUN


@dataclass(frozen=True, slots=True)
class HoldMoney:
    transaction: str
    amount: int
    memo: str


@dataclass(frozen=True, slots=True)
class Book:
    transaction: str


@dataclass(frozen=True, slots=True)
class LetGo:
    transaction: str


def begun(begin: BeginTransfer) -> Moving:
    return Moving(*begin)


def hold(m: Moving) -> list[To]:
    return [To("accounts", m.giver, HoldMoney(m.id, m.amount, m.memo))]


def let_go(m: Moving) -> list[To]:
    return [To("accounts", m.giver, LetGo(m.id))]


def announce(m: Moving) -> list[To]:
    return [To("accounts", m.taker, HoldMoney(f"{m.id}+", -m.amount, ""))]


def withdraw(m: Moving) -> list[To]:
    return [To("accounts", m.taker, LetGo(f"{m.id}+"))]


def book(m: Moving) -> list[To]:
    return [To("accounts", m.giver, Book(m.id)), To("accounts", m.taker, Book(f"{m.id}+"))]


STEPS = [
    Step("hold", do=hold, undo=let_go, timeout_s=3600),
    Step("announce", do=announce, undo=withdraw, timeout_s=3600, retry=Retry(attempts=2, first_s=1, on=("frozen",))),
    Step("book", do=book, must=True, timeout_s=3600),
]
transfers = linear_saga(
    "transfers",
    state=Moving(),
    begin=BeginTransfer,
    begun=begun,
    asks={"accounts": HoldMoney | Book | LetGo},
    versions={1: STEPS},
)


def save(key: str, event: Followed) -> list[Send]:
    conduct(getattr(event, "memo", ""), "react")
    if isinstance(event, Deposited) and event.save_to and event.amount >= 10:
        name = f"{event.receipt or key}/saved"
        return [Send(name, BeginTransfer(name, key, event.save_to, event.amount // 10))]
    return []


# --- limits: of accounts that are open --------------------------------------------------------------------------------


class Opened(NamedTuple):
    iban: str | None = None
    deposits: int = 0


def keep(row: Opened, event: Followed) -> Opened | None:
    conduct(getattr(event, "memo", ""), "replica")
    match event:
        case AccountOpened(iban):
            return row._replace(iban=iban)
        case Deposited():
            return row._replace(deposits=row.deposits + 1)
        case AccountClosed():
            return None


open_accounts = Replica("open_accounts", source=ACCOUNTS, initial=Opened(), evolve=keep)


class SetLimit(NamedTuple):
    account: str
    limit: float
    memo: str = ""


class LimitSet(NamedTuple):
    account: str
    limit: float
    deposits: int


class Limit(NamedTuple):
    account: str = ""
    limit: float = 0.0
    sum: float = 0.0  # of all limits so far, as an Avro float


def decide(command: SetLimit, state: Limit, accounts: Copy[Opened]) -> list[LimitSet] | Rejected:
    conduct(command.memo, "decide")
    account = accounts.get(command.account) if command.account else None
    if account is None or account.iban is None:
        return Rejected("no_account")
    return [LimitSet(command.account, command.limit, account.deposits)]


def evolve(state: Limit, event: LimitSet) -> Limit:
    # Where the sum would leave what a float of 32 bits holds, it begins anew.
    total = state.sum + event.limit
    return Limit(event.account, event.limit, total if abs(total) < 3e38 else event.limit)


limits = Aggregate(
    "limits",
    command=SetLimit,
    event=LimitSet,
    initial=Limit(),
    decide=decide,
    evolve=evolve,
    reads=open_accounts,
    history=False,
)

# --- service ----------------------------------------------------------------------------------------------------------

service = Service(
    "transfers",
    aggregates=[limits],
    reactions=[Reaction("savings", source=ACCOUNTS, react=save)],
    replicas=[open_accounts],
    sagas=[transfers],
    transient=(TimeoutError,),
)
