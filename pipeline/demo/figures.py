"""The figures of the shop, got twice: from the tables over the query path, and straight from the file."""

from __future__ import annotations

from collections import defaultdict
from typing import Any

from pipeline.demo.invoices import Invoices
from pipeline.query.client import QueryClient

Figures = dict[str, Any]


def from_file(invoices: Invoices) -> Figures:
    """What the tables must show, recomputed from the documents with plain sums; no command, event or fold involved."""
    revenue: dict[str, dict[str, int]] = defaultdict(lambda: defaultdict(int))
    refunds: dict[str, dict[str, int]] = defaultdict(lambda: defaultdict(int))
    units: dict[str, int] = defaultdict(int)
    back: dict[str, int] = defaultdict(int)
    found: dict[str, int] = defaultdict(int)
    customers: dict[str, dict[str, int]] = {}
    countries: dict[str, str] = {}
    placed = returns = adjustments = 0
    for document in invoices.documents.values():
        for adjustment in document.adjustments:
            adjustments += 1
            found[adjustment.code] += max(0, adjustment.quantity)
        if not document.lines:
            continue
        customer = customers.setdefault(document.customer, {"orders": 0, "spent": 0, "refunded": 0})
        countries[document.customer] = document.country
        if document.is_return:
            returns += 1
            refunds[document.country][document.day] += document.total
            customer["refunded"] += document.total
        else:
            placed += 1
            revenue[document.country][document.day] += document.total
            customer["orders"] += 1
            customer["spent"] += document.total
        for (code, _), quantity in document.lines.items():
            (back if document.is_return else units)[code] += quantity
    # What was received is just what orders and losses take, so what is left is what came back and what was found.
    stock = {code: back[code] + found[code] for code in invoices.products}
    return {
        "orders": {"placed": placed},
        "returns": returns,
        "adjustments": adjustments,
        "revenue": {country: dict(days) for country, days in revenue.items()},
        "refunds": {country: dict(days) for country, days in refunds.items()},
        "units_sold": dict(units),
        "stock": stock,
        "customers": customers,
        "customer_countries": countries,
    }


def from_tables(client: QueryClient) -> Figures:
    """The same figures, read from the workers' tables, and the number of events that these have had."""
    stock = {row["key"]: row for row in client.scan("inventory")}
    documents = list(client.scan("orders"))
    people = list(client.scan("users"))
    accounts = list(client.scan("payments"))
    kinds = [row["row"]["kind"] for row in documents]
    return {
        "orders": {"placed": kinds.count("order")},
        "returns": kinds.count("return"),
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
        "events": sum(row["version"] for row in [*stock.values(), *documents, *people, *accounts]),
    }


def _by_country_and_day(client: QueryClient, table: str) -> dict[str, dict[str, int]]:
    sums: dict[str, dict[str, int]] = defaultdict(dict)
    for row in client.scan(table):
        country, _, day = row["key"].rpartition("/")
        sums[country][day] = row["row"]["thousandths"]
    return dict(sums)


def differences(tables: Figures, file: Figures) -> list[str]:
    """Each figure of `file` that the tables show otherwise, as `where: shown, expected`."""
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
