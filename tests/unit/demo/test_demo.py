"""What the demo makes of the tables, for both ways of checkout: of whole files in memory, and of what is wrong."""

from __future__ import annotations

import io
from collections.abc import Iterator
from fractions import Fraction
from itertools import chain
from types import SimpleNamespace
from typing import Any

import pytest
from click.testing import CliRunner
from rich.console import Console
from rich.text import Text

from pipeline import Token
from pipeline.adapters.json.writing import to_json
from pipeline.cli import main
from pipeline.client import Accepted
from pipeline.demo import checkouts, figures
from pipeline.demo.commands import AMPLE, Way, received, stocking, trading
from pipeline.demo.invoices import Adjustment, Invoices
from pipeline.demo.run import Demo
from pipeline.demo.telling.levels import show_levels
from pipeline.demo.telling.report import checkouts_line, say, show
from pipeline.testing import TestDriver
from pipeline.topology import Topology
from topologies import inventory as inv
from topologies import payments as p

SCARCE = Way("saga", Fraction("0.2"), 16_000)


class Tables:
    """What a QueryClient answers, from a driver's tables."""

    def __init__(self, driver: TestDriver) -> None:
        self._driver = driver

    def scan(self, table: str) -> Iterator[dict[str, Any]]:
        for key, row in self._driver.rows(table).items():
            body = getattr(row, "body", row)
            yield {"key": key, "row": to_json(body), "version": getattr(row, "version", 0), "time_ms": 0}

    def history(self, aggregate: str, key: str) -> Iterator[dict[str, Any]]:
        for event in self._driver.events(aggregate, key):
            yield {"event": {"type": type(event).__name__, **to_json(event)}, "time_ms": 0}


def run(shop: Topology, invoices: Invoices, way: Way) -> Any:
    """The tables once all of the file has been through the shop."""
    driver = TestDriver(shop)
    for part in (stocking(invoices, way), trading(invoices, way)):
        for asked in part:
            driver.send_unseen(asked.aggregate, asked.key, asked.command)
        driver.advance(1)
    return Tables(driver)


def wrong(tables: Any, shop: Topology, invoices: Invoices, way: Way) -> tuple[list[str], checkouts.Shown]:
    shown = checkouts.read(tables, shop)
    refused = checkouts.refused(tables, shown, invoices, way.scarce)
    expected = figures.from_file(invoices, refused, way.stock_ratio)
    differ = figures.differences(figures.from_tables(tables), expected)
    return [*differ, *checkouts.broken(shown, way.scarce)], shown


@pytest.mark.parametrize("way", ["saga", "2pc"])
def test_with_enough_of_everything_nothing_is_refused(way: str, shop_topology: Topology, invoices: Invoices) -> None:
    tables = run(shop_topology, invoices, Way(way))
    found, shown = wrong(tables, shop_topology, invoices, Way(way))
    assert found == []
    assert (shown.in_flight, shown.refused_by_reason, shown.sagas) == (0, {}, {"done": 60})


@pytest.mark.parametrize("way", ["saga", "2pc"])
def test_what_was_refused_does_not_count(way: str, shop_topology: Topology, invoices: Invoices) -> None:
    scarce = SCARCE._replace(checkout=way)
    tables = run(shop_topology, invoices, scarce)
    found, shown = wrong(tables, shop_topology, invoices, scarce)
    assert found == []
    assert shown.refused_by_reason.keys() == {"out_of_stock", "over_limit"}
    refused = sum(shown.refused_by_reason.values())
    assert 0 < refused < 60
    assert shown.sagas == {"done": 60 - refused, "undone": refused}
    losses = checkouts.refused(tables, shown, invoices, scarce.scarce).losses
    assert 0 < losses.total() < 12
    assert figures.from_tables(tables)["adjustments"] == 12 - losses.total()
    # Where nothing is said to be scarce, the same tables are wrong.
    found, _ = wrong(tables, shop_topology, invoices, AMPLE)
    assert any(each.startswith("refused_by_reason[over_limit]") for each in found)
    assert any(each.startswith("orders[confirmed]") for each in found)


