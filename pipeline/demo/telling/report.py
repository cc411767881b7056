"""What `pipeline demo` prints: lines, and tables at the end.

Text from an invoice file, or its name, is printed as text: no markup, no emoji, no terminal control characters.
"""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

ROWS = 5


def pounds(thousandths: int) -> str:
    """Format thousandths of a pound: 1234500 -> £1,234.50."""
    return f"£{thousandths / 1000:,.2f}"


def plain(text: str, style: str = "") -> Text:
    """Return text without markup for any console; each character that cannot be printed becomes a mark."""
    shown = (c if c.isprintable() else " " if c.isspace() else "\N{REPLACEMENT CHARACTER}" for c in text)
    return Text("".join(shown), style)


def say(console: Console, text: str, style: str = "") -> None:
    """Print a line of plain text without wrapping it."""
    console.print(plain(text, style), soft_wrap=True)


def shown_path(path: Path) -> str:
    """Return a path relative to the current directory, if it is inside."""
    return str(path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path)


def show(console: Console, result: dict[str, Any]) -> None:
    """Print all tables."""
    console.print()
    _countries(console, result)
    _products(console, result)
    _customers(console, result)
    _bad_lines(console, result)


def new_table(title: str, *columns: str) -> Table:
    """Return a table without rows; all columns but the first are of numbers."""
    table = Table(title=plain(title, "bold"), title_justify="left")
    for n, column in enumerate(columns):
        table.add_column(column, justify="left" if n == 0 else "right")
    return table


def _countries(console: Console, result: dict[str, Any]) -> None:
    table = new_table(
        "Revenue by country: reports folds what orders publishes", "country", "revenue", "refunds", "net", "days"
    )
    revenue = {country: sum(days.values()) for country, days in result["revenue"].items()}
    refunds = {country: sum(days.values()) for country, days in result["refunds"].items()}
    for country in sorted(revenue, key=lambda c: -revenue[c])[:ROWS]:
        back = refunds.get(country, 0)
        days = len(result["revenue"][country])
        table.add_row(
            plain(country), pounds(revenue[country]), pounds(back), pounds(revenue[country] - back), str(days)
        )
    table.add_section()
    total, back = sum(revenue.values()), sum(refunds.values())
    table.add_row(f"all {len(revenue)}", pounds(total), pounds(back), pounds(total - back), "", style="bold")
    console.print(table)


def _products(console: Console, result: dict[str, Any]) -> None:
    table = new_table(
        "Units sold: reports has the sales, inventory the stock", "stock code", "units sold", "left in stock"
    )
    units = result["units_sold"]
    for code in sorted(units, key=lambda c: (-units[c], c))[:ROWS]:
        table.add_row(plain(code), f"{units[code]:,}", f"{result['stock'][code]:,}")
    console.print(table)


def _customers(console: Console, result: dict[str, Any]) -> None:
    table = new_table(
        "Customers: orders has its own copy of what users publishes",
        "customer",
        "country",
        "orders",
        "spent",
        "refunded",
    )
    customers = result["customers"]
    named = [customer for customer in customers if not customer.startswith("guest-")]
    for customer in sorted(named, key=lambda c: -customers[c]["spent"])[:ROWS]:
        row = customers[customer]
        country = result["customer_countries"].get(customer, "")
        sums = pounds(row["spent"]), pounds(row["refunded"])
        table.add_row(plain(customer), plain(country), str(row["orders"]), *sums)
    console.print(table)


def _bad_lines(console: Console, result: dict[str, Any]) -> None:
    bad = result["bad_rows"]
    if not bad:
        return
    table = new_table("Bad lines (not used; all of them are in --json)", "reason", "lines", "first at line")
    reasons = Counter(row["reason"] for row in bad)
    first = {row["reason"]: row["line"] for row in reversed(bad)}
    for reason, count in reasons.most_common(ROWS):
        table.add_row(plain(reason), f"{count:,}", str(first[reason]))
    if len(reasons) > ROWS:
        rest = len(bad) - sum(count for _, count in reasons.most_common(ROWS))
        table.add_row(f"{len(reasons) - ROWS} more reasons", f"{rest:,}", "")
    console.print(table)


def checkouts_line(result: dict[str, Any], way: str) -> str:
    """Return the line with the outcomes of all orders, and their rate."""
    orders, reasons = result["orders"], result["refused_by_reason"]
    why = f" ({', '.join(f'{count:,} {reason}' for reason, count in reasons.items())})" if reasons else ""
    return (
        f"{orders['confirmed'] + orders['refused']:,} checkouts settled by {way}: {orders['confirmed']:,} confirmed, "
        f"{orders['refused']:,} refused{why}, {result['compensated']:,} compensated; "
        f"{orders['placed'] / result['seconds']:,.0f} orders/s"
    )
