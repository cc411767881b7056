"""The checkout as a two-phase commit: the order, its stock and its customer's account all commit, or none does."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

from pipeline import Reaction, Send, Service, Source, Transaction, Work, renamed, two_phase_saga

PATIENCE_S = 3600.0  # who has not voted by then has the order refused; who is away for less finds it waiting

# --- what begins it ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Units:
    code: str
    quantity: int


@dataclass(frozen=True, slots=True)
class BeginCheckout:
    order: str
    customer: str
    amount: int  # thousandths of a pound
    units: tuple[Units, ...]  # of each product once


# --- state -----------------------------------------------------------------------------------------------------------

IDLE = Transaction()


@dataclass(frozen=True, slots=True)
class Checkout:
    order: str = ""
    customer: str = ""
    amount: int = 0
    units: tuple[Units, ...] = ()
    transaction: Transaction = IDLE


def begun(begin: BeginCheckout) -> Checkout:
    return Checkout(begin.order, begin.customer, begin.amount, begin.units)


# --- what it asks of others -------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class HoldOrder:
    transaction: str


@dataclass(frozen=True, slots=True)
class ConfirmOrder:
    transaction: str


@dataclass(frozen=True, slots=True)
class RefuseOrder:
    transaction: str
    reason: str


@dataclass(frozen=True, slots=True)
class ReserveStock:
    transaction: str
    quantity: int


@dataclass(frozen=True, slots=True)
class TakeReserved:
    transaction: str


@dataclass(frozen=True, slots=True)
class ReleaseStock:
    transaction: str


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


ASKS = {
    "orders": HoldOrder | ConfirmOrder | RefuseOrder,
    "inventory": ReserveStock | TakeReserved | ReleaseStock,
    "payments": Authorise | Capture | Void,
}

# --- who takes part ---------------------------------------------------------------------------------------------------


def works(c: Checkout, attempt: int) -> list[Work]:
    t, why = f"{c.order}/{attempt}", c.transaction.reason
    return [
        Work("orders", c.order, HoldOrder(t), ConfirmOrder(t), RefuseOrder(t, why)),
        Work("payments", c.customer, Authorise(t, c.amount), Capture(t), Void(t)),
        *(
            Work("inventory", unit.code, ReserveStock(t, unit.quantity), TakeReserved(t), ReleaseStock(t))
            for unit in c.units
        ),
    ]


checkout_2pc = two_phase_saga(
    "checkout_2pc", state=Checkout(), begin=BeginCheckout, begun=begun, asks=ASKS, works=works, vote_s=PATIENCE_S
)

# --- what it follows: orders that are to be checked out this way ------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Line:
    code: str
    quantity: int
    price: int


@dataclass(frozen=True, slots=True)
class OrderPlaced:
    customer: str
    lines: tuple[Line, ...]
    checkout: str


@renamed("OrderPlaced")
@dataclass(frozen=True, slots=True)
class OrderPlacedV1:
    """An order as it was placed before day and time were told apart, which a checkout does not look at."""

    customer: str
    lines: tuple[Line, ...]
    checkout: str


def to_order_placed(old: OrderPlacedV1) -> OrderPlaced:
    return OrderPlaced(old.customer, old.lines, old.checkout)


ORDERS = Source("orders.event", OrderPlaced, upcasts={OrderPlacedV1: to_order_placed})


def follow_orders(order: str, event: OrderPlaced) -> list[Send]:
    if event.checkout != "2pc":
        return []
    wanted: Counter[str] = Counter()
    for line in event.lines:
        wanted[line.code] += line.quantity
    amount = sum(line.quantity * line.price for line in event.lines)
    units = tuple(Units(code, quantity) for code, quantity in wanted.items())
    return [Send(order, BeginCheckout(order, event.customer, amount, units))]


begins = Reaction("checkout_2pc_begins", source=ORDERS, react=follow_orders)

# --- service ---------------------------------------------------------------------------------------------------------

service = Service("checkout_2pc", reactions=[begins], sagas=[checkout_2pc])