def test_what_is_wrong_is_told(shop_topology: Topology, invoices: Invoices) -> None:
    shown = checkouts.read(run(shop_topology, invoices, SCARCE), shop_topology)
    assert checkouts.broken(shown, SCARCE.scarce) == []
    assert checkouts.broken(shown, frozenset({"stock"})) == [
        f"refused_by_reason[over_limit]: {shown.refused_by_reason['over_limit']}, expected none"
    ]
    number, order = next((n, row) for n, row in shown.orders.items() if row["status"] == "confirmed")
    customer, code = order["customer"], order["lines"][0]["code"]
    order["status"] = "placed"
    [in_flight, owes] = checkouts.broken(shown, SCARCE.scarce)
    assert in_flight == "in_flight: 1, expected 0"
    assert owes.startswith(f"payments[{customer}]: ")
    order["status"] = "confirmed"
    shown.inventory[code]["taken"] += 1
    [sums] = checkouts.broken(shown, SCARCE.scarce)
    assert sums.startswith(f"inventory[{code}]: ")
    shown.inventory[code]["taken"] -= 1
    shown.inventory[code]["on_hand"] -= 100
    shown.inventory[code]["received"] -= 100
    [sums] = checkouts.broken(shown, SCARCE.scarce)
    assert sums.startswith(f"inventory[{code}]: ")
    shown.sagas["stuck"] += 2
    shown.payments[customer]["ledger"]["holds"].append({"transaction": number, "amount": 1})
    assert checkouts.broken(shown, SCARCE.scarce)[0] == "in_flight: 3, expected 0"


