"""The history checker on decisions that have read a copy: made again as of the position that they have recorded."""

from __future__ import annotations

from dataclasses import replace

import pytest

from pipeline.demo.commands import Asked
from pipeline.engine.ports import TP
from pipeline.model import EventMessage, Rejected
from pipeline.topology import Topology
from pipeline.verify import judge
from tests.helpers.histories import MemoryHistory
from tests.unit.verify.test_verify import AT, SHOP, index, kinds, line, one, replaced
from topologies import orders as o
from topologies import users as u

LINES = (line("TEA", 1),)
ANNA = [Asked("users", "anna", u.RegisterUser("anna", "France"))]
MOVES = [Asked("users", "anna", u.ChangeCountry(country)) for country in ("Spain", "Italy")]
BEFORE, AFTER, NOBODY, GIVEN = (
    Asked("orders", "1", o.PlaceOrder("anna", "", AT, LINES)),
    Asked("orders", "2", o.PlaceOrder("anna", "", AT, LINES)),
    Asked("orders", "3", o.PlaceOrder("nobody", "", AT, LINES)),
    Asked("orders", "4", o.PlaceOrder("nobody", "Malta", AT, LINES)),
)


def history_of(topology: Topology = SHOP) -> MemoryHistory:
    history = MemoryHistory(topology)
    for part in ([*ANNA, NOBODY], [BEFORE], MOVES, [AFTER, GIVEN]):
        history.send(part)
        history.run()
    return history


def event(history: MemoryHistory, order: bytes) -> tuple[TP, int, EventMessage]:
    tp = history.place("orders.event", order)
    at = index(history, tp, order, 0)
    found: EventMessage = history.codec[tp.topic].decode(history.logs[tp][at].value)
    return tp, at, found


def recorded(history: MemoryHistory, order: bytes, read: str | None, *topics: str) -> None:
    """Has an order's event, or the reply, or both, record another position."""
    tp, at, _ = event(history, order)
    if "orders.event" in topics:
        replaced(history, tp, at, read=read)
    if "orders.replies" in topics:
        answers = tp._replace(topic="orders.replies")
        codec = history.codec[answers.topic]
        keys = [(entry.key or b"")[4:5] for entry in history.logs[answers]]
        number = keys.index(order)
        message = codec.decode(history.logs[answers][number].value)._replace(read=read)
        if message.body.events:  # each as it stands in the log
            value = history.logs[tp][at].value
            message = message._replace(body=replace(message.body, events=(value,)))
        history.logs[answers][number] = history.logs[answers][number]._replace(value=codec.encode(message))


def test_decisions_are_made_again_with_the_copy_of_then() -> None:
    history = history_of()
    report = judge(history, SHOP)
    assert report.clean, report.findings
    (_, _, before), (_, _, after), (_, _, given) = (event(history, order) for order in (b"1", b"2", b"4"))
    assert before.body.country == "France"
    assert after.body.country in ("Spain", "Italy")
    assert given.read is None, "it names its country, so nothing was read"
    source = history.place("users.event", b"anna")
    assert before.read == f"users.event/{source.partition}@0"
    assert report.checked["decided with a copy"] == 2, "of the third, nothing was there to be read"
    assert report.rejected == {"orders/unknown_country": 1}


@pytest.mark.parametrize("far", [0, None])
def test_another_position_than_was_read(far: int | None) -> None:
    """It is as of a time when anna was elsewhere, or not there at all."""
    history = history_of()
    source = history.place("users.event", b"anna")
    read = None if far is None else f"users.event/{source.partition}@{far}"
    recorded(history, b"2", read, "orders.event", "orders.replies")
    report = judge(history, SHOP)
    assert {"wrong_event", "wrong_reply"} <= kinds(report) or "extra_event" in kinds(report)
    assert all(finding.key == "2" for finding in report.findings if finding.service == "orders")


def test_an_event_and_its_reply_that_tell_two_positions() -> None:
    history = history_of()
    source = history.place("users.event", b"anna")
    recorded(history, b"1", f"users.event/{source.partition}@1", "orders.event")
    assert kinds(judge(history, SHOP)) == {"wrong_event"}, "the reply is believed, and it is right"
    history = history_of()
    recorded(history, b"1", None, "orders.replies")
    assert "wrong_reply" in kinds(judge(history, SHOP)) or "extra_event" in kinds(judge(history, SHOP))


def test_a_rejection_as_of_a_time_when_the_customer_was_known() -> None:
    history = history_of()
    source = history.place("users.event", b"anna")
    codec, topic = history.codec["orders.command"], history.place("orders.command", b"3")
    at = index(history, topic, b"3")
    message = codec.decode(history.logs[topic][at].value)
    changed = message._replace(body=replace(message.body, customer="anna"))
    history.logs[topic][at] = history.logs[topic][at]._replace(value=codec.encode(changed))
    report = judge(history, SHOP)
    assert kinds(report) == {"wrong_reply"}, "by what the reply says, nothing was known; but it names another customer"
    answers = topic._replace(topic="orders.replies")
    number = [(entry.key or b"")[4:5] for entry in history.logs[answers]].index(b"3")
    reply = history.codec[answers.topic].decode(history.logs[answers][number].value)
    assert isinstance(reply.body, Rejected)
    told = reply._replace(read=f"users.event/{source.partition}@0")
    history.logs[answers][number] = history.logs[answers][number]._replace(
        value=history.codec[answers.topic].encode(told)
    )
    assert {"wrong_reply", "missing_event"} <= kinds(judge(history, SHOP)), "then anna was in France"


def test_a_position_that_no_copy_can_have_had() -> None:
    history = history_of()
    source = history.place("users.event", b"anna")
    read = f"users.event/{source.partition}@{history.ends[source]}"
    recorded(history, b"2", read, "orders.event")
    report = judge(history, SHOP)
    assert "unknown_position" in kinds(report)
    assert one(report, "unknown_position").topic == "orders.event"
    recorded(history, b"2", "nonsense", "orders.event")
    assert "unknown_position" in kinds(judge(history, SHOP))


def test_a_reply_that_is_missing_is_missed() -> None:
    history = history_of()
    answers = history.place("orders.replies", b"3")
    number = [(entry.key or b"")[4:5] for entry in history.logs[answers]].index(b"3")
    del history.logs[answers][number]
    assert kinds(judge(history, SHOP)) == {"missing_reply"}


def test_where_no_replies_are_remembered_a_rejection_is_not_judged() -> None:
    forgetful = replace(o.orders, idempotency=None)
    services = {**SHOP.services, "orders": replace(SHOP.services["orders"], aggregates=[forgetful])}
    history = history_of(replace(SHOP, services=services))
    report = judge(history, history.topology)
    assert report.clean, report.findings
    (note,) = [note for note in report.notes if "copy" in note]
    assert "1 commands read a copy" in note
    tp, at, _ = event(history, b"2")
    replaced(history, tp, at, read=event(history, b"1")[2].read)
    assert "wrong_event" in kinds(judge(history, history.topology)), "but what has events is"


def test_a_reply_that_tells_of_a_copy_that_was_not_read() -> None:
    history = history_of()
    source = history.place("users.event", b"anna")
    recorded(history, b"4", f"users.event/{source.partition}@0", "orders.replies")
    assert kinds(judge(history, SHOP)) == {"wrong_reply"}
