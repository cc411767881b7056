"""Reads a file of invoice lines into sales documents. Every line is used, or listed as bad with number and reason.

The format is that of Online Retail II: a header and eight columns, plain or gzip. Pure except for reading the file.
"""

from __future__ import annotations

import csv
import gzip
import io
import re
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Context, Decimal
from pathlib import Path
from typing import NamedTuple, TextIO

from pipeline.errors import InputFileError

COLUMNS = ["Invoice", "StockCode", "Description", "Quantity", "InvoiceDate", "Price", "Customer ID", "Country"]
WHOLE = re.compile(r"[+-]?[0-9]+")
DECIMAL = re.compile(r"[+-]?([0-9]+(\.[0-9]*)?|\.[0-9]+)([eE][+-]?[0-9]{1,2})?")
EXACT = Context(prec=300)  # more digits than a price text of bounded length can have
AMOUNT_MAX = 2**31 - 1  # of a quantity and of a price: sums of their products fit the schema's 64 bits


class BadLine(NamedTuple):
    """A line that was not used. `line`: its number in the file; the header is line 1."""

    line: int
    reason: str


class Adjustment(NamedTuple):
    """Stock found (quantity > 0) or lost (< 0)."""

    code: str
    quantity: int
    reason: str


@dataclass(slots=True)
class Document:
    """One invoice: an order or a return, and the stock adjustments noted on it."""

    number: str
    is_return: bool
    at: str  # ISO 8601
    customer: str
    country: str
    lines: dict[tuple[str, int], int] = field(default_factory=dict)  # (code, price in thousandths) -> quantity > 0
    adjustments: list[Adjustment] = field(default_factory=list)

    @property
    def day(self) -> str:
        """The date as YYYY-MM-DD."""
        return self.at[:10]

    @property
    def total(self) -> int:
        """The total in thousandths of a pound."""
        return sum(price * quantity for (_, price), quantity in self.lines.items())


@dataclass(slots=True)
class Invoices:
    """The contents of a file. `products`: stock code -> description, in the order of first valid lines."""

    documents: dict[str, Document] = field(default_factory=dict)
    products: dict[str, str] = field(default_factory=dict)
    bad: list[BadLine] = field(default_factory=list)
    rows: int = 0


class _Bad(Exception):
    """A line that cannot be used; the text is the reason."""


def read_invoices(path: Path) -> Invoices:
    """Read the file; bad lines are listed.

    Raises InputFileError if the file is missing, is not an invoice file, or has no line to use.
    """
    invoices = Invoices()
    try:
        with _open(path) as file:
            for line, row in _rows(path, file):
                invoices.rows += 1
                try:
                    _take(invoices, row)
                except _Bad as bad:
                    invoices.bad.append(BadLine(line, str(bad)))
    except (OSError, EOFError, zlib.error) as error:
        reason = getattr(error, "strerror", None) or error
        raise InputFileError(f"cannot read {path}: {reason}; give an invoice file with --input") from None
    if not invoices.products:  # each line that was used names one
        raise InputFileError(f"{path} has no line to use: {_why_none(invoices)}; give an invoice file with --input")
    return invoices


def _why_none(invoices: Invoices) -> str:
    if not invoices.bad:
        return "nothing follows its header"
    first = invoices.bad[0]
    return f"line {first.line}: {first.reason}" + (f", and {more:,} more" if (more := len(invoices.bad) - 1) else "")


def _open(path: Path) -> TextIO:
    raw = path.open("rb")
    is_gzip = raw.peek(2)[:2] == b"\x1f\x8b"
    # Bytes that are not UTF-8 become surrogates, so that only their line is bad.
    return io.TextIOWrapper(
        gzip.GzipFile(fileobj=raw) if is_gzip else raw, encoding="utf-8-sig", errors="surrogateescape", newline=""
    )


def _rows(path: Path, file: TextIO) -> Iterator[tuple[int, list[str] | str]]:
    """Yield each row with the number of its first line; instead of a bad row, what is wrong with it."""
    reader = csv.reader(file)
    try:
        header = next(reader, [])
    except csv.Error:  # for example, of an unterminated field
        header = []
    if [name.strip() for name in header] != COLUMNS:
        raise InputFileError(
            f"{path} does not begin with the columns {', '.join(COLUMNS)}; give an invoice file with --input"
        )
    while True:
        line = reader.line_num + 1
        try:
            yield line, next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            yield line, f"not CSV: {error}"


def _take(invoices: Invoices, row: list[str] | str) -> None:
    """Add a row to its document. Raises _Bad."""
    if isinstance(row, str):
        raise _Bad(row)
    if len(row) != len(COLUMNS):
        raise _Bad(f"{len(row)} columns instead of {len(COLUMNS)}")
    if any("\ud800" <= character <= "\udfff" for value in row for character in value):
        raise _Bad("not UTF-8")
    invoice, code, description, quantity_text, date, price_text, customer, country = (value.strip() for value in row)
    code = code.upper()
    is_return = invoice.startswith("C")
    number = invoice[1:] if is_return else invoice
    if not (number.isascii() and number.isdigit()):
        raise _Bad(f"invoice number {invoice[:20]!r} is neither digits nor C and digits")
    at = _time(date)
    if not country:
        raise _Bad("no country")
    # The first line of an invoice gives its time, customer and country, even if the line's goods are bad.
    document = invoices.documents.setdefault(
        invoice, Document(invoice, is_return, at, customer or f"guest-{country}", country)
    )
    if not code:
        raise _Bad("no stock code")
    quantity, price = _quantity(quantity_text), _thousandths(price_text)
    if quantity == 0:
        raise _Bad("quantity is 0")
    if is_return:
        if price == 0:
            raise _Bad("price is 0 in a return")
        if quantity > 0:
            raise _Bad("quantity is more than 0 in a return")
        _add_line(document, code, price, -quantity)
    elif price == 0:
        document.adjustments.append(Adjustment(code, quantity, description))
    elif quantity < 0:
        raise _Bad("quantity is less than 0 in an order")
    else:
        _add_line(document, code, price, quantity)
    invoices.products.setdefault(code, description)


def _add_line(document: Document, code: str, price: int, quantity: int) -> None:
    """Add a line; lines with the same code and price become one."""
    document.lines[code, price] = document.lines.get((code, price), 0) + quantity


def _time(text: str) -> str:
    try:
        return datetime.strptime(text, "%Y-%m-%d %H:%M:%S").isoformat()
    except ValueError:
        raise _Bad(f"date {text[:20]!r} is not YYYY-MM-DD HH:MM:SS") from None


def _quantity(text: str) -> int:
    if not WHOLE.fullmatch(text):
        raise _Bad(f"quantity {text[:20]!r} is not a whole number")
    quantity = int(text) if len(text) < 20 else AMOUNT_MAX + 1
    if abs(quantity) > AMOUNT_MAX:
        raise _Bad(f"quantity {text[:20]} is out of range")
    return quantity


def _thousandths(text: str) -> int:
    if len(text) > 100 or not DECIMAL.fullmatch(text):
        raise _Bad(f"price {text[:20]!r} is not a number")
    thousandths = EXACT.multiply(Decimal(text), Decimal(1000))
    if thousandths < 0:
        raise _Bad("price is less than 0")
    if thousandths > AMOUNT_MAX:
        raise _Bad(f"price {text[:20]} is out of range")
    if thousandths != int(thousandths):
        raise _Bad(f"price {text} has more than three decimals")
    return int(thousandths)
