"""The checkout as a saga: an order's stock is reserved, then its customer charged, then the order confirmed.

What is refused, or not answered in time, is undone, and the order refused with it. Inventory follows what is confirmed,
and takes what was reserved by itself: a reader may see an order confirmed whose stock is reserved still.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

from pipeline import Progress, Reaction, Send, Service, Source, Step, To, linear_saga, renamed

PATIENCE_S = 3600.0  # who has not answered by then has the order refused; who is away for less finds it waiting

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

NOT_BEGUN = Progress()


@dataclass(frozen=True, slots=True)
class Checkout:
    order: str = ""
    customer: str = ""
    amount: int = 0
    units: tuple[Units, ...] = ()
    progress: Progress = NOT_BEGUN


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
    "inventory": ReserveStock | ReleaseStock,
    "payments": Authorise | Capture | Void,
}

# --- the steps: nothing is tried twice, as stock and credit that were refused do not come by waiting ------------------


def reserve(c: Checkout) -> list[To]:
    return [
        To("orders", c.order, HoldOrder(c.order)),
        *(To("inventory", unit.code, ReserveStock(c.order, unit.quantity)) for unit in c.units),
    ]


def unreserve(c: Checkout) -> list[To]:
    return [
        To("orders", c.order, RefuseOrder(c.order, c.progress.reason)),
        *(To("inventory", unit.code, ReleaseStock(c.order)) for unit in c.units),
    ]


def charge(c: Checkout) -> list[To]:
    return [To("payments", c.customer, Authorise(c.order, c.amount))]


def uncharge(c: Checkout) -> list[To]:
    return [To("payments", c.customer, Void(c.order))]


def confirm(c: Checkout) -> list[To]:
    return [To("payments", c.customer, Capture(c.order)), To("orders", c.order, ConfirmOrder(c.order))]


STEPS = [
    Step("reserve", do=reserve, undo=unreserve, timeout_s=PATIENCE_S),
    Step("charge", do=charge, undo=uncharge, timeout_s=PATIENCE_S),
    Step("confirm", do=confirm, must=True, timeout_s=PATIENCE_S),
]

checkout_saga = linear_saga(
    "checkout_saga", state=Checkout(), begin=BeginCheckout, begun=begun, asks=ASKS, versions={1: STEPS}
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
    if event.checkout != "saga":
        return []
    wanted: Counter[str] = Counter()
    for line in event.lines:
        wanted[line.code] += line.quantity
    amount = sum(line.quantity * line.price for line in event.lines)
    units = tuple(Units(code, quantity) for code, quantity in wanted.items())
    return [Send(order, BeginCheckout(order, event.customer, amount, units))]


begins = Reaction("checkout_saga_begins", source=ORDERS, react=follow_orders)

# --- service ---------------------------------------------------------------------------------------------------------

service = Service("checkout_saga", reactions=[begins], sagas=[checkout_saga])
