"""The inventory service: owns the stock of each product, and lets it follow what the orders service reports."""

from __future__ import annotations

from dataclasses import dataclass, replace

from pipeline import Aggregate, Reaction, Rejected, Send, Service, Source

# --- commands --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class RegisterProduct:
    description: str


@dataclass(frozen=True, slots=True)
class ReceiveStock:
    quantity: int


@dataclass(frozen=True, slots=True)
class AdjustStock:
    quantity: int  # either sign
    reason: str


@dataclass(frozen=True, slots=True)
class TakeStock:
    order: str
    quantity: int


@dataclass(frozen=True, slots=True)
class PutBackStock:
    order: str  # the return's id
    quantity: int


Command = RegisterProduct | ReceiveStock | AdjustStock | TakeStock | PutBackStock

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


Event = ProductRegistered | StockReceived | StockAdjusted | StockTaken | StockPutBack

# --- state -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Stock:
    """on_hand = received + adjusted - taken + put_back, and never negative."""

    registered: bool = False
    description: str = ""
    on_hand: int = 0
    received: int = 0
    adjusted: int = 0
    adjustments: int = 0
    taken: int = 0
    put_back: int = 0


# --- decide and evolve -----------------------------------------------------------------------------------------------


def decide(command: Command, stock: Stock) -> list[Event] | Rejected:
    if isinstance(command, RegisterProduct):
        return Rejected("already_registered") if stock.registered else [ProductRegistered(command.description)]
    if not stock.registered:
        return Rejected("unknown_product")
    match command:
        case TakeStock(order, quantity):
            event: Event = StockTaken(order, quantity)
        case PutBackStock(order, quantity):
            event = StockPutBack(order, quantity)
        case ReceiveStock(quantity):
            event = StockReceived(quantity)
        case AdjustStock(quantity, reason):
            event = StockAdjusted(quantity, reason)
    if quantity == 0 or (quantity < 0 and not isinstance(command, AdjustStock)):
        return Rejected("bad_quantity")
    if stock.on_hand + (-quantity if isinstance(command, TakeStock) else quantity) < 0:
        return Rejected("out_of_stock", {"on_hand": str(stock.on_hand)})
    return [event]


def evolve(stock: Stock, event: Event) -> Stock:
    match event:
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
    on_hand: int,
    received: int = 0,
    adjusted: int = 0,
    adjustments: int = 0,
    taken: int = 0,
    put_back: int = 0,
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
    )


inventory = Aggregate("inventory", command=Command, event=Event, initial=Stock(), decide=decide, evolve=evolve)

# --- what it follows: orders, as far as stock is concerned -----------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Line:
    code: str
    quantity: int


@dataclass(frozen=True, slots=True)
class OrderPlaced:
    lines: tuple[Line, ...]


@dataclass(frozen=True, slots=True)
class GoodsReturned:
    lines: tuple[Line, ...]


ORDERS = Source("orders.event", OrderPlaced | GoodsReturned)


def follow_orders(order: str, event: OrderPlaced | GoodsReturned) -> list[Send]:
    match event:
        case OrderPlaced(lines):
            return [Send(line.code, TakeStock(order, line.quantity)) for line in lines]
        case GoodsReturned(lines):
            return [Send(line.code, PutBackStock(order, line.quantity)) for line in lines]


stock_follows_orders = Reaction("stock_follows_orders", source=ORDERS, react=follow_orders)

# --- service ---------------------------------------------------------------------------------------------------------

service = Service("inventory", aggregates=[inventory], reactions=[stock_follows_orders])
