"""The accounts service: owns what each customer has, and takes part in transfers.

An entry of a transfer is held first and booked or dropped later. Money that is held to go out cannot be spent again;
money that is held to come in cannot be spent yet.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from decimal import Decimal
from typing import Annotated, Literal

from pipeline import Aggregate, Ledger, Participant, Precision, Rejected, Service

Money = Annotated[Decimal, Precision(18, 2)]  # exact; an amount with more than two decimal places is refused
Side = Literal["out", "in"]

# --- commands --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class OpenAccount:
    owner: str


@dataclass(frozen=True, slots=True)
class PayIn:
    """Cash that a customer brings to the counter."""

    amount: Money


@dataclass(frozen=True, slots=True)
class PayOut:
    """Cash that a customer takes from the counter."""

    amount: Money


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


Command = OpenAccount | PayIn | PayOut | HoldEntry | BookEntry | DropEntry

# --- events ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class AccountOpened:
    owner: str


@dataclass(frozen=True, slots=True)
class PaidIn:
    amount: Money
    balance: Money  # after it, as on a statement


@dataclass(frozen=True, slots=True)
class PaidOut:
    amount: Money
    balance: Money


@dataclass(frozen=True, slots=True)
class EntryHeld:
    transaction: str
    side: Side
    amount: Money
    text: str


@dataclass(frozen=True, slots=True)
class EntryBooked:
    transaction: str
    side: Side
    amount: Money
    text: str
    balance: Money


@dataclass(frozen=True, slots=True)
class EntryDropped:
    transaction: str  # of an entry that was never held, too: a transfer that comes late with it is refused then


Event = AccountOpened | PaidIn | PaidOut | EntryHeld | EntryBooked | EntryDropped

# --- state -----------------------------------------------------------------------------------------------------------

ZERO = Decimal("0.00")
NOTHING_HELD = Ledger()


@dataclass(frozen=True, slots=True)
class Entry:
    transaction: str
    side: Side
    amount: Money
    text: str


@dataclass(frozen=True, slots=True)
class Account:
    owner: str = ""  # empty: the account is not open
    balance: Money = ZERO  # what is booked
    held: Money = ZERO  # of it, for transfers under way
    cash: Money = ZERO  # what was paid in at the counter less what was paid out
    entries: tuple[Entry, ...] = ()  # of transfers under way
    ledger: Ledger = NOTHING_HELD  # which transactions these are, and how the last ones ended

    @property
    def available(self) -> Decimal:
        """What may be spent."""
        return self.balance - self.held

    def entry(self, transaction: str) -> Entry:
        """Return the entry that is held for that transaction."""
        return next(entry for entry in self.entries if entry.transaction == transaction)


# --- decide and evolve -----------------------------------------------------------------------------------------------


def decide(command: Command, account: Account) -> list[Event] | Rejected:
    match command:
        case DropEntry(transaction):
            return [EntryDropped(transaction)]
        case OpenAccount() if account.owner:
            return Rejected("already_open")
        case OpenAccount(owner):
            return [AccountOpened(owner)] if owner else Rejected("no_owner")
        case _ if not account.owner:
            return Rejected("no_such_account")
        case BookEntry(transaction):
            entry = account.entry(transaction)
            balance = account.balance + (entry.amount if entry.side == "in" else -entry.amount)
            return [EntryBooked(transaction, entry.side, entry.amount, entry.text, balance)]
        case PayIn(amount) | PayOut(amount) | HoldEntry(amount=amount) if amount <= 0:
            return Rejected("bad_amount")
        case PayOut(amount) | HoldEntry(side="out", amount=amount) if amount > account.available:
            return Rejected("not_enough", {"available": str(account.available)})
        case PayIn(amount):
            return [PaidIn(amount, account.balance + amount)]
        case PayOut(amount):
            return [PaidOut(amount, account.balance - amount)]
        case HoldEntry(transaction, side, amount, text):
            return [EntryHeld(transaction, side, amount, text)]


def evolve(account: Account, event: Event) -> Account:
    match event:
        case AccountOpened(owner):
            return replace(account, owner=owner)
        case PaidIn(amount, balance):
            return replace(account, balance=balance, cash=account.cash + amount)
        case PaidOut(amount, balance):
            return replace(account, balance=balance, cash=account.cash - amount)
        case EntryHeld(transaction, side, amount, text):
            entries = (*account.entries, Entry(transaction, side, amount, text))
            return with_entries(account, entries, account.ledger.hold(transaction))
        case EntryBooked(transaction, balance=balance):
            ledger = account.ledger.end(transaction, committed=True)
            return replace(with_entries(account, without(account, transaction), ledger), balance=balance)
        case EntryDropped(transaction):
            ledger = account.ledger.end(transaction, committed=False)
            return with_entries(account, without(account, transaction), ledger)


def without(account: Account, transaction: str) -> tuple[Entry, ...]:
    return tuple(entry for entry in account.entries if entry.transaction != transaction)


def with_entries(account: Account, entries: tuple[Entry, ...], ledger: Ledger) -> Account:
    held = sum((entry.amount for entry in entries if entry.side == "out"), ZERO)
    return replace(account, held=held, entries=entries, ledger=ledger)


account_in_transfer = Participant(HoldEntry, BookEntry, DropEntry, ledger=lambda account: account.ledger)
accounts = Aggregate(
    "accounts",
    command=Command,
    event=Event,
    initial=Account(),
    decide=account_in_transfer.guards(decide),
    evolve=evolve,
)

# --- service ---------------------------------------------------------------------------------------------------------

service = Service("accounts", aggregates=[accounts])
