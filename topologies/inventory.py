"""The inventory service: owns the stock of each product, and takes part in checkouts.

What a checkout has reserved is shown as reserved, and nobody else can have it; it is taken once the order is confirmed.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from pipeline import Aggregate, Ledger, Participant, Reaction, Rejected, Send, Service, Source

# --- commands --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class RegisterProduct:
    description: str


@dataclass(frozen=True, slots=True)
class ReceiveStock:
    quantity: int


@dataclass(frozen=True, slots=True)
class AdjustStock:
    quantity: int  # units found (more than 0) or lost (less than 0)
    reason: str


@dataclass(frozen=True, slots=True)
class TakeStock:  # over the counter, without a checkout
    order: str
    quantity: int


@dataclass(frozen=True, slots=True)
class PutBackStock:
    order: str  # the return's id
    quantity: int


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


Checkout = ReserveStock | TakeReserved | ReleaseStock
Command = RegisterProduct | ReceiveStock | AdjustStock | TakeStock | PutBackStock | Checkout

# --- events ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class ProductRegistered:
    description: str


@dataclass(frozen=True, slots=True)
class StockReceived:
    quantity: int


@dataclass(frozen=True, slots=True)
class StockAdjusted:
    quantity: int
    reason: str


@dataclass(frozen=True, slots=True)
class StockTaken:
    order: str
    quantity: int


@dataclass(frozen=True, slots=True)
class StockPutBack:
    order: str
    quantity: int


@dataclass(frozen=True, slots=True)
class StockReserved:
    transaction: str
    quantity: int


@dataclass(frozen=True, slots=True)
class ReservedTaken:
    transaction: str
    quantity: int


@dataclass(frozen=True, slots=True)
class StockReleased:
    transaction: str
    quantity: int  # 0 where nothing was reserved: a checkout that comes late with its reservation is told so then


Reservation = StockReserved | ReservedTaken | StockReleased
Event = ProductRegistered | StockReceived | StockAdjusted | StockTaken | StockPutBack | Reservation

# --- state -----------------------------------------------------------------------------------------------------------


NOTHING_HELD = Ledger()


@dataclass(frozen=True, slots=True)
class Stock:
    """received + put_back + adjusted = on_hand + reserved + taken, and none of on_hand, reserved, taken is negative."""

    registered: bool = False
    description: str = ""
    on_hand: int = 0  # units that can be had
    received: int = 0
    adjusted: int = 0
    adjustments: int = 0
    taken: int = 0
    put_back: int = 0
    reserved: int = 0  # the sum of what the ledger holds
    ledger: Ledger = NOTHING_HELD


# --- decide and evolve -----------------------------------------------------------------------------------------------


def decide(command: Command, stock: Stock) -> list[Event] | Rejected:
    match command:
        case RegisterProduct(description):
            return Rejected("already_registered") if stock.registered else [ProductRegistered(description)]
        case TakeReserved(transaction):
            return [ReservedTaken(transaction, stock.ledger.amount(transaction))]
        case ReleaseStock(transaction):
            return [StockReleased(transaction, stock.ledger.amount(transaction))]
    if not stock.registered:
        return Rejected("unknown_product")
    more = command.quantity
    match command:
        case ReserveStock(transaction, quantity):
            event: Event = StockReserved(transaction, quantity)
            more = -quantity
        case TakeStock(order, quantity):
            event = StockTaken(order, quantity)
            more = -quantity
        case PutBackStock(order, quantity):
            event = StockPutBack(order, quantity)
        case ReceiveStock(quantity):
            event = StockReceived(quantity)
        case AdjustStock(quantity, reason):
            event = StockAdjusted(quantity, reason)
    if quantity == 0 or (quantity < 0 and not isinstance(command, AdjustStock)):
        return Rejected("bad_quantity")
    if stock.on_hand + more < 0:
        return Rejected("out_of_stock", {"on_hand": str(stock.on_hand)})
    return [event]


def evolve(stock: Stock, event: Event) -> Stock:
    ledger = stock.ledger
    match event:
        case StockReserved(transaction, quantity):
            return add(stock, on_hand=-quantity, reserved=quantity, ledger=ledger.hold(transaction, quantity))
        case ReservedTaken(transaction, quantity):
            return add(stock, reserved=-quantity, taken=quantity, ledger=ledger.end(transaction, committed=True))
        case StockReleased(transaction, quantity):
            return add(stock, on_hand=quantity, reserved=-quantity, ledger=ledger.end(transaction, committed=False))
        case StockTaken(_, quantity):
            return add(stock, on_hand=-quantity, taken=quantity)
        case StockPutBack(_, quantity):
            return add(stock, on_hand=quantity, put_back=quantity)
        case StockReceived(quantity):
            return add(stock, on_hand=quantity, received=quantity)
        case StockAdjusted(quantity):
            return add(stock, on_hand=quantity, adjusted=quantity, adjustments=1)
        case ProductRegistered(description):
            return replace(stock, registered=True, description=description)


def add(
    stock: Stock,
    on_hand: int = 0,
    received: int = 0,
    adjusted: int = 0,
    adjustments: int = 0,
    taken: int = 0,
    put_back: int = 0,
    reserved: int = 0,
    ledger: Ledger | None = None,
) -> Stock:
    """The stock with its counts moved by so much."""
    return Stock(
        stock.registered,
        stock.description,
        stock.on_hand + on_hand,
        stock.received + received,
        stock.adjusted + adjusted,
        stock.adjustments + adjustments,
        stock.taken + taken,
        stock.put_back + put_back,
        stock.reserved + reserved,
        ledger or stock.ledger,
    )


stock_in_checkout = Participant(ReserveStock, TakeReserved, ReleaseStock, ledger=lambda stock: stock.ledger)
inventory = Aggregate(
    "inventory", command=Command, event=Event, initial=Stock(), decide=stock_in_checkout.guards(decide), evolve=evolve
)

# --- what it follows: orders confirmed by a saga, which leaves the taking to it, and goods that come back -------------


@dataclass(frozen=True, slots=True)
class Line:
    code: str
    quantity: int


@dataclass(frozen=True, slots=True)
class OrderConfirmed:
    transaction: str
    lines: tuple[Line, ...]
    checkout: str


@dataclass(frozen=True, slots=True)
class GoodsReturned:
    lines: tuple[Line, ...]


ORDERS = Source("orders.event", OrderConfirmed | GoodsReturned)


def follow_orders(number: str, event: OrderConfirmed | GoodsReturned) -> list[Send]:
    match event:
        case GoodsReturned(lines):
            return [Send(line.code, PutBackStock(number, line.quantity)) for line in lines]
        case OrderConfirmed(transaction, lines, "saga"):
            codes = dict.fromkeys(line.code for line in lines)
            return [Send(code, TakeReserved(transaction)) for code in codes]
    return []


stock_follows_orders = Reaction("stock_follows_orders", source=ORDERS, react=follow_orders)

# --- service ---------------------------------------------------------------------------------------------------------

service = Service("inventory", aggregates=[inventory], reactions=[stock_follows_orders])
