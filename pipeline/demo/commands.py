"""The commands that the shop's documents stand for. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from fractions import Fraction
from math import floor
from typing import NamedTuple

from pipeline.demo.invoices import Document, Invoices
from pipeline.demo.shop import inventory, orders, payments, users


class Asked(NamedTuple):
    """A command and its address."""

    aggregate: str
    key: str
    command: object


class Way(NamedTuple):
    """How the shop does its business.

    `checkout`: of each order, saga or 2pc. `stock_ratio`: the part of its sales in the file that each product has in
    stock, rounded down. `credit_limit`: of each customer's account, in thousandths of a pound; None: none.
    """

    checkout: str = "saga"
    stock_ratio: Fraction = Fraction(1)
    credit_limit: int | None = None

    @property
    def scarce(self) -> frozenset[str]:
        """What is scarce, so that orders may be refused: stock, credit."""
        is_scarce = {"stock": self.stock_ratio < 1, "credit": self.credit_limit is not None}
        return frozenset(name for name, scarce in is_scarce.items() if scarce)


AMPLE = Way()


def received(invoices: Invoices, ratio: Fraction = AMPLE.stock_ratio) -> dict[str, int]:
    """Return the units that each product receives: this part of what the orders and losses of the whole file take."""
    needed: Counter[str] = Counter()
    for document in invoices.documents.values():
        if not document.is_return:
            for (code, _), quantity in document.lines.items():
                needed[code] += quantity
        for adjustment in document.adjustments:
            needed[adjustment.code] += max(0, -adjustment.quantity)
    return {code: floor(needed[code] * ratio) for code in invoices.products}


def stocking(invoices: Invoices, way: Way = AMPLE) -> Iterator[Asked]:
    """Yield the commands to store first: each product's registration and stock, each customer's credit limit."""
    units = received(invoices, way.stock_ratio)
    for code, description in invoices.products.items():
        yield Asked("inventory", code, inventory.RegisterProduct(description))
        if units[code]:
            yield Asked("inventory", code, inventory.ReceiveStock(units[code]))
    if way.credit_limit is not None:
        for customer in dict.fromkeys(d.customer for d in invoices.documents.values() if d.lines):
            yield Asked("payments", customer, payments.SetLimit(way.credit_limit))


def trading(invoices: Invoices, way: Way = AMPLE) -> Iterator[Asked]:
    """Yield the commands of customers, orders, returns and stock adjustments, document by document."""
    countries: dict[str, str] = {}
    for document in invoices.documents.values():
        for adjustment in document.adjustments:
            yield Asked("inventory", adjustment.code, inventory.AdjustStock(adjustment.quantity, adjustment.reason))
        if document.lines:
            yield from _customer(document, countries)
            lines = tuple(orders.Line(code, quantity, price) for (code, price), quantity in document.lines.items())
            head = document.customer, document.country, document.at, lines
            trade = orders.ReturnGoods(*head) if document.is_return else orders.PlaceOrder(*head, way.checkout)
            yield Asked("orders", document.number, trade)


def _customer(document: Document, countries: dict[str, str]) -> Iterator[Asked]:
    """Register a customer with the first order or return, and change their country if a later one differs."""
    known = countries.get(document.customer)
    countries[document.customer] = document.country
    if known is None:
        name = document.customer if document.customer.startswith("guest-") else f"Customer {document.customer}"
        yield Asked("users", document.customer, users.RegisterUser(name, document.country))
    elif known != document.country:
        yield Asked("users", document.customer, users.ChangeCountry(document.country))
