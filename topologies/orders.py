"""The orders service: owns the sales documents, orders and returns, each known by its invoice number."""

from __future__ import annotations

from dataclasses import dataclass

from pipeline import Aggregate, Rejected, Replica, Service, Source

# --- commands --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Line:
    code: str
    quantity: int
    price: int  # thousandths of a pound a unit


@dataclass(frozen=True, slots=True)
class PlaceOrder:
    customer: str
    country: str
    at: str  # ISO 8601
    lines: tuple[Line, ...]


@dataclass(frozen=True, slots=True)
class ReturnGoods:
    customer: str
    country: str
    at: str
    lines: tuple[Line, ...]


Command = PlaceOrder | ReturnGoods

# --- events ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class OrderPlaced:
    customer: str
    country: str
    at: str
    lines: tuple[Line, ...]


@dataclass(frozen=True, slots=True)
class GoodsReturned:
    customer: str
    country: str
    at: str
    lines: tuple[Line, ...]


Event = OrderPlaced | GoodsReturned

# --- state -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Document:
    kind: str = ""  # "order" or "return"
    customer: str = ""
    country: str = ""
    at: str = ""
    total: int = 0  # thousandths of a pound


# --- decide and evolve -----------------------------------------------------------------------------------------------


def decide(command: Command, document: Document) -> list[Event] | Rejected:
    if document.kind:
        return Rejected("already_entered", {"kind": document.kind})
    if not command.lines:
        return Rejected("no_lines")
    if any(not line.code or line.quantity <= 0 or line.price <= 0 for line in command.lines):
        return Rejected("bad_line")
    match command:
        case PlaceOrder(customer, country, at, lines):
            return [OrderPlaced(customer, country, at, lines)]
        case ReturnGoods(customer, country, at, lines):
            return [GoodsReturned(customer, country, at, lines)]


def evolve(document: Document, event: Event) -> Document:
    kind = "order" if isinstance(event, OrderPlaced) else "return"
    total = sum(line.quantity * line.price for line in event.lines)
    return Document(kind, event.customer, event.country, event.at, total)


orders = Aggregate("orders", command=Command, event=Event, initial=Document(), decide=decide, evolve=evolve)

# --- what it follows: where a customer is, for reporting only (a document carries the invoice's own country) ---------


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

# --- service ---------------------------------------------------------------------------------------------------------

service = Service("orders", aggregates=[orders], replicas=[customer_countries])
