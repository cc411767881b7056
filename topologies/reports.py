"""The reports service: owns no aggregate; folds what others publish into tables made for reading."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

from pipeline import Database, Projection, Service, Source, Tumbling, moment_ms, top

# --- what it follows: orders and users, as far as reports are concerned ----------------------------------------------


@dataclass(frozen=True, slots=True)
class Line:
    code: str
    quantity: int
    price: int  # thousandths of a pound a unit


@dataclass(frozen=True, slots=True)
class OrderConfirmed:
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


@dataclass(frozen=True, slots=True)
class UserRegistered:
    pass


@dataclass(frozen=True, slots=True)
class ProductRegistered:
    description: str


Document = OrderConfirmed | GoodsReturned
ORDERS = Source("orders.event", Document)
USERS = Source("users.event", UserRegistered)
PRODUCTS = Source("inventory.event", ProductRegistered)


def total(document: Document) -> int:
    return sum(line.quantity * line.price for line in document.lines)


def country_and_day(document: Document) -> str:
    return f"{document.country}/{document.at[:10]}"


# --- revenue and refunds by country and day --------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Amount:
    thousandths: int


@dataclass(frozen=True, slots=True)
class Revenue:
    thousandths: int
    orders: int


@dataclass(frozen=True, slots=True)
class Refunds:
    thousandths: int
    returns: int


def orders_by_country_and_day(_: str, document: Document) -> Iterator[tuple[str, Amount]]:
    if isinstance(document, OrderConfirmed):
        yield country_and_day(document), Amount(total(document))


def returns_by_country_and_day(_: str, document: Document) -> Iterator[tuple[str, Amount]]:
    if isinstance(document, GoodsReturned):
        yield country_and_day(document), Amount(total(document))


def add_revenue(row: Revenue, amount: Amount) -> Revenue:
    return Revenue(row.thousandths + amount.thousandths, row.orders + 1)


def add_refund(row: Refunds, amount: Amount) -> Refunds:
    return Refunds(row.thousandths + amount.thousandths, row.returns + 1)


revenue = Projection(
    "revenue",
    sources=[ORDERS],
    route=orders_by_country_and_day,
    by_key=Amount,
    initial=Revenue(0, 0),
    evolve=add_revenue,
)
refunds = Projection(
    "refunds",
    sources=[ORDERS],
    route=returns_by_country_and_day,
    by_key=Amount,
    initial=Refunds(0, 0),
    evolve=add_refund,
)

# --- units sold by product -------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Units:
    quantity: int


@dataclass(frozen=True, slots=True)
class UnitsSold:
    quantity: int


def units_by_product(_: str, document: Document) -> Iterator[tuple[str, Units]]:
    if isinstance(document, OrderConfirmed):
        for line in document.lines:
            yield line.code, Units(line.quantity)


def add_units(row: UnitsSold, units: Units) -> UnitsSold:
    return UnitsSold(row.quantity + units.quantity)


units_sold = Projection(
    "units_sold",
    sources=[ORDERS],
    route=units_by_product,
    by_key=Units,
    initial=UnitsSold(0),
    evolve=add_units,
    database=Database.SQLITE,
)

# --- products, to be joined with the units sold ----------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Product:
    description: str


def describe(_: Product, event: ProductRegistered) -> Product:
    return Product(event.description)


products = Projection("products", sources=[PRODUCTS], initial=Product(""), evolve=describe, database=Database.SQLITE)

# --- the ten largest orders of each week, by country -----------------------------------------------------------------

DAY_MS = 86_400_000


@dataclass(frozen=True, slots=True)
class LargeOrder:
    number: str
    customer: str
    thousandths: int


@dataclass(frozen=True, slots=True)
class LargestOrders:
    orders: tuple[LargeOrder, ...]


def orders_by_country(key: str, document: Document) -> Iterator[tuple[str, LargeOrder]]:
    if isinstance(document, OrderConfirmed):
        yield document.country, LargeOrder(key, document.customer, total(document))


def keep_largest(row: LargestOrders, order: LargeOrder) -> LargestOrders:
    return LargestOrders(top(row.orders, order, 10, of=lambda o: o.number, by=lambda o: o.thousandths))


def happened_ms(document: Document) -> int:
    try:
        return moment_ms(document.at)
    except ValueError:
        return 0  # nobody has checked it: such orders are together in a week of 1970


largest_orders = Projection(
    "largest_orders",
    sources=[ORDERS],
    route=orders_by_country,
    by_key=LargeOrder,
    initial=LargestOrders(()),
    evolve=keep_largest,
    # From Monday on. By the invoice's own time, so invoices of long ago are not too late.
    windows=Tumbling(7 * DAY_MS, at=happened_ms, offset_ms=4 * DAY_MS),
)

# --- customers with orders, spent, refunded --------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Registered:
    pass


@dataclass(frozen=True, slots=True)
class Spent:
    thousandths: int


@dataclass(frozen=True, slots=True)
class Refunded:
    thousandths: int


@dataclass(frozen=True, slots=True)
class Customer:
    registered: bool
    orders: int
    spent: int
    refunded: int


CustomerMessage = Registered | Spent | Refunded


def by_customer(key: str, event: Document | UserRegistered) -> Iterator[tuple[str, CustomerMessage]]:
    match event:
        case UserRegistered():
            yield key, Registered()
        case OrderConfirmed():
            yield event.customer, Spent(total(event))
        case GoodsReturned():
            yield event.customer, Refunded(total(event))


def add_to_customer(row: Customer, message: CustomerMessage) -> Customer:
    match message:
        case Registered():
            return replace(row, registered=True)
        case Spent(thousandths):
            return replace(row, orders=row.orders + 1, spent=row.spent + thousandths)
        case Refunded(thousandths):
            return replace(row, refunded=row.refunded + thousandths)


customers = Projection(
    "customers",
    sources=[USERS, ORDERS],
    route=by_customer,
    by_key=CustomerMessage,
    initial=Customer(registered=False, orders=0, spent=0, refunded=0),
    evolve=add_to_customer,
)

# --- service ---------------------------------------------------------------------------------------------------------

service = Service("reports", projections=[revenue, refunds, units_sold, products, largest_orders, customers])
