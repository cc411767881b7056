"""From invoice lines to documents and commands, rule by rule."""

import gzip
from pathlib import Path

import pytest

from pipeline.demo import figures
from pipeline.demo.commands import stocking, trading
from pipeline.demo.invoices import COLUMNS, Invoices, read_invoices
from pipeline.errors import InputFileError
from topologies import inventory as inv
from topologies import orders as o
from topologies import users as u

HEAD = ",".join(COLUMNS)
GOOD = "489434,85048,LIGHTS,12,2009-12-01 07:45:00,6.95,13085,United Kingdom"


def read(tmp_path: Path, *lines: str) -> Invoices:
    path = tmp_path / "invoices.csv"
    path.write_text("\n".join([HEAD, *lines]) + "\n", encoding="utf-8")
    return read_invoices(path)


def line(**changes: str) -> str:
    names = ("invoice", "code", "text", "quantity", "date", "price", "customer", "country")
    return ",".join({**dict(zip(names, GOOD.split(","), strict=True)), **changes}.values())


def test_an_order_line(tmp_path: Path) -> None:
    document = read(tmp_path, GOOD).documents["489434"]
    assert (document.at, document.customer, document.country) == ("2009-12-01T07:45:00", "13085", "United Kingdom")
    assert document.lines == {("85048", 6950): 12}
    assert document.total == 83400


def test_blanks_are_stripped_and_codes_upper_cased(tmp_path: Path) -> None:
    invoices = read(tmp_path, line(code=" 79323w ", quantity=" 12 ", price=" 1.5 ", country=" Eire "))
    assert invoices.documents["489434"].lines == {("79323W", 1500): 12}
    assert invoices.documents["489434"].country == "Eire"


def test_a_guest_is_named_by_country(tmp_path: Path) -> None:
    assert read(tmp_path, line(customer="", country="France")).documents["489434"].customer == "guest-France"


def test_lines_of_one_invoice_form_one_document_wherever_they_stand(tmp_path: Path) -> None:
    invoices = read(
        tmp_path,
        line(date="2009-12-01 23:59:59", customer="1", country="France"),
        line(invoice="2"),
        line(code="X", date="2009-12-02 00:00:01", customer="2", country="Spain"),
        line(quantity="3"),
        line(quantity="1", price="7"),
    )
    document = invoices.documents["489434"]
    assert (document.day, document.customer, document.country) == ("2009-12-01", "1", "France")
    assert document.lines == {("85048", 6950): 15, ("X", 6950): 12, ("85048", 7000): 1}


def test_the_first_line_heads_the_document_even_where_its_goods_are_bad(tmp_path: Path) -> None:
    invoices = read(tmp_path, line(quantity="0", customer="1", country="France"), line(customer="2", country="Spain"))
    assert (invoices.documents["489434"].customer, invoices.documents["489434"].country) == ("1", "France")


def test_a_line_without_price_adjusts_the_stock(tmp_path: Path) -> None:
    invoices = read(
        tmp_path, line(price="0", quantity="-5", text="broken"), line(price="0.00", quantity="3", text="found")
    )
    assert invoices.documents["489434"].adjustments == [("85048", -5, "broken"), ("85048", 3, "found")]
    assert [(a.aggregate, a.command) for a in trading(invoices)] == [
        ("inventory", inv.AdjustStock(-5, "broken")),
        ("inventory", inv.AdjustStock(3, "found")),
    ]  # no order line: no order, and nobody is registered


def test_a_return(tmp_path: Path) -> None:
    invoices = read(tmp_path, line(invoice="C489449", quantity="-12"))
    assert [a.command for a in trading(invoices)] == [
        u.RegisterUser("Customer 13085", "United Kingdom"),
        o.ReturnGoods("13085", "United Kingdom", "2009-12-01T07:45:00", (o.Line("85048", 12, 6950),)),
    ]


