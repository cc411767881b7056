"""The shop's aggregates: given what happened, when a command comes, then what is decided."""

from dataclasses import replace

import pytest

from pipeline import Rejected
from pipeline.testing import given
from topologies import inventory as inv
from topologies import orders as o
from topologies import users as u

ANNA = u.UserRegistered("Anna", "France")
TEA = inv.ProductRegistered("TEA")
LINES = (o.Line("TEA", 2, 1500), o.Line("POT", 1, 9990))


def test_a_user_is_registered_once() -> None:
    registered = given(u.users).when(u.RegisterUser("Anna", "France")).then(ANNA)
    registered.has(u.User("Anna", "France"))
    registered.when(u.RegisterUser("Anna", "France")).then(Rejected("already_registered"))


def test_a_user_changes_name_and_country() -> None:
    given(u.users, ANNA).when(u.ChangeName("Ann")).then(u.NameChanged("Ann")).has(u.User("Ann", "France"))
    given(u.users, ANNA).when(u.ChangeCountry("Spain")).then(u.CountryChanged("Spain")).has(u.User("Anna", "Spain"))


def test_a_change_to_the_same_value_is_nothing() -> None:
    given(u.users, ANNA).when(u.ChangeName("Anna")).then()
    given(u.users, ANNA).when(u.ChangeCountry("France")).then()


@pytest.mark.parametrize("command", [u.ChangeName("Ann"), u.ChangeCountry("Spain")])
def test_nobody_can_be_changed(command: object) -> None:
    given(u.users).when(command).then(Rejected("unknown_user"))


@pytest.mark.parametrize("command", [u.RegisterUser("", "France"), u.RegisterUser("Anna", ""), u.ChangeName("")])
def test_a_user_needs_values(command: object) -> None:
    given(u.users).when(command).then(Rejected("empty_value"))


def test_an_email_address_is_optional_and_must_look_like_one() -> None:
    registered = u.UserRegistered("Anna", "France", "anna@shop.fr")
    given(u.users).when(u.RegisterUser("Anna", "France", "anna@shop.fr")).then(registered)
    given(u.users, registered).when(u.ChangeEmail(None)).then(u.EmailChanged(None)).has(u.User("Anna", "France"))
    given(u.users, registered).when(u.ChangeEmail("anna@shop.fr")).then()
    for wrong in ("", "anna", "anna@", "@shop.fr", "an@na@shop.fr", "a" * 251 + "@b.c"):
        given(u.users, ANNA).when(u.ChangeEmail(wrong)).then(Rejected("no_email_address"))


def test_addresses_that_differ_in_case_are_the_same() -> None:
    assert u.same_email(u.User("Anna", "France", "Anna@Shop.FR")) == u.same_email(u.User("A", "B", "anna@shop.fr"))
    assert u.same_email(u.User("Anna", "France")) is None


def test_a_product_is_registered_once() -> None:
    given(inv.inventory).when(inv.RegisterProduct("TEA")).then(TEA)
    given(inv.inventory, TEA).when(inv.RegisterProduct("TEA")).then(Rejected("already_registered"))


@pytest.mark.parametrize(
    "command", [inv.ReceiveStock(1), inv.AdjustStock(1, ""), inv.TakeStock("o1", 1), inv.PutBackStock("C1", 1)]
)
def test_an_unknown_product_has_no_stock(command: object) -> None:
    given(inv.inventory).when(command).then(Rejected("unknown_product"))


def test_stock_adds_up() -> None:
    stock = (
        given(inv.inventory, TEA)
        .when(inv.ReceiveStock(10))
        .then(inv.StockReceived(10))
        .when(inv.TakeStock("o1", 4))
        .then(inv.StockTaken("o1", 4))
        .when(inv.PutBackStock("C1", 1))
        .then(inv.StockPutBack("C1", 1))
        .when(inv.AdjustStock(-2, "broken"))
        .then(inv.StockAdjusted(-2, "broken"))
        .when(inv.AdjustStock(3, "found"))
        .then(inv.StockAdjusted(3, "found"))
    )
    stock.has(inv.Stock(True, "TEA", on_hand=8, received=10, adjusted=1, adjustments=2, taken=4, put_back=1))


