"""The orders service: owns the sales documents, orders and returns, each known by its invoice number.

An order is placed, and then confirmed or refused by its checkout. A return needs no checkout.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from pipeline import Aggregate, Copy, Ledger, Participant, Rejected, Replica, Service, Source, renamed

CHECKOUTS = ("saga", "2pc")  # who carries it out: checkout_saga, checkout_2pc

# --- commands --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Line:
    code: str
    quantity: int
    price: int  # thousandths of a pound a unit


@dataclass(frozen=True, slots=True)
class PlaceOrder:
    customer: str
    country: str  # of the invoice; empty: that of the customer, as far as orders knows it
    at: str  # ISO 8601, local time of the shop
    lines: tuple[Line, ...]
    checkout: str = CHECKOUTS[0]


@dataclass(frozen=True, slots=True)
class ReturnGoods:
    customer: str
    country: str
    at: str
    lines: tuple[Line, ...]


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


Command = PlaceOrder | ReturnGoods | HoldOrder | ConfirmOrder | RefuseOrder

# --- events ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class OrderPlaced:
    customer: str
    country: str  # the invoice's own
    day: str  # ISO 8601, in the shop
    time: str  # of that day; empty if it is not known
    lines: tuple[Line, ...]
    checkout: str = CHECKOUTS[0]


@dataclass(frozen=True, slots=True)
class GoodsReturned:
    customer: str
    country: str
    at: str
    lines: tuple[Line, ...]


@dataclass(frozen=True, slots=True)
class OrderHeld:
    transaction: str


@dataclass(frozen=True, slots=True)
class OrderConfirmed:
    transaction: str
    customer: str
    country: str
    at: str
    lines: tuple[Line, ...]
    checkout: str = CHECKOUTS[0]


@dataclass(frozen=True, slots=True)
class OrderRefused:
    transaction: str
    reason: str


@dataclass(frozen=True, slots=True)
class OrderLetGo:  # by a checkout that did not hold it
    transaction: str


Event = OrderPlaced | GoodsReturned | OrderHeld | OrderConfirmed | OrderRefused | OrderLetGo

# --- events of before -------------------------------------------------------------------------------------------------


@renamed("OrderPlaced")
@dataclass(frozen=True, slots=True)
class OrderPlacedV1:
    """An order as it was placed before day and time were told apart."""

    customer: str
    country: str
    at: str
    lines: tuple[Line, ...]
    checkout: str = CHECKOUTS[0]


def to_order_placed(old: OrderPlacedV1) -> OrderPlaced:
    return OrderPlaced(old.customer, old.country, *day_and_time(old.at), old.lines, old.checkout)


def day_and_time(at: str) -> tuple[str, str]:
    day, _, time = at.partition("T")
    return day, time


# --- state -----------------------------------------------------------------------------------------------------------


NOTHING_HELD = Ledger()


@dataclass(frozen=True, slots=True)
class Document:
    kind: str = ""  # order, return, or empty before the first event
    customer: str = ""
    country: str = ""
    at: str = ""
    total: int = 0  # thousandths of a pound
    status: str = ""  # of an order: placed, confirmed or refused; empty for a return
    reason: str = ""  # why it was refused
    lines: tuple[Line, ...] = ()
    ledger: Ledger = NOTHING_HELD
    checkout: str = ""  # of an order


# --- what it follows: where a customer is, for orders that do not say so ----------------------------------------------


@dataclass(frozen=True, slots=True)
class UserRegistered:
    country: str


@dataclass(frozen=True, slots=True)
class CountryChanged:
    country: str


@dataclass(frozen=True, slots=True)
class CustomerCountry:
    country: str


USERS = Source("users.event", UserRegistered | CountryChanged)


def follow_user(_: CustomerCountry, event: UserRegistered | CountryChanged) -> CustomerCountry:
    return CustomerCountry(event.country)


customer_countries = Replica("customer_countries", source=USERS, initial=CustomerCountry(""), evolve=follow_user)

# --- decide and evolve -----------------------------------------------------------------------------------------------


def decide(command: Command, document: Document, countries: Copy[CustomerCountry]) -> list[Event] | Rejected:
    match command:
        case HoldOrder(transaction):
            return Rejected(why) if (why := not_to_be_held(document)) else [OrderHeld(transaction)]
        case ConfirmOrder(transaction):
            d = document
            return [OrderConfirmed(transaction, d.customer, d.country, d.at, d.lines, d.checkout)]
        case RefuseOrder(transaction, reason):
            held = any(hold.transaction == transaction for hold in document.ledger.holds)
            return [OrderRefused(transaction, reason) if held else OrderLetGo(transaction)]
    if document.kind:
        return Rejected("already_entered", {"kind": document.kind})
    if not command.lines:
        return Rejected("no_lines")
    if any(not line.code or line.quantity <= 0 or line.price <= 0 for line in command.lines):
        return Rejected("bad_line")
    match command:
        case PlaceOrder(checkout=checkout) if checkout not in CHECKOUTS:
            return Rejected("unknown_checkout", {"known": ", ".join(CHECKOUTS)})
        case PlaceOrder(customer, country, at, lines, checkout):
            country = country or country_of(customer, countries)
            if not country:
                return Rejected("unknown_country", {"customer": customer})
            return [OrderPlaced(customer, country, *day_and_time(at), lines, checkout)]
        case ReturnGoods(customer, country, at, lines):
            return [GoodsReturned(customer, country, at, lines)]


def country_of(customer: str, countries: Copy[CustomerCountry]) -> str:
    """Where the customer is, as far as it is known here; empty where it is not."""
    known = countries.get(customer)
    return "" if known is None else known.country


def not_to_be_held(document: Document) -> str:
    """Why no checkout may begin with it now; empty where one may."""
    if document.kind != "order":
        return "unknown_order"
    if document.status != "placed":
        return f"already_{document.status}"
    return "locked" if document.ledger.holds else ""


def evolve(document: Document, event: Event) -> Document:
    ledger = document.ledger
    match event:
        case OrderPlaced(customer, country, day, time, lines, checkout):
            at = f"{day}T{time}" if time else day
            return Document("order", customer, country, at, total(lines), "placed", "", lines, ledger, checkout)
        case GoodsReturned(customer, country, at, lines):
            return Document("return", customer, country, at, total(lines), "", "", lines, ledger)
        case OrderHeld(transaction):
            return replace(document, ledger=ledger.hold(transaction))
        case OrderConfirmed(transaction):
            return replace(document, status="confirmed", ledger=ledger.end(transaction, committed=True))
        case OrderRefused(transaction, reason):
            ended = ledger.end(transaction, committed=False)
            return replace(document, status="refused", reason=reason, ledger=ended)
        case OrderLetGo(transaction):
            return replace(document, ledger=ledger.end(transaction, committed=False))


def total(lines: tuple[Line, ...]) -> int:
    return sum(line.quantity * line.price for line in lines)


order_in_checkout = Participant(
    HoldOrder, ConfirmOrder, RefuseOrder, ledger=lambda document: document.ledger, without=lambda document: document
)
orders = Aggregate(
    "orders",
    command=Command,
    event=Event,
    initial=Document(),
    decide=order_in_checkout.guards(decide),
    evolve=evolve,
    reads=customer_countries,
    upcasts={OrderPlacedV1: to_order_placed},
)

# --- service ---------------------------------------------------------------------------------------------------------

service = Service("orders", aggregates=[orders], replicas=[customer_countries])
