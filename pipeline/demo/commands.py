"""What the shop's documents ask of its services, as commands. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import NamedTuple

from pipeline.demo.invoices import Document, Invoices
from topologies import inventory, orders, users


class Asked(NamedTuple):
    """A command and its address."""

    aggregate: str
    key: str
    command: object


def stocking(invoices: Invoices) -> Iterator[Asked]:
    """Registers each product and gives it the units that the whole file will take of it. To be stored first."""
    needed: Counter[str] = Counter()
    for document in invoices.documents.values():
        if not document.is_return:
            for (code, _), quantity in document.lines.items():
                needed[code] += quantity
        for adjustment in document.adjustments:
            needed[adjustment.code] += max(0, -adjustment.quantity)
    for code, description in invoices.products.items():
        yield Asked("inventory", code, inventory.RegisterProduct(description))
        if needed[code]:
            yield Asked("inventory", code, inventory.ReceiveStock(needed[code]))


def trading(invoices: Invoices) -> Iterator[Asked]:
    """Customers, orders, returns and stock adjustments, document by document."""
    countries: dict[str, str] = {}
    for document in invoices.documents.values():
        for adjustment in document.adjustments:
            yield Asked("inventory", adjustment.code, inventory.AdjustStock(adjustment.quantity, adjustment.reason))
        if document.lines:
            yield from _customer(document, countries)
            lines = tuple(orders.Line(code, quantity, price) for (code, price), quantity in document.lines.items())
            kind = orders.ReturnGoods if document.is_return else orders.PlaceOrder
            yield Asked("orders", document.number, kind(document.customer, document.country, document.at, lines))


def _customer(document: Document, countries: dict[str, str]) -> Iterator[Asked]:
    """Registers a customer with their first order or return, and moves them when a later one differs."""
    known = countries.get(document.customer)
    countries[document.customer] = document.country
    if known is None:
        name = document.customer if document.customer.startswith("guest-") else f"Customer {document.customer}"
        yield Asked("users", document.customer, users.RegisterUser(name, document.country))
    elif known != document.country:
        yield Asked("users", document.customer, users.ChangeCountry(document.country))