@pytest.mark.parametrize("command", [inv.TakeStock("o1", 11), inv.AdjustStock(-11, "lost")])
def test_stock_is_never_negative(command: object) -> None:
    given(inv.inventory, TEA, inv.StockReceived(10)).when(command).then(Rejected("out_of_stock", {"on_hand": "10"}))


def test_all_the_stock_can_go() -> None:
    given(inv.inventory, TEA, inv.StockReceived(10)).when(inv.TakeStock("o1", 10)).then(inv.StockTaken("o1", 10))


@pytest.mark.parametrize(
    "command",
    [
        inv.ReceiveStock(0),
        inv.ReceiveStock(-1),
        inv.TakeStock("o", 0),
        inv.PutBackStock("C", -1),
        inv.AdjustStock(0, ""),
    ],
)
def test_a_quantity_must_make_sense(command: object) -> None:
    given(inv.inventory, TEA, inv.StockReceived(10)).when(command).then(Rejected("bad_quantity"))


def test_an_order_is_placed_once() -> None:
    place = o.PlaceOrder("17850", "France", "2009-12-01T07:45:00", LINES)
    placed = given(o.orders).when(place).then(o.OrderPlaced("17850", "France", "2009-12-01", "07:45:00", LINES))
    placed.has(
        o.Document("order", "17850", "France", "2009-12-01T07:45:00", 12990, "placed", "", LINES, checkout="saga")
    )
    placed.when(place).then(Rejected("already_entered", {"kind": "order"}))


def test_goods_are_returned() -> None:
    back = o.ReturnGoods("17850", "France", "2009-12-02T07:45:00", LINES[:1])
    returned = given(o.orders).when(back).then(o.GoodsReturned("17850", "France", "2009-12-02T07:45:00", LINES[:1]))
    returned.has(o.Document("return", "17850", "France", "2009-12-02T07:45:00", 3000, lines=LINES[:1]))


@pytest.mark.parametrize(
    ("lines", "reason"),
    [
        ((), "no_lines"),
        ((o.Line("TEA", 0, 1),), "bad_line"),
        ((o.Line("TEA", 1, 0),), "bad_line"),
        ((o.Line("", 1, 1),), "bad_line"),
    ],
)
def test_an_order_needs_sound_lines(lines: tuple[o.Line, ...], reason: str) -> None:
    given(o.orders).when(o.PlaceOrder("17850", "France", "2009-12-01T07:45:00", lines)).then(Rejected(reason))


def test_then_notices_what_differs() -> None:
    with pytest.raises(AssertionError, match="decided"):
        given(u.users).when(u.RegisterUser("Anna", "France")).then()
    with pytest.raises(AssertionError, match="expected"):
        given(u.users, ANNA).when(u.RegisterUser("Anna", "France")).then(Rejected("something_else"))


def test_an_order_without_a_country_is_placed_where_the_customer_is() -> None:
    order = o.PlaceOrder("12346", "", "2009-12-01T10:00:00", LINES)
    known = given(o.orders).with_copy(o.customer_countries, {"12346": o.CustomerCountry("Norway")})
    placed = known.when(order).then(o.OrderPlaced("12346", "Norway", *o.day_and_time(order.at), LINES))
    placed.when(order).then(Rejected("already_entered"))
    known.when(replace(order, country="Spain")).then(o.OrderPlaced("12346", "Spain", *o.day_and_time(order.at), LINES))
    known.when(replace(order, customer="1")).then(Rejected("unknown_country", {"customer": "1"}))
    given(o.orders).when(order).then(Rejected("unknown_country"))


def test_only_a_copy_that_is_read_can_be_given() -> None:
    with pytest.raises(AssertionError, match="users does not read customer_countries"):
        given(u.users).with_copy(o.customer_countries, {})
