"""The accounts service: owns what each customer has, and takes part in transfers. Its messages are dataclasses."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import NamedTuple

from pipeline import Aggregate, Cancel, Deadline, Ledger, Participant, Rejected, Service, Unique
from tests.bank.services.conduct import conduct

# --- what is known of a customer: every type that there is ------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Post:
    street: str = ""
    code: bytes = b"\0\0\0"  # fixed
    km: float = 0.0  # float


class Phone(NamedTuple):
    type: str  # a field of that name takes the place of the class's name in JSON
    number: int = 0


NO_PHONE = Phone("")


@dataclass(frozen=True, slots=True)
class Profile:
    """The first are of one type each; the last lie in one another."""

    name: str = ""
    portrait: bytes = b""
    branch: bytes = b"\0\0\0\0"  # fixed
    tier: str = "BASIC"  # enum
    vip: bool = False
    children: int = 0  # int
    points: int = 0  # long
    rating: float = 0.0  # float
    income: float = 0.0  # double
    since: int = 0  # timestamp-millis
    seen: int = 0  # timestamp-micros
    opens: int = 0  # time-millis
    born: int = 0  # date
    fee: bytes = b"\0"  # decimal
    ref: str = "3f2504e0-4f89-11d3-9a0c-0305e82c3301"  # uuid
    partner: str | None = None
    score: float | None = None
    extra: str | bytes | int | bool | None = None
    contact: Phone | Post | None = None
    phone: Phone = NO_PHONE
    posts: tuple[Post, ...] = ()
    limits: dict[str, float] = field(default_factory=dict)  # map of float
    notes: Phone | dict[str, bytes] = NO_PHONE
    travels: dict[str, tuple[Post | None, ...]] = field(default_factory=dict)


# --- commands; all amounts are cents ----------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class OpenAccount:
    iban: str
    profile: Profile


@dataclass(frozen=True, slots=True)
class Describe:
    profile: Profile
    memo: str = ""


@dataclass(frozen=True, slots=True)
class Deposit:
    amount: int
    save_to: str | None = None  # where a tenth of it goes, by a transfer
    receipt: str = ""
    memo: str = ""


@dataclass(frozen=True, slots=True)
class Withdraw:
    amount: int
    memo: str = ""


@dataclass(frozen=True, slots=True)
class Freeze:
    seconds: float


@dataclass(frozen=True, slots=True)
class Thaw:
    pass


@dataclass(frozen=True, slots=True)
class CloseAccount:
    pass


@dataclass(frozen=True, slots=True)
class HoldMoney:
    transaction: str
    amount: int  # below 0: to come
    memo: str = ""


@dataclass(frozen=True, slots=True)
class Book:
    transaction: str


@dataclass(frozen=True, slots=True)
class LetGo:
    transaction: str


Transfer = HoldMoney | Book | LetGo
Command = OpenAccount | Describe | Deposit | Withdraw | Freeze | Thaw | CloseAccount | Transfer

# --- events -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class AccountOpened:
    iban: str
    profile: Profile


@dataclass(frozen=True, slots=True)
class Described:
    profile: Profile
    memo: str


@dataclass(frozen=True, slots=True)
class Deposited:
    amount: int
    save_to: str | None
    receipt: str
    memo: str


@dataclass(frozen=True, slots=True)
class Withdrawn:
    amount: int
    memo: str


@dataclass(frozen=True, slots=True)
class Frozen:
    frozen: bool


@dataclass(frozen=True, slots=True)
class AccountClosed:
    pass


@dataclass(frozen=True, slots=True)
class MoneyHeld:
    transaction: str
    amount: int
    memo: str


@dataclass(frozen=True, slots=True)
class Booked:
    transaction: str
    amount: int


@dataclass(frozen=True, slots=True)
class MoneyLetGo:
    transaction: str
    amount: int


Event = AccountOpened | Described | Deposited | Withdrawn | Frozen | AccountClosed | MoneyHeld | Booked | MoneyLetGo

# --- state ------------------------------------------------------------------------------------------------------------

NOTHING_HELD = Ledger()
NOBODY = Profile()


@dataclass(frozen=True, slots=True)
class Account:
    """deposited + booked = balance + withdrawn + what is held of it."""

    iban: str | None = None  # None: there is none, or none any more
    balance: int = 0  # what can be had
    deposited: int = 0
    withdrawn: int = 0
    booked: int = 0  # by transfers: what came less what went
    frozen: bool = False
    profile: Profile = NOBODY
    ledger: Ledger = NOTHING_HELD


# --- decide and evolve ------------------------------------------------------------------------------------------------


def decide(command: Command, account: Account) -> list[object] | Rejected:
    conduct(getattr(command, "memo", ""), "decide")
    match command:
        case OpenAccount(iban, profile):
            return Rejected("already_open") if account.iban is not None else [AccountOpened(iban, profile)]
        case Book(transaction):
            return [Booked(transaction, account.ledger.amount(transaction))]
        case LetGo(transaction):
            return [MoneyLetGo(transaction, account.ledger.amount(transaction))]
        case Thaw():
            return [Frozen(False)] if account.frozen else []
    if account.iban is None:
        return Rejected("no_account")
    match command:
        case Describe(profile, memo):
            return [Described(profile, memo)]
        case Freeze(seconds):
            if not 0 <= seconds <= 3600:
                return Rejected("bad_time")
            return [Frozen(True), Deadline("thaw", Thaw(), after=seconds)]
        case CloseAccount():
            empty = not (account.balance or account.ledger.holds)
            return [AccountClosed(), Cancel("thaw")] if empty else Rejected("not_empty")
    if account.frozen:
        return Rejected("frozen")
    amount = command.amount
    if amount == 0 or abs(amount) > 10**12 or (amount < 0 and not isinstance(command, HoldMoney)):
        return Rejected("bad_amount")
    match command:
        case Deposit(amount, save_to, receipt, memo):
            return [Deposited(amount, save_to or None, receipt, memo)]
        case Withdraw() | HoldMoney() if amount > account.balance:
            return Rejected("not_enough", {"balance": str(account.balance)})
        case Withdraw(amount, memo):
            return [Withdrawn(amount, memo)]
        case HoldMoney(transaction, amount, memo):
            return [MoneyHeld(transaction, amount, memo)]


def evolve(account: Account, event: Event) -> Account:
    conduct(getattr(event, "memo", ""), "evolve")
    ledger = account.ledger
    match event:
        case AccountOpened(iban, profile):
            return replace(account, iban=iban, profile=profile)
        case Described(profile):
            return replace(account, profile=profile)
        case Deposited(amount):
            return replace(account, balance=account.balance + amount, deposited=account.deposited + amount)
        case Withdrawn(amount):
            return replace(account, balance=account.balance - amount, withdrawn=account.withdrawn + amount)
        case Frozen(frozen):
            return replace(account, frozen=frozen)
        case AccountClosed():
            return replace(account, iban=None)
        case MoneyHeld(transaction, amount):
            left = account.balance - max(amount, 0)
            return replace(account, balance=left, ledger=ledger.hold(transaction, amount))
        case Booked(transaction, amount):
            more = max(-amount, 0)
            ledger = ledger.end(transaction, committed=True)
            return replace(account, balance=account.balance + more, booked=account.booked - amount, ledger=ledger)
        case MoneyLetGo(transaction, amount):
            ledger = ledger.end(transaction, committed=False)
            return replace(account, balance=account.balance + max(amount, 0), ledger=ledger)


account_in_transfer = Participant(HoldMoney, Book, LetGo, ledger=lambda account: account.ledger)
accounts = Aggregate(
    "accounts",
    command=Command,
    event=Event,
    initial=Account(),
    decide=account_in_transfer.guards(decide),
    evolve=evolve,
    unique=[Unique("account_ibans", value=lambda account: account.iban and account.iban.casefold())],
)

# --- service ----------------------------------------------------------------------------------------------------------

service = Service("accounts", aggregates=[accounts], transient=(TimeoutError,))
