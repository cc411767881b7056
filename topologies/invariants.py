"""What must be true of the shop's tables together, once nothing is under way. `pipeline verify` judges it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any

from pipeline import Invariant

Rows = Mapping[str, Mapping[str, Any]]


def unbalanced_stock(rows: Rows) -> Iterator[str]:
    for code, stock in rows["inventory"].items():
        come, gone = stock.received + stock.put_back + stock.adjusted, stock.on_hand + stock.reserved + stock.taken
        if come != gone:
            yield f"{code}: {come} have come, and {gone} are there or taken"


def negative_stock(rows: Rows) -> Iterator[str]:
    for code, stock in rows["inventory"].items():
        if min(stock.on_hand, stock.reserved, stock.taken) < 0:
            yield f"{code}: {stock.on_hand} on hand, {stock.reserved} reserved, {stock.taken} taken"


def unbalanced_money(rows: Rows) -> Iterator[str]:
    sold: Counter[str] = Counter()
    for document in rows["orders"].values():
        if document.status == "confirmed":
            sold[document.customer] += document.total
        elif document.kind == "return":
            sold[document.customer] -= document.total
    paid = {customer: account.charged - account.refunded for customer, account in rows["payments"].items()}
    for customer in sorted(sold.keys() | paid.keys()):
        if paid.get(customer, 0) != sold[customer]:
            yield f"{customer}: paid {paid.get(customer, 0)}, for goods of {sold[customer]}"


def unsettled_orders(rows: Rows) -> Iterator[str]:
    for number, document in rows["orders"].items():
        if document.kind == "order" and document.status not in ("confirmed", "refused"):
            yield f"{number}: {document.status}"


def left_held(rows: Rows) -> Iterator[str]:
    for code, stock in rows["inventory"].items():
        if stock.reserved:
            yield f"{code}: {stock.reserved} reserved"
    for customer, account in rows["payments"].items():
        if account.authorised:
            yield f"{customer}: {account.authorised} authorised"


invariants = [
    Invariant("stock that came is there or taken", ["inventory"], unbalanced_stock),
    Invariant("stock is never negative", ["inventory"], negative_stock),
    Invariant("customers pay for confirmed orders, less returns", ["orders", "payments"], unbalanced_money),
    Invariant("every order is confirmed or refused", ["orders"], unsettled_orders),
    Invariant("nothing stays reserved or authorised", ["inventory", "payments"], left_held),
]