def test_a_product_receives_first_what_the_file_takes_of_it(tmp_path: Path) -> None:
    invoices = read(
        tmp_path,
        line(quantity="5"),
        line(invoice="2", quantity="7"),
        line(invoice="3", price="0", quantity="-4"),
        line(invoice="3", price="0", quantity="100"),
        line(invoice="C4", quantity="-2"),
        line(invoice="C4", code="only-returned", quantity="-1"),
    )
    assert [(a.key, a.command) for a in stocking(invoices)] == [
        ("85048", inv.RegisterProduct("LIGHTS")),
        ("85048", inv.ReceiveStock(16)),
        ("ONLY-RETURNED", inv.RegisterProduct("LIGHTS")),
    ]


def test_a_customer_moves_when_a_later_document_differs(tmp_path: Path) -> None:
    invoices = read(tmp_path, GOOD, line(invoice="2", country="France"), line(invoice="3", country="France"))
    assert [a.command for a in trading(invoices) if a.aggregate == "users"] == [
        u.RegisterUser("Customer 13085", "United Kingdom"),
        u.ChangeCountry("France"),
    ]


@pytest.mark.parametrize(
    ("bad", "reason"),
    [
        (line(invoice="A506401"), "neither digits nor C and digits"),
        (line(invoice=""), "neither digits"),
        (line(invoice="C"), "neither digits"),
        (line(invoice="٣٤"), "neither digits"),
        (line(price="-1"), "price is less than 0"),
        (line(invoice="C1", quantity="1"), "quantity is more than 0 in a return"),
        (line(invoice="C1", quantity="-1", price="0"), "price is 0 in a return"),
        (line(quantity="-1"), "quantity is less than 0 in an order"),
        (line(quantity="0"), "quantity is 0"),
        (line(quantity="0", price="0"), "quantity is 0"),
        (line(quantity="1.5"), "not a whole number"),
        (line(quantity="1_000"), "not a whole number"),
        (line(quantity="many"), "not a whole number"),
        (line(quantity="9" * 30), "out of range"),
        (line(price="abc"), "price 'abc' is not a number"),
        (line(price="nan"), "is not a number"),
        (line(price=""), "is not a number"),
        (line(price="1.2345"), "more than three decimals"),
        (line(price="1." + "0" * 60 + "1"), "more than three decimals"),
        (line(price="99999999999"), "out of range"),
        (line(date="01/12/2009"), "is not YYYY-MM-DD HH:MM:SS"),
        (line(date="2009-02-30 10:00:00"), "is not YYYY-MM-DD HH:MM:SS"),
        (line(code=""), "no stock code"),
        (line(country=""), "no country"),
        (GOOD + ",more", "9 columns instead of 8"),
        ("489434,85048", "2 columns instead of 8"),
        ("", "0 columns instead of 8"),
    ],
)
def test_a_bad_line_is_listed_with_its_number_and_the_run_goes_on(tmp_path: Path, bad: str, reason: str) -> None:
    invoices = read(tmp_path, line(invoice="1"), bad, line(invoice="9"))
    assert [number for number, _ in invoices.bad] == [3]
    assert reason in invoices.bad[0].reason
    assert {"1", "9"} <= invoices.documents.keys()
    assert sum(len(document.lines) for document in invoices.documents.values()) == 2


def test_a_quoted_line_break_does_not_shift_the_numbers(tmp_path: Path) -> None:
    invoices = read(tmp_path, line(text='"two\nlines"'), line(quantity="0"))
    assert [number for number, _ in invoices.bad] == [4]


def test_bytes_that_are_not_utf8_spoil_only_their_line(tmp_path: Path) -> None:
    path = tmp_path / "x.csv"
    path.write_bytes(f"{HEAD}\n{GOOD}\n".encode() + line(text="\xa3", invoice="2").encode("latin-1") + b"\n")
    invoices = read_invoices(path)
    assert invoices.bad == [(3, "not UTF-8")]
    assert list(invoices.documents) == ["489434"]


def test_gzip_and_a_byte_order_mark_are_read(tmp_path: Path) -> None:
    path = tmp_path / "x"
    path.write_bytes(gzip.compress(f"\ufeff{HEAD}\r\n{GOOD}\r\n".encode()))
    assert len(read_invoices(path).documents) == 1


