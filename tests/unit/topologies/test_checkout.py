"""The shop's checkout, both ways: each path message by message, and the whole shop in memory."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest

from pipeline import Rejected
from pipeline.flow import event_to_command
from pipeline.model import Ask, EventMessage, Ledger, TimeUp
from pipeline.testing import TestDriver, accepted, given, given_saga, rejected
from pipeline.topology import Topology
from topologies import checkout_2pc as two
from topologies import checkout_saga as one
from topologies import inventory as inv
from topologies import orders as o
from topologies import payments as p
from topologies.invariants import invariants

AT = "2009-12-01T07:45:00"
LINES = (o.Line("TEA", 2, 1500), o.Line("POT", 1, 9990), o.Line("TEA", 1, 1400))
TOTAL = 14390
PLACED = o.OrderPlaced("anna", "France", *o.day_and_time(AT), LINES)
TEA = inv.ProductRegistered("TEA")
HELD = inv.StockReserved("1", 4)

# --- those who take part ----------------------------------------------------------------------------------------------


def test_reserved_stock_is_shown_and_nobody_else_has_it() -> None:
    stock = given(inv.inventory, TEA, inv.StockReceived(10)).when(inv.ReserveStock("1", 4)).then(HELD)
    stock.when(inv.ReserveStock("2", 7)).then(Rejected("out_of_stock", {"on_hand": "6"}))
    stock.when(inv.TakeStock("counter", 7)).then(Rejected("out_of_stock", {"on_hand": "6"}))
    stock.when(inv.AdjustStock(-7, "lost")).then(Rejected("out_of_stock", {"on_hand": "6"}))
    ledger = Ledger().hold("1", 4)
    stock.has(inv.Stock(True, "TEA", on_hand=6, received=10, reserved=4, ledger=ledger))
    taken = stock.when(inv.TakeReserved("1")).then(inv.ReservedTaken("1", 4))
    ledger = ledger.end("1", committed=True)
    taken.has(inv.Stock(True, "TEA", on_hand=6, received=10, taken=4, ledger=ledger))


def test_released_stock_can_be_had_again() -> None:
    stock = given(inv.inventory, TEA, inv.StockReceived(4), HELD)
    back = stock.when(inv.ReleaseStock("1")).then(inv.StockReleased("1", 4))
    back.when(inv.ReserveStock("2", 4)).then(inv.StockReserved("2", 4))
    back.when(inv.TakeReserved("1")).then(Rejected("already_aborted"))


def test_what_is_asked_of_stock_again_or_too_late_changes_nothing() -> None:
    stock = given(inv.inventory, TEA, inv.StockReceived(9), HELD)
    stock.when(inv.ReserveStock("1", 4)).then()
    stock.when(inv.TakeReserved("2")).then(Rejected("not_prepared"))
    taken = stock.when(inv.TakeReserved("1")).then(inv.ReservedTaken("1", 4))
    taken.when(inv.TakeReserved("1")).then()
    taken.when(inv.ReleaseStock("1")).then(Rejected("already_committed"))
    early = stock.when(inv.ReleaseStock("3")).then(inv.StockReleased("3", 0))
    early.when(inv.ReserveStock("3", 1)).then(Rejected("already_aborted"))


def test_what_cannot_be_reserved_can_be_let_go_all_the_same() -> None:
    given(inv.inventory).when(inv.ReserveStock("1", 1)).then(Rejected("unknown_product"))
    given(inv.inventory).when(inv.ReleaseStock("1")).then(inv.StockReleased("1", 0))
    given(inv.inventory, TEA).when(inv.ReserveStock("1", 0)).then(Rejected("bad_quantity"))


def test_who_has_no_limit_may_owe_any_amount() -> None:
    given(p.payments).when(p.Authorise("1", 10**12)).then(p.Authorised("1", 10**12))


def test_a_limit_is_of_what_is_owed_and_what_is_authorised_counts() -> None:
    account = given(p.payments, p.LimitSet(100), p.Authorised("1", 60), p.Captured("1", 60), p.Authorised("2", 30))
    account.when(p.Authorise("3", 11)).then(Rejected("over_limit", {"limit": "100", "owed": "90"}))
    account.when(p.Authorise("3", 10)).then(p.Authorised("3", 10))
    account.when(p.Void("2")).then(p.Voided("2", 30)).when(p.Authorise("3", 40)).then(p.Authorised("3", 40))
    account.when(p.Refund("C1", 60)).then(p.Refunded("C1", 60)).when(p.Authorise("3", 70)).then(p.Authorised("3", 70))
    account.when(p.SetLimit(None)).then(p.LimitSet(None)).when(p.Authorise("3", 999)).then(p.Authorised("3", 999))


def test_an_account_adds_up() -> None:
    account = given(p.payments).when(p.Authorise("1", 60)).then(p.Authorised("1", 60))
    account.has(p.Account(authorised=60, ledger=Ledger().hold("1", 60)))
    charged = account.when(p.Capture("1")).then(p.Captured("1", 60))
    charged.when(p.Capture("1")).then()
    refunded = charged.when(p.Refund("C1", 80)).then(p.Refunded("C1", 80))
    refunded.has(p.Account(charged=60, refunded=80, ledger=Ledger().hold("1", 60).end("1", committed=True)))
    given(p.payments).when(p.Capture("1")).then(Rejected("not_prepared"))
    given(p.payments).when(p.Void("1")).then(p.Voided("1", 0))


@pytest.mark.parametrize("command", [p.Authorise("1", 0), p.Refund("C1", 0), p.SetLimit(-1)])
def test_an_amount_must_make_sense(command: object) -> None:
    given(p.payments).when(command).then(Rejected("bad_amount"))


def test_the_same_limit_is_nothing_new() -> None:
    given(p.payments, p.LimitSet(5)).when(p.SetLimit(5)).then()


def test_an_order_is_confirmed_with_what_was_placed() -> None:
    order = given(o.orders, PLACED).when(o.HoldOrder("1")).then(o.OrderHeld("1"))
    confirmed = order.when(o.ConfirmOrder("1")).then(o.OrderConfirmed("1", "anna", "France", AT, LINES))
    confirmed.when(o.ConfirmOrder("1")).then()
    confirmed.when(o.RefuseOrder("1", "late")).then(Rejected("already_committed"))
    confirmed.when(o.HoldOrder("2")).then(Rejected("already_confirmed"))
    ledger = Ledger().hold("1").end("1", committed=True)
    confirmed.has(o.Document("order", "anna", "France", AT, TOTAL, "confirmed", "", LINES, ledger, "saga"))


def test_an_order_is_refused_for_a_reason() -> None:
    order = given(o.orders, PLACED, o.OrderHeld("1"))
    refused = order.when(o.RefuseOrder("1", "out_of_stock")).then(o.OrderRefused("1", "out_of_stock"))
    refused.when(o.ConfirmOrder("1")).then(Rejected("already_aborted"))
    ledger = Ledger().hold("1").end("1", committed=False)
    refused.has(o.Document("order", "anna", "France", AT, TOTAL, "refused", "out_of_stock", LINES, ledger, "saga"))


def test_only_the_checkout_that_holds_an_order_can_settle_it() -> None:
    given(o.orders).when(o.HoldOrder("1")).then(Rejected("unknown_order"))
    given(o.orders, o.GoodsReturned("anna", "France", AT, LINES)).when(o.HoldOrder("1")).then(Rejected("unknown_order"))
    order = given(o.orders, PLACED, o.OrderHeld("1"))
    order.when(o.HoldOrder("2")).then(Rejected("locked"))
    other = order.when(o.RefuseOrder("2", "locked")).then(o.OrderLetGo("2"))
    other.when(o.ConfirmOrder("2")).then(Rejected("already_aborted"))
    other.when(o.ConfirmOrder("1")).then(o.OrderConfirmed("1", "anna", "France", AT, LINES))


def test_an_order_says_how_it_is_checked_out() -> None:
    place = o.PlaceOrder("anna", "France", AT, LINES, "2pc")
    given(o.orders).when(place).then(o.OrderPlaced("anna", "France", *o.day_and_time(AT), LINES, "2pc"))
    given(o.orders).when(o.PlaceOrder("anna", "France", AT, LINES, "")).then(Rejected("unknown_checkout"))


# --- what begins it ---------------------------------------------------------------------------------------------------

BEGIN = ("1", "anna", TOTAL)
UNITS = {"TEA": 3, "POT": 1}


@pytest.mark.parametrize(("module", "way", "other"), [(one, "saga", "2pc"), (two, "2pc", "saga")])
def test_each_follows_the_orders_that_are_its_own_and_sums_lines_of_a_product(
    module: Any, way: str, other: str
) -> None:
    lines = tuple(module.Line(line.code, line.quantity, line.price) for line in LINES)
    ((send, command),) = event_to_command(
        module.begins, "1", EventMessage(1, "c", "corr", 5, module.OrderPlaced("anna", lines, way))
    )
    units = tuple(module.Units(code, quantity) for code, quantity in UNITS.items())
    assert send == ("1", module.BeginCheckout(*BEGIN, units))
    assert command.body == send.command
    assert module.follow_orders("1", module.OrderPlaced("anna", lines, other)) == []


# --- the saga ---------------------------------------------------------------------------------------------------------

SAGA = given_saga(one.checkout_saga, one.BeginCheckout(*BEGIN, (one.Units("TEA", 3), one.Units("POT", 1))))


def reserved() -> Any:
    some = SAGA.when(accepted("reserve.0")).then().when(accepted("reserve.1")).then()
    return some.when(accepted("reserve.2")).then(Ask("charge.0", "payments", "anna", one.Authorise("1", TOTAL)))


def undone_once(undoing: Any, *steps: str) -> Any:
    for step in steps:
        undoing = undoing.when(accepted(step)).after()
    return undoing


def test_the_saga_reserves_charges_and_makes_it_final() -> None:
    begun = given_saga(one.checkout_saga).when(one.BeginCheckout(*BEGIN, (one.Units("TEA", 3), one.Units("POT", 1))))
    begun.then(
        Ask("reserve.0", "orders", "1", one.HoldOrder("1")),
        Ask("reserve.1", "inventory", "TEA", one.ReserveStock("1", 3)),
        Ask("reserve.2", "inventory", "POT", one.ReserveStock("1", 1)),
    )
    final = (
        reserved()
        .when(accepted("charge.0"))
        .then(
            Ask("confirm.0", "payments", "anna", one.Capture("1")),
            Ask("confirm.1", "orders", "1", one.ConfirmOrder("1")),
        )
    )
    undone_once(final, "confirm.0", "confirm.1").is_at("done")


def test_the_saga_lets_go_what_it_had_when_stock_is_refused() -> None:
    some = SAGA.when(accepted("reserve.0")).then().when(accepted("reserve.1")).then()
    undoing = some.when(rejected("reserve.2", "out_of_stock")).then(
        Ask("undo-reserve.0", "orders", "1", one.RefuseOrder("1", "out_of_stock")),
        Ask("undo-reserve.1", "inventory", "TEA", one.ReleaseStock("1")),
    )
    undone_once(undoing, "undo-reserve.0", "undo-reserve.1").is_at("undone", "out_of_stock")


def test_the_saga_lets_go_what_it_had_when_the_charge_is_refused() -> None:
    undoing = (
        reserved()
        .when(rejected("charge.0", "over_limit"))
        .then(
            Ask("undo-reserve.0", "orders", "1", one.RefuseOrder("1", "over_limit")),
            Ask("undo-reserve.1", "inventory", "TEA", one.ReleaseStock("1")),
            Ask("undo-reserve.2", "inventory", "POT", one.ReleaseStock("1")),
        )
    )
    undone_once(undoing, "undo-reserve.0", "undo-reserve.1", "undo-reserve.2").is_at("undone", "over_limit")


def test_the_saga_undoes_what_may_have_been_done_when_there_is_no_answer() -> None:
    silent = reserved().when(TimeUp("charge/1/timeout")).then(Ask("undo-charge.0", "payments", "anna", one.Void("1")))
    undoing = silent.when(accepted("undo-charge.0")).then("undo-reserve.0", "undo-reserve.1", "undo-reserve.2")
    assert undoing.state.progress.reason == "timeout"
    late = SAGA.when(TimeUp("reserve/1/timeout")).then("undo-reserve.0", "undo-reserve.1", "undo-reserve.2")
    undone_once(late, "undo-reserve.0", "undo-reserve.1", "undo-reserve.2").is_at("undone", "timeout")


# --- the two-phase commit ---------------------------------------------------------------------------------------------

TWO = given_saga(two.checkout_2pc, two.BeginCheckout(*BEGIN, (two.Units("TEA", 3),)))


def test_a_status_that_no_saga_has_is_refused_with_those_that_there_are() -> None:
    with pytest.raises(AssertionError, match="no saga is ever 'aborted'; it is one of running, "):
        TWO.is_at("aborted")


def test_all_prepare_at_once_and_then_commit() -> None:
    begun = given_saga(two.checkout_2pc).when(two.BeginCheckout(*BEGIN, (two.Units("TEA", 3),)))
    begun.then(
        Ask("prepare-1.0", "orders", "1", two.HoldOrder("1/1")),
        Ask("prepare-1.1", "payments", "anna", two.Authorise("1/1", TOTAL)),
        Ask("prepare-1.2", "inventory", "TEA", two.ReserveStock("1/1", 3)),
    )
    voted = TWO.when(accepted("prepare-1.0")).then().when(accepted("prepare-1.2")).then()
    committing = voted.when(accepted("prepare-1.1")).then(
        Ask("commit-1.0", "orders", "1", two.ConfirmOrder("1/1")),
        Ask("commit-1.1", "payments", "anna", two.Capture("1/1")),
        Ask("commit-1.2", "inventory", "TEA", two.TakeReserved("1/1")),
    )
    undone_once(committing, "commit-1.0", "commit-1.1", "commit-1.2").is_at("done")


@pytest.mark.parametrize(
    ("message", "reason"),
    [
        (rejected("prepare-1.2", "out_of_stock"), "out_of_stock"),
        (rejected("prepare-1.1", "over_limit"), "over_limit"),
        (TimeUp("vote/1"), "timeout"),
    ],
)
def test_one_that_cannot_aborts_all(message: object, reason: str) -> None:
    aborted = TWO.when(message).then(
        Ask("abort-1.0", "orders", "1", two.RefuseOrder("1/1", reason)),
        Ask("abort-1.1", "payments", "anna", two.Void("1/1")),
        Ask("abort-1.2", "inventory", "TEA", two.ReleaseStock("1/1")),
    )
    undone_once(aborted, "abort-1.0", "abort-1.1", "abort-1.2").is_at("undone", reason)


# --- the whole shop ---------------------------------------------------------------------------------------------------

WAYS = {"saga": "checkout_saga", "2pc": "checkout_2pc"}


@pytest.fixture
def driver(shop_topology: Topology) -> Iterator[TestDriver]:
    with TestDriver(shop_topology) as made:
        made.send("inventory", "TEA", inv.RegisterProduct("TEA"), inv.ReceiveStock(10))
        made.send("inventory", "POT", inv.RegisterProduct("POT"), inv.ReceiveStock(2))
        made.send("payments", "anna", p.SetLimit(50_000))
        yield made


def place(driver: TestDriver, way: str, number: str, *lines: tuple[str, int, int]) -> Any:
    """The order as it has become, and how its checkout ended."""
    wanted = tuple(o.Line(*line) for line in lines)
    driver.send("orders", number, o.PlaceOrder("anna", "France", AT, wanted, way))
    module = one.checkout_saga if way == "saga" else two.checkout_2pc
    status = module.summary(driver.row(WAYS[way], number).body).status
    order = driver.row("orders", number).body
    return order.status, order.reason, status


def amounts(driver: TestDriver) -> dict[str, tuple[int, ...]]:
    """Of each product: on hand, reserved, taken; of Anna: authorised, charged, refunded."""
    rows = {key: row.body for key, row in driver.rows("inventory").items() if row.body.registered}
    found: dict[str, tuple[int, ...]] = {key: (row.on_hand, row.reserved, row.taken) for key, row in rows.items()}
    account = driver.row("payments", "anna").body
    found["anna"] = account.authorised, account.charged, account.refunded
    assert not any(row.ledger.holds for row in [*rows.values(), account])
    return found


@pytest.mark.parametrize("way", WAYS)
def test_an_order_takes_its_stock_and_is_charged(driver: TestDriver, way: str) -> None:
    assert place(driver, way, "1", *((line.code, line.quantity, line.price) for line in LINES)) == (
        "confirmed",
        "",
        "done",
    )
    assert amounts(driver) == {"TEA": (7, 0, 3), "POT": (1, 0, 1), "anna": (0, TOTAL, 0)}
    assert driver.row("revenue", "France/2009-12-01").thousandths == TOTAL
    assert driver.row("units_sold", "TEA").quantity == 3
    driver.send("orders", "C1", o.ReturnGoods("anna", "France", AT, (o.Line("TEA", 1, 1500),)))
    assert amounts(driver) == {"TEA": (8, 0, 3), "POT": (1, 0, 1), "anna": (0, TOTAL, 1500)}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize(
    ("lines", "reason"),
    [
        ([("TEA", 1, 1000), ("POT", 2, 1000), ("POT", 1, 900)], "out_of_stock"),  # three pots, in two lines
        ([("TEA", 1, 1000), ("CUP", 1, 1000)], "unknown_product"),
        ([("TEA", 1, 1000), ("POT", 1, 49_001)], "over_limit"),
    ],
)
def test_a_refused_order_leaves_no_trace(
    driver: TestDriver, way: str, lines: list[tuple[str, int, int]], reason: str
) -> None:
    before = amounts(driver)
    assert place(driver, way, "1", *lines) == ("refused", reason, "undone")
    assert amounts(driver) == before
    assert driver.rows("revenue") == {}
    assert place(driver, way, "2", ("TEA", 1, 1000), ("POT", 2, 24_500)) == ("confirmed", "", "done")
    assert amounts(driver) == {"TEA": (9, 0, 1), "POT": (0, 0, 2), "anna": (0, 50_000, 0)}


def test_both_ways_go_together_on_the_same_stock(driver: TestDriver) -> None:
    for n in range(6):
        line = (o.Line("POT", 1, 100),)
        driver.send_unseen("orders", str(n), o.PlaceOrder("anna", "France", AT, line, ("saga", "2pc")[n % 2]))
    driver.advance(1)
    found = [driver.row("orders", str(n)).body.status for n in range(6)]
    assert sorted(found) == ["confirmed"] * 2 + ["refused"] * 4
    assert amounts(driver) == {"TEA": (10, 0, 0), "POT": (0, 0, 2), "anna": (0, 200, 0)}


# --- what must be true of all of it -----------------------------------------------------------------------------------


@pytest.fixture
def settled(driver: TestDriver) -> dict[str, dict[str, Any]]:
    """The rows of a shop with orders of either kind, confirmed and refused, and a return."""
    for way in WAYS:
        place(driver, way, f"{way} 1", ("TEA", 2, 1000))
        place(driver, way, f"{way} 2", ("TEA", 1, 1000), ("POT", 3, 1000))
        place(driver, way, f"{way} 3", ("TEA", 1, 99_000))
    driver.send("orders", "C1", o.ReturnGoods("anna", "France", AT, (o.Line("TEA", 1, 1000),)))
    driver.send("inventory", "TEA", inv.AdjustStock(-1, "broken"))
    return {name: {k: row.body for k, row in driver.rows(name).items()} for name in ("orders", "inventory", "payments")}


def broken(rows: dict[str, dict[str, Any]]) -> dict[str, list[str]]:
    found = {invariant.name: list(invariant.broken({t: rows[t] for t in invariant.tables})) for invariant in invariants}
    return {name: what for name, what in found.items() if what}


def test_a_settled_shop_breaks_no_invariant(settled: dict[str, dict[str, Any]]) -> None:
    assert broken(settled) == {}


@pytest.mark.parametrize(
    ("table", "key", "change", "breaks"),
    [
        ("inventory", "TEA", {"taken": 5}, {"stock that came is there or taken"}),
        ("inventory", "TEA", {"on_hand": -1, "taken": 11}, {"stock is never negative"}),
        ("inventory", "TEA", {"on_hand": 5, "reserved": 1}, {"nothing stays reserved or authorised"}),
        ("payments", "anna", {"authorised": 1}, {"nothing stays reserved or authorised"}),
        ("payments", "anna", {"charged": 1}, {"customers pay for confirmed orders, less returns"}),
        ("payments", "anna", {"refunded": 0}, {"customers pay for confirmed orders, less returns"}),
        ("orders", "saga 2", {"status": "placed"}, {"every order is confirmed or refused"}),
        ("orders", "2pc 2", {"status": "confirmed"}, {"customers pay for confirmed orders, less returns"}),
    ],
)
def test_what_is_wrong_breaks_its_invariant(
    settled: dict[str, dict[str, Any]], table: str, key: str, change: dict[str, Any], breaks: set[str]
) -> None:
    settled[table][key] = replace(settled[table][key], **change)
    found = broken(settled)
    assert found.keys() == breaks
    assert all(key in text or "anna" in text for texts in found.values() for text in texts)
