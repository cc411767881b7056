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
    match command:
        case RegisterProduct(description):
            return Rejected("already_registered") if stock.registered else [ProductRegistered(description)]
        case _ if not stock.registered:
            return Rejected("unknown_product")
        case AdjustStock(quantity, reason):
            if quantity == 0:
                return Rejected("no_quantity")
            if stock.on_hand + quantity < 0:
                return Rejected("out_of_stock", {"on_hand": str(stock.on_hand)})
            return [StockAdjusted(quantity, reason)]
        case ReceiveStock(quantity) | TakeStock(_, quantity) | PutBackStock(_, quantity) if quantity <= 0:
            return Rejected("no_quantity")
        case ReceiveStock(quantity):
            return [StockReceived(quantity)]
        case TakeStock(order, quantity):
            if quantity > stock.on_hand:
                return Rejected("out_of_stock", {"on_hand": str(stock.on_hand)})
            return [StockTaken(order, quantity)]
        case PutBackStock(order, quantity):
            return [StockPutBack(order, quantity)]


def evolve(stock: Stock, event: Event) -> Stock:
    match event:
        case ProductRegistered(description):
            return replace(stock, registered=True, description=description)
        case StockReceived(quantity):
            return replace(stock, on_hand=stock.on_hand + quantity, received=stock.received + quantity)
        case StockAdjusted(quantity):
            return replace(
                stock,
                on_hand=stock.on_hand + quantity,
                adjusted=stock.adjusted + quantity,
                adjustments=stock.adjustments + 1,
            )
        case StockTaken(_, quantity):
            return replace(stock, on_hand=stock.on_hand - quantity, taken=stock.taken + quantity)
        case StockPutBack(_, quantity):
            return replace(stock, on_hand=stock.on_hand + quantity, put_back=stock.put_back + quantity)


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