def test_scarce_stock_and_credit(invoices: Invoices) -> None:
    ample, some = received(invoices), received(invoices, SCARCE.stock_ratio)
    assert some == {code: units // 5 for code, units in ample.items()}
    asked = list(stocking(invoices, SCARCE))
    assert {a.key: a.command.limit for a in asked if isinstance(a.command, p.SetLimit)} == {
        str(n): 16_000 for n in range(10)
    }
    assert {a.key: a.command.quantity for a in asked if isinstance(a.command, inv.ReceiveStock)} == some
    assert not any(isinstance(a.command, inv.ReceiveStock) for a in stocking(invoices, Way(stock_ratio=Fraction(0))))
    ways = {getattr(a.command, "checkout", "2pc") for a in trading(invoices, Way("2pc"))}
    assert ways == {"2pc"}


def test_refused_documents_are_left_out_of_the_recomputation(invoices: Invoices) -> None:
    number, order = next((n, d) for n, d in invoices.documents.items() if not d.is_return)
    lost = next(chain.from_iterable(d.adjustments for d in invoices.documents.values()))
    all_of_it = figures.from_file(invoices)
    refused = figures.Refused({number}, figures.Counter({lost: 1}))
    less = figures.from_file(invoices, refused)
    assert less["orders"] == {"placed": 60, "confirmed": 59, "refused": 1}
    assert less["adjustments"] == 11
    day = all_of_it["revenue"][order.country][order.day] - order.total
    assert less["revenue"][order.country].get(order.day, 0) == day
    assert less["accounts"][order.customer]["charged"] == all_of_it["accounts"][order.customer]["charged"] - order.total
    for code, stock in all_of_it["stock"].items():
        sold = sum(quantity for (product, _), quantity in order.lines.items() if product == code)
        assert less["stock"][code] == stock + sold - (lost.quantity if lost.code == code else 0)
        assert less["units_sold"][code] == all_of_it["units_sold"][code] - sold
    assert refused.losses == {lost: 1}


def test_a_loss_that_was_noted_twice_may_be_refused_once(shop_topology: Topology, invoices: Invoices) -> None:
    loss = Adjustment("P0", -1, "lost")
    document = invoices.documents["9999"]
    twice = Invoices({"9999": document.__class__("9999", False, document.at, "1", "France", {}, [loss, loss])})
    twice.products["P0"] = "THING"
    half = Way(stock_ratio=Fraction("0.5"))
    tables = run(shop_topology, twice, half)
    found, shown = wrong(tables, shop_topology, twice, half)
    assert found == []
    assert checkouts.refused(tables, shown, twice, half.scarce).losses == {loss: 1}


def test_the_line_of_all_checkouts() -> None:
    result = {
        "orders": {"placed": 2000, "confirmed": 1200, "refused": 800},
        "refused_by_reason": {"out_of_stock": 790, "over_limit": 10},
        "compensated": 800,
        "seconds": 4.0,
    }
    assert checkouts_line(result, "saga") == (
        "2,000 checkouts settled by saga: 1,200 confirmed, 800 refused (790 out_of_stock, 10 over_limit), "
        "800 compensated; 500 orders/s"
    )


NASTY = "[bold]St. [/Helena] :smile:\x1b[31m\x07\n[link=x]"
SHOWN = "[bold]St. [/Helena] :smile:\ufffd[31m\ufffd [link=x]"  # on one line, and nothing that steers a terminal


class Nasty:
    """Stands where a client of the workers does; all text in its answers is such as no file should hold."""

    def scan(self, *_: Any, **__: Any) -> Iterator[dict[str, Any]]:
        yield {"key": NASTY, "row": {"country": NASTY}}

    def get(self, *_: Any, **__: Any) -> dict[str, Any]:
        return {"position": "users.command/2@8"}

    @property
    def commands(self) -> Nasty:
        return self

    def from_json(self, *_: Any) -> None: ...

    def send(self, *_: Any, **__: Any) -> Accepted:
        return Accepted(1, (), Token("users.command/2@7"))


@pytest.mark.parametrize("is_terminal", [False, True])
def test_text_of_a_file_is_printed_as_it_stands(is_terminal: bool) -> None:
    console = Console(file=io.StringIO(), width=400, force_terminal=is_terminal)
    row = {"orders": 1, "spent": 1, "refunded": 1}
    result = {
        "revenue": {NASTY: {"2009-12-01": 1}},
        "refunds": {},
        "units_sold": {NASTY: 1},
        "stock": {NASTY: 0},
        "customers": {NASTY: row},
        "customer_countries": {NASTY: NASTY},
        "bad_rows": [{"line": 2, "reason": NASTY}],
    }
    nasty: Any = Nasty()
    show(console, result)
    show_levels(console, nasty, nasty)
    say(console, NASTY, "red")
    text = Text.from_ansi(console.file.getvalue()).plain  # type: ignore[attr-defined]
    assert " ".join(text.split()).count(SHOWN) == 7  # titles are broken into lines
    assert NASTY not in console.file.getvalue()  # type: ignore[attr-defined]


def test_a_file_without_customers_has_no_reads_to_show(invoices: Invoices) -> None:
    console = Console(file=io.StringIO())
    nobody: Any = SimpleNamespace(scan=lambda *_, **__: iter(()))
    show_levels(console, nobody, nobody)
    assert console.file.getvalue() == ""  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--stock-ratio", "1.1"], "'1.1' is not a number from 0 to 1"),
        (["--stock-ratio", "-0.1"], "is not a number"),
        (["--stock-ratio", "nan"], "is not a number"),
        (["--credit-limit", "1e999999999"], "is not a number"),
        (["--credit-limit", "9999999999999999"], "is not a number from 0 to 1,000,000,000,000"),
        (["--credit-limit", "2.0005"], "at most three decimals"),
        (["--checkout", "3pc"], "'3pc' is not one of 'saga', '2pc'"),
        (["--json", "nowhere/out.json"], "there is no directory nowhere"),
        (["--json", "tests"], "tests is a directory"),
        (["--json", "tests/out.json", "--home", "tests"], "is in the demo's own directory"),
    ],
)
def test_options_that_cannot_be(arguments: list[str], says: str) -> None:
    result = CliRunner().invoke(main, ["demo", "--input", "missing.csv", *arguments])
    assert result.exit_code == 2
    assert says in result.output


def test_options_are_exact(monkeypatch: pytest.MonkeyPatch) -> None:
    ways = []
    monkeypatch.setattr(Demo, "run", lambda demo, _: ways.append(demo.way))
    for arguments in ([], ["--stock-ratio", "0.29", "--credit-limit", "2000.005", "--checkout", "2pc"]):
        CliRunner().invoke(main, ["demo", *arguments])
    assert ways == [AMPLE, Way("2pc", Fraction(29, 100), 2_000_005)]
