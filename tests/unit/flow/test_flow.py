"""The pure steps: what each makes of one message."""

from dataclasses import replace

import pytest

from pipeline.flow import command_to_event, event_to_command, event_to_messages, event_to_state, message_to_row
from pipeline.model import CommandMessage, EventMessage, Rejected, StateMessage
from topologies import inventory as inv
from topologies import payments as p
from topologies import reports as r
from topologies import users as u

COMMAND = CommandMessage("c1", "corr", None, 1, inv.ReceiveStock(5))
STOCKED = StateMessage(7, 1, inv.Stock(True, "TEA", on_hand=3, received=3))
ORDER = r.OrderConfirmed("17850", "France", "2009-12-01T07:45:00", (r.Line("TEA", 2, 1500), r.Line("POT", 1, 9990)))
RETURN = r.GoodsReturned("17850", "France", "2009-12-03T10:00:00", (r.Line("TEA", 1, 1500),))


def event(body: object) -> EventMessage:
    return EventMessage(1, "c1", "corr", 99, body)


def test_events_continue_the_version_and_carry_their_cause_and_the_brokers_time() -> None:
    assert command_to_event(inv.inventory, b"k", STOCKED, COMMAND, 1234) == (
        [EventMessage(8, "c1", "corr", 1234, inv.StockReceived(5))],
        (),
    )


def test_a_rejection_is_a_value() -> None:
    assert command_to_event(inv.inventory, b"k", None, COMMAND, 1234) == Rejected("unknown_product")


def test_state_takes_the_events_version() -> None:
    after = event_to_state(inv.inventory, b"k", STOCKED, EventMessage(8, "c1", "corr", 1234, inv.StockReceived(5)))
    assert after == StateMessage(8, 1234, inv.Stock(True, "TEA", on_hand=8, received=8))


def test_a_reaction_names_its_commands_after_the_event() -> None:
    back = inv.GoodsReturned((inv.Line("TEA", 2), inv.Line("POT", 1)))
    sent = event_to_command(inv.stock_follows_orders, "C489434", EventMessage(1, "x", "corr", 5, back))
    prefix, cause = "stock_follows_orders/C489434/1", "orders.event/C489434/1"
    assert [(send.key, command) for send, command in sent] == [
        ("TEA", CommandMessage(f"{prefix}/0", "corr", cause, 5, inv.PutBackStock("C489434", 2))),
        ("POT", CommandMessage(f"{prefix}/1", "corr", cause, 5, inv.PutBackStock("C489434", 1))),
    ]
    assert sent == event_to_command(inv.stock_follows_orders, "C489434", EventMessage(1, "x", "corr", 5, back))


def test_what_comes_back_is_refunded() -> None:
    back = p.GoodsReturned("anna", (p.Line(2, 1500), p.Line(1, 9990)))
    ((send, _),) = event_to_command(p.refunds_follow_orders, "C1", EventMessage(1, "x", "corr", 5, back))
    assert send == ("anna", p.Refund("C1", 12990))


def test_revenue_and_refunds_go_by_country_and_day() -> None:
    assert list(event_to_messages(r.revenue, "t.event", "1", event(ORDER))) == [("France/2009-12-01", r.Amount(12990))]
    assert list(event_to_messages(r.revenue, "t.event", "1", event(RETURN))) == []
    assert list(event_to_messages(r.refunds, "t.event", "1", event(RETURN))) == [("France/2009-12-03", r.Amount(1500))]
    assert list(event_to_messages(r.refunds, "t.event", "1", event(ORDER))) == []


def test_units_go_by_product_and_returns_do_not_count() -> None:
    assert list(event_to_messages(r.units_sold, "t.event", "1", event(ORDER))) == [
        ("TEA", r.Units(2)),
        ("POT", r.Units(1)),
    ]
    assert list(event_to_messages(r.units_sold, "t.event", "1", event(RETURN))) == []


def test_customers_are_told_of_everything() -> None:
    told = [
        *event_to_messages(r.customers, "t.event", "17850", event(r.UserRegistered())),
        *event_to_messages(r.customers, "t.event", "489434", event(ORDER)),
        *event_to_messages(r.customers, "t.event", "C489500", event(RETURN)),
    ]
    assert [key for key, _ in told] == ["17850"] * 3
    row = None
    for _, message in told:
        row = message_to_row(r.customers, row, message)
    assert row == r.Customer(registered=True, orders=1, spent=12990, refunded=1500)


def test_rows_add_up_from_the_initial_one() -> None:
    first = message_to_row(r.revenue, None, r.Amount(10))
    assert message_to_row(r.revenue, first, r.Amount(5)) == r.Revenue(thousandths=15, orders=2)


def test_a_function_that_forgets_a_case_is_named_in_what_is_raised() -> None:
    users = replace(u.users, decide=lambda command, state: None)
    with pytest.raises(TypeError, match="decide of 'users' returned None on a str: is a case missing"):
        command_to_event(users, b"k", None, CommandMessage("c", "c", None, 0, "register"), 0)
    users = replace(u.users, evolve=lambda state, event: None)
    with pytest.raises(TypeError, match="evolve of 'users' returned None on a str: is a case missing"):
        event_to_state(users, b"k", None, EventMessage(1, "c", "c", 0, "registered"))
