"""How the shop's checkouts ended: what was refused, what is still under way, and whether the sums are right."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Set
from typing import Any, NamedTuple

from pipeline.adapters.json.reading import read_back
from pipeline.client.queries import QueryClient
from pipeline.demo.figures import Refused
from pipeline.demo.invoices import Adjustment, Invoices
from pipeline.model.saga.saga import IN_FLIGHT
from pipeline.topology import Topology

SCARCE = {"out_of_stock": "stock", "over_limit": "credit"}  # why orders may be refused, and what must be scarce for it
HOLDERS = ("orders", "inventory", "payments")  # the tables whose rows have a ledger
Row = dict[str, Any]


class Shown(NamedTuple):
    """The rows of the shop's tables that checkouts change."""

    orders: dict[str, Row]
    inventory: dict[str, Row]
    payments: dict[str, Row]
    sagas: Counter[str]  # by status, of both sagas together

    @property
    def in_flight(self) -> int:
        """The number of orders, sagas and transactions that have not ended, and of amounts held for them."""
        placed = sum(1 for row in self.orders.values() if row["status"] == "placed")
        tables = self.orders, self.inventory, self.payments
        held = sum(len(row["ledger"]["holds"]) for table in tables for row in table.values())
        return placed + held + sum(self.sagas[status] for status in IN_FLIGHT)

    @property
    def refused_by_reason(self) -> dict[str, int]:
        """The number of refused orders by reason, the commonest first."""
        reasons = Counter(row["reason"] for row in self.orders.values() if row["status"] == "refused")
        return dict(reasons.most_common())


def read(client: QueryClient, topology: Topology) -> Shown:
    """Read the present rows. Raises TableUnavailable."""
    orders, inventory, payments = ({row["key"]: row["row"] for row in client.scan(name)} for name in HOLDERS)
    sagas = Counter(
        saga.summary(read_back(type(saga.initial), row["row"], saga.name)).status
        for saga in topology.sagas.values()
        for row in client.scan(saga.name)
    )
    return Shown(orders, inventory, payments, sagas)


def shortest(shown: Shown) -> str | None:
    """Return the number of a confirmed order with the fewest lines; None if none was confirmed."""
    found = [(len(row["lines"]), number) for number, row in shown.orders.items() if row["status"] == "confirmed"]
    return min(found)[1] if found else None


def refused(client: QueryClient, shown: Shown, invoices: Invoices, scarce: Set[str]) -> Refused:
    """Return what the shop has refused of these invoices because stock or credit is scarce; see Way.

    The events of the products tell which losses of stock are among it.
    """
    numbers = {
        n for n, row in shown.orders.items() if row["status"] == "refused" and SCARCE.get(row["reason"]) in scarce
    }
    if "stock" not in scarce:
        return Refused(numbers)
    in_file: dict[str, Counter[Adjustment]] = {code: Counter() for code in invoices.products}
    for document in invoices.documents.values():
        for adjustment in document.adjustments:
            in_file[adjustment.code][adjustment] += 1
    losses: Counter[Adjustment] = Counter()
    for code, adjustments in in_file.items():
        if code in shown.inventory and shown.inventory[code]["adjustments"] < adjustments.total():
            left = adjustments - Counter(_adjusted(client, code))
            losses.update({each: n for each, n in left.items() if each.quantity < 0})
    return Refused(numbers, losses)


def _adjusted(client: QueryClient, code: str) -> Iterator[Adjustment]:
    for event in (each["event"] for each in client.history("inventory", code)):
        if event["type"] == "StockAdjusted":
            yield Adjustment(code, event["quantity"], event["reason"])


def broken(shown: Shown, scarce: Set[str]) -> list[str]:
    """Return a line for each condition of the shop at rest that does not hold."""
    found = [f"in_flight: {shown.in_flight}, expected 0"] if shown.in_flight else []
    for reason, count in shown.refused_by_reason.items():
        if SCARCE.get(reason) not in scarce:
            found.append(f"refused_by_reason[{reason}]: {count}, expected none")
    for code, row in shown.inventory.items():
        came, is_there = row["received"] + row["put_back"] + row["adjusted"], row["on_hand"] + row["reserved"]
        if came != is_there + row["taken"] or min(row["on_hand"], row["reserved"], row["taken"]) < 0:
            found.append(f"inventory[{code}]: the sums are not right, {row}")
    due: Counter[str] = Counter()
    for row in shown.orders.values():
        due[row["customer"]] += row["total"] * ((row["status"] == "confirmed") - (row["kind"] == "return"))
    for customer in due.keys() | shown.payments.keys():
        account = shown.payments.get(customer, {"charged": 0, "refunded": 0, "authorised": 0})
        if account["charged"] - account["refunded"] != due[customer]:
            found.append(f"payments[{customer}]: {account}, expected {due[customer]} charged in all")
    return found
