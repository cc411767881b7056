"""The payments service: owns what each customer owes, and takes part in checkouts.

A customer without a limit may owe any amount. What a checkout has authorised counts as owed; it is charged once the
order is confirmed. A return is refunded, whatever else the customer owes.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from pipeline import Aggregate, Ledger, Participant, Reaction, Rejected, Send, Service, Source

# --- commands; all amounts are thousandths of a pound -----------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class SetLimit:
    limit: int | None  # thousandths of a pound that may be owed; None: any amount


@dataclass(frozen=True, slots=True)
class Refund:
    order: str  # the return's id
    amount: int


@dataclass(frozen=True, slots=True)
class Authorise:
    transaction: str
    amount: int


@dataclass(frozen=True, slots=True)
class Capture:
    transaction: str


@dataclass(frozen=True, slots=True)
class Void:
    transaction: str


Command = SetLimit | Refund | Authorise | Capture | Void

# --- events ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class LimitSet:
    limit: int | None


@dataclass(frozen=True, slots=True)
class Refunded:
    order: str
    amount: int


@dataclass(frozen=True, slots=True)
class Authorised:
    transaction: str
    amount: int


@dataclass(frozen=True, slots=True)
class Captured:
    transaction: str
    amount: int


@dataclass(frozen=True, slots=True)
class Voided:
    transaction: str
    amount: int  # 0 where nothing was authorised: a checkout that comes late with its charge is told so then


Event = LimitSet | Refunded | Authorised | Captured | Voided

# --- state -----------------------------------------------------------------------------------------------------------

NOTHING_HELD = Ledger()


@dataclass(frozen=True, slots=True)
class Account:
    limit: int | None = None  # thousandths of a pound that may be owed; None: any amount
    authorised: int = 0  # thousandths of a pound: what the ledger holds
    charged: int = 0
    refunded: int = 0
    ledger: Ledger = NOTHING_HELD

    @property
    def owed(self) -> int:
        """What the limit is compared with."""
        return self.charged - self.refunded + self.authorised


# --- decide and evolve -----------------------------------------------------------------------------------------------


def decide(command: Command, account: Account) -> list[Event] | Rejected:
    match command:
        case SetLimit(int(limit)) if limit < 0:
            return Rejected("bad_amount")
        case SetLimit(limit):
            return [] if limit == account.limit else [LimitSet(limit)]
        case Refund(order, amount):
            return [Refunded(order, amount)] if amount > 0 else Rejected("bad_amount")
        case Authorise(transaction, amount):
            if amount <= 0:
                return Rejected("bad_amount")
            if account.limit is not None and account.owed + amount > account.limit:
                return Rejected("over_limit", {"limit": str(account.limit), "owed": str(account.owed)})
            return [Authorised(transaction, amount)]
        case Capture(transaction):
            return [Captured(transaction, account.ledger.amount(transaction))]
        case Void(transaction):
            return [Voided(transaction, account.ledger.amount(transaction))]


def evolve(account: Account, event: Event) -> Account:
    held, ledger = account.authorised, account.ledger
    match event:
        case LimitSet(limit):
            return replace(account, limit=limit)
        case Refunded(_, amount):
            return replace(account, refunded=account.refunded + amount)
        case Authorised(transaction, amount):
            return replace(account, authorised=held + amount, ledger=ledger.hold(transaction, amount))
        case Captured(transaction, amount):
            ledger = ledger.end(transaction, committed=True)
            return replace(account, authorised=held - amount, charged=account.charged + amount, ledger=ledger)
        case Voided(transaction, amount):
            return replace(account, authorised=held - amount, ledger=ledger.end(transaction, committed=False))


account_in_checkout = Participant(Authorise, Capture, Void, ledger=lambda account: account.ledger)
payments = Aggregate(
    "payments",
    command=Command,
    event=Event,
    initial=Account(),
    decide=account_in_checkout.guards(decide),
    evolve=evolve,
)

# --- what it follows: goods that come back ---------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Line:
    quantity: int
    price: int


@dataclass(frozen=True, slots=True)
class GoodsReturned:
    customer: str
    lines: tuple[Line, ...]


ORDERS = Source("orders.event", GoodsReturned)


def follow_orders(number: str, event: GoodsReturned) -> list[Send]:
    return [Send(event.customer, Refund(number, sum(line.quantity * line.price for line in event.lines)))]


refunds_follow_orders = Reaction("refunds_follow_orders", source=ORDERS, react=follow_orders)

# --- service ---------------------------------------------------------------------------------------------------------

service = Service("payments", aggregates=[payments], reactions=[refunds_follow_orders])