ZIPPED = gzip.compress(f"{HEAD}\n{GOOD}\n".encode(), mtime=0)  # the same bytes in each process
NO_FILES = {
    "empty": b"",
    "other columns": b"a,b,c\n1,2,3\n",
    "no gzip behind its first bytes": b"\x1f\x8bnot really",
    "gzip, cut": ZIPPED[:20],
    "gzip, broken inside": ZIPPED[:14] + b"\xff\xff" + ZIPPED[16:],
    "bytes": b"\0\xff\xfe",
    "UTF-16": f"{HEAD}\n{GOOD}\n".encode("utf-16"),
    "a first line without end": b"x" * 200_000,
    "no line behind the header": f"{HEAD}\n".encode(),
}


@pytest.mark.parametrize("content", NO_FILES.values(), ids=NO_FILES)
def test_what_is_no_invoice_file_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "x.csv"
    path.write_bytes(content)
    with pytest.raises(InputFileError, match="--input") as refused:
        read_invoices(path)
    assert "\n" not in str(refused.value)


def test_a_file_without_a_good_line_is_refused_with_the_first_reason(tmp_path: Path) -> None:
    with pytest.raises(
        InputFileError, match="has no line to use: line 2: quantity 'many' is not a whole number, and 1"
    ):
        read(tmp_path, line(quantity="many"), line(price="[x]"))
    with pytest.raises(InputFileError, match="has no line to use: line 2: invoice number 'AAAAAAAAAAAAAAAAAAAA' is"):
        read(tmp_path, line(invoice="A" * 1000))


def test_a_file_of_lost_stock_alone_will_do(tmp_path: Path) -> None:
    invoices = read(tmp_path, line(quantity="-1", price="0"))
    assert [asked.aggregate for asked in [*stocking(invoices), *trading(invoices)]] == ["inventory"] * 3


@pytest.mark.parametrize("name", ["", "missing.csv"])
def test_a_missing_file_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(InputFileError, match="cannot read"):
        read_invoices(tmp_path / name)


def test_the_recomputation_by_hand(tmp_path: Path) -> None:
    invoices = read(
        tmp_path,
        line(invoice="1", quantity="2", price="1.5", customer="7", country="France"),
        line(invoice="1", code="POT", quantity="1", price="10", customer="7", country="France"),
        line(invoice="2", quantity="1", price="1.25", customer="", country="Spain", date="2009-12-02 10:00:00"),
        line(invoice="C3", quantity="-1", price="1.5", customer="7", country="France", date="2009-12-03 10:00:00"),
        line(invoice="4", quantity="-3", price="0"),
        line(invoice="5", code="POT", quantity="8", price="0"),
    )
    assert figures.from_file(invoices) == {
        "orders": {"placed": 2, "confirmed": 2, "refused": 0},
        "returns": 1,
        "adjustments": 2,
        "revenue": {"France": {"2009-12-01": 13000}, "Spain": {"2009-12-02": 1250}},
        "refunds": {"France": {"2009-12-03": 1500}},
        "units_sold": {"85048": 3, "POT": 1},
        "stock": {"85048": 1, "POT": 8},
        "customers": {
            "7": {"orders": 1, "spent": 13000, "refunded": 1500},
            "guest-Spain": {"orders": 1, "spent": 1250, "refunded": 0},
        },
        "customer_countries": {"7": "France", "guest-Spain": "Spain"},
        "accounts": {"7": {"charged": 13000, "refunded": 1500}, "guest-Spain": {"charged": 1250, "refunded": 0}},
    }


def test_differences_names_each_figure_that_is_off() -> None:
    file = {"returns": 2, "stock": {"A": 1, "B": 2}, "revenue": {"France": {"2009-12-01": 5}}}
    assert figures.differences(file, file) == []
    tables = {"returns": 3, "stock": {"A": 1, "C": 2}, "revenue": {"France": {"2009-12-01": 6}}}
    assert figures.differences(tables, file) == [
        "returns: 3, expected 2",
        "stock[B]: None, expected 2",
        "stock[C]: 2, expected None",
        "revenue[France][2009-12-01]: 6, expected 5",
    ]
