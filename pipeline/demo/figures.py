"""The figures of the shop, computed twice: read from the tables, and summed straight from the file."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Set
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any

from pipeline.client.queries import QueryClient
from pipeline.demo.commands import received
from pipeline.demo.invoices import Adjustment, Invoices

Figures = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Refused:
    """What the shop has refused of a file. If stock or credit is scarce, that depends on the order of commands.

    `orders`: their numbers. `losses`: how many adjustments of each kind; their reasons are the file's own.
    """

    orders: Set[str] = frozenset()
    losses: Counter[Adjustment] = field(default_factory=Counter)


def from_file(invoices: Invoices, refused: Refused | None = None, stock_ratio: Fraction = Fraction(1)) -> Figures:
    """Return what the tables must show, summed up from the documents, without commands, events or folds.

    `refused`: orders that do not count, and losses of stock for which there was no stock.
    """
    refused = refused or Refused()
    losses = refused.losses.copy()
    revenue: dict[str, dict[str, int]] = defaultdict(lambda: defaultdict(int))
    refunds: dict[str, dict[str, int]] = defaultdict(lambda: defaultdict(int))
    units: dict[str, int] = defaultdict(int)
    stock = received(invoices, stock_ratio)
    customers: dict[str, dict[str, int]] = {}
    countries: dict[str, str] = {}
    placed = confirmed = returns = adjustments = 0
    for document in invoices.documents.values():
        for adjustment in document.adjustments:
            if losses[adjustment] > 0:
                losses[adjustment] -= 1
                continue
            adjustments += 1
            stock[adjustment.code] += adjustment.quantity
        if not document.lines:
            continue
        customer = customers.setdefault(document.customer, {"orders": 0, "spent": 0, "refunded": 0})
        countries[document.customer] = document.country
        if document.is_return:
            returns += 1
            refunds[document.country][document.day] += document.total
            customer["refunded"] += document.total
            for (code, _), quantity in document.lines.items():
                stock[code] += quantity
            continue
        placed += 1
        if document.number in refused.orders:
            continue
        confirmed += 1
        revenue[document.country][document.day] += document.total
        customer["orders"] += 1
        customer["spent"] += document.total
        for (code, _), quantity in document.lines.items():
            units[code] += quantity
            stock[code] -= quantity
    accounts = {
        name: {"charged": row["spent"], "refunded": row["refunded"]}
        for name, row in customers.items()
        if row["spent"] or row["refunded"]
    }
    return {
        "orders": {"placed": placed, "confirmed": confirmed, "refused": placed - confirmed},
        "returns": returns,
        "adjustments": adjustments,
        "revenue": {country: dict(days) for country, days in revenue.items()},
        "refunds": {country: dict(days) for country, days in refunds.items()},
        "units_sold": dict(units),
        "stock": stock,
        "customers": customers,
        "customer_countries": countries,
        "accounts": accounts,
    }


def from_tables(client: QueryClient) -> Figures:
    """Read the figures from the workers' tables, and the number of events behind them."""
    stock = {row["key"]: row for row in client.scan("inventory")}
    documents = list(client.scan("orders"))
    people = list(client.scan("users"))
    accounts = {row["key"]: row for row in client.scan("payments")}
    kinds = Counter(row["row"]["kind"] for row in documents)
    ends = Counter(row["row"]["status"] for row in documents)
    return {
        "orders": {"placed": kinds["order"], "confirmed": ends["confirmed"], "refused": ends["refused"]},
        "returns": kinds["return"],
        "adjustments": sum(row["row"]["adjustments"] for row in stock.values()),
        "revenue": _by_country_and_day(client, "revenue"),
        "refunds": _by_country_and_day(client, "refunds"),
        "units_sold": {row["key"]: row["row"]["quantity"] for row in client.scan("units_sold")},
        "stock": {code: row["row"]["on_hand"] for code, row in stock.items() if row["row"]["registered"]},
        "customers": {
            row["key"]: {name: row["row"][name] for name in ("orders", "spent", "refunded")}
            for row in client.scan("customers")
            if row["row"]["registered"]
        },
        "customer_countries": {row["key"]: row["row"]["country"] for row in client.scan("customer_countries")},
        "accounts": {
            customer: {"charged": row["row"]["charged"], "refunded": row["row"]["refunded"]}
            for customer, row in accounts.items()
            if row["row"]["charged"] or row["row"]["refunded"]
        },
        "events": sum(row["version"] for row in [*stock.values(), *documents, *people, *accounts.values()]),
    }


def _by_country_and_day(client: QueryClient, table: str) -> dict[str, dict[str, int]]:
    sums: dict[str, dict[str, int]] = defaultdict(dict)
    for row in client.scan(table):
        country, _, day = row["key"].rpartition("/")
        sums[country][day] = row["row"]["thousandths"]
    return dict(sums)


def differences(tables: Figures, file: Figures) -> list[str]:
    """List each figure of `file` that differs in the tables, as `where: shown, expected`."""
    found: list[str] = []
    for name, expected in file.items():
        _compare(name, tables.get(name), expected, found)
    return found


def _compare(where: str, shown: Any, expected: Any, found: list[str]) -> None:
    if isinstance(shown, dict) and isinstance(expected, dict):
        for key in sorted(shown.keys() | expected.keys()):
            _compare(f"{where}[{key}]", shown.get(key), expected.get(key), found)
    elif shown != expected:
        found.append(f"{where}: {shown}, expected {expected}")
