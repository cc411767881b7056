"""What becomes of an old event: the event of today in its place, several, none, or a failure that says why."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import pytest

from pipeline import Projection, Replica, Tumbling
from pipeline.errors import Ending, UpcastFailed
from pipeline.flow import event_to_messages, event_to_row, event_to_state, late_events
from pipeline.flow.functions.upcasting import upcasting
from pipeline.model import EventMessage, StateMessage
from pipeline.model.changes.upcasts import Upcast, today
from tests.helpers import accounts_split as a


@dataclass(frozen=True, slots=True)
class Older:
    amount: int


OLD = a.Transferred(10, 1)
PARTS = (a.Withdrawn(10), a.Charged(1))


def message(body: Any, version: int = 1) -> EventMessage:
    return EventMessage(version, "c", "corr", 1_000, body)


def upcast(body: Any, upcasts: dict[type, Callable[[Any], Any]]) -> Any:
    read = upcasting("accounts.event", a.Withdrawn | a.Charged, upcasts)(message(body))
    assert read is not None
    assert read._replace(body=None) == message(None)  # nothing else changes
    return read.body


def test_one_event_takes_the_place_of_the_old_one() -> None:
    for one in (lambda old: a.Withdrawn(old.amount), lambda old: [a.Withdrawn(old.amount)]):
        assert upcast(OLD, {a.Transferred: one}) == a.Withdrawn(10)
    assert upcast(a.Charged(3), a.UPCASTS) == a.Charged(3)
    assert upcasting("t", a.Charged, a.UPCASTS)(None) is None
    assert upcast(None, a.UPCASTS) is None  # not followed


def test_what_it_gives_is_as_it_would_be_read_back() -> None:
    read = upcasting(
        "t", a.Withdrawn, {a.Transferred: lambda old: a.Withdrawn(old.amount)}, lambda event: a.Withdrawn(7)
    )
    assert read(message(a.Transferred(10, 1))) == message(a.Withdrawn(7))


def test_several_events_and_none_stand_beside_the_old_one() -> None:
    assert upcast(OLD, a.UPCASTS) == Upcast(OLD, PARTS)
    assert upcast(a.Greeted("hi"), a.UPCASTS) == Upcast(a.Greeted("hi"), ())

    def yields(old: a.Transferred) -> Iterator[Any]:
        yield a.Withdrawn(old.amount)
        yield a.Charged(old.fee)

    assert upcast(OLD, {a.Transferred: yields}) == Upcast(OLD, PARTS)


def test_a_chain_goes_on_until_all_are_of_today() -> None:
    chain = {Older: lambda old: [a.Charged(0), a.Transferred(old.amount, 1), a.Greeted("hi")], **a.UPCASTS}
    assert upcast(Older(10), chain) == Upcast(Older(10), (a.Charged(0), *PARTS))


@pytest.mark.parametrize(
    ("upcaster", "why"),
    [
        (lambda old: old.nothing, "raised AttributeError: 'Transferred' object has no attribute 'nothing'"),
        (lambda old: Older(1), r"gave Older\(amount=1\), which is no event of today"),
        (lambda old: ["text"], "gave 'text', which is no event of today"),
        (lambda old: None, "raised TypeError: it returned None on a Transferred: is a case missing"),
        (lambda old: old, "gives old events in a circle"),
    ],
)
def test_a_failure_is_raised_where_the_event_is_folded(upcaster: Any, why: str) -> None:
    body = upcast(OLD, {a.Transferred: upcaster})
    assert body.old == OLD
    for fold in (
        lambda event: event_to_state(a.NOW, b"k", None, event),
        lambda event: event_to_row(Replica("r", a.NOW.events, a.Sum(), a.add), b"k", None, event),
        today,
    ):
        with pytest.raises(UpcastFailed, match=f"the upcaster of Transferred on accounts.event {why}"):
            fold(message(body))


def test_what_ends_a_process_is_no_failure_of_an_upcaster() -> None:
    def ends(old: Any) -> Any:
        raise Ending

    with pytest.raises(Ending):
        upcast(OLD, {a.Transferred: ends})


def test_parts_are_folded_in_their_order_as_one_version() -> None:
    read = message(Upcast(OLD, PARTS), 7)
    assert event_to_state(a.NOW, b"k", None, read) == StateMessage(7, 1_000, a.Account(-11, 1))
    seen: list[Any] = []
    noting = replace(a.NOW, evolve=lambda state, event, context: seen.append((event, context.version)) or state)
    event_to_state(noting, b"k", None, read)
    assert seen == [(part, 7) for part in PARTS]


def test_an_event_without_parts_counts_as_a_version_and_makes_no_row() -> None:
    read = message(Upcast(a.Greeted("hi"), ()), 2)
    before = StateMessage(1, 5, a.Account(3))
    assert event_to_state(a.NOW, b"k", before, read) == StateMessage(2, 1_000, a.Account(3))
    assert event_to_state(a.NOW, b"k", None, read) == StateMessage(2, 1_000, a.Account())
    table = Replica("r", a.NOW.events, a.Sum(), a.add)
    assert event_to_row(table, b"k", None, read) is None
    assert event_to_row(table, b"k", a.Sum(1, 1), read) == a.Sum(1, 1)


def test_a_row_that_a_part_deletes_begins_anew_with_the_next() -> None:
    def evolve(row: a.Sum, event: Any) -> a.Sum | None:
        return None if isinstance(event, a.Withdrawn) else a.add(row, event)

    table = Replica("r", a.NOW.events, a.Sum(), evolve)
    assert event_to_row(table, b"k", a.Sum(9, 9), message(Upcast(OLD, PARTS))) == a.Sum(1, 1)


def test_each_part_has_the_window_of_its_own_time() -> None:
    windows = Tumbling(1_000, at=lambda event: 500 if isinstance(event, a.Charged) else 2_500, grace_ms=100)
    table = Projection("kinds", [a.NOW.events], a.Sum(), a.add_amount, by_key=a.Amount, route=a.route, windows=windows)
    read = message(Upcast(OLD, PARTS))._replace(time_ms=2_600)
    assert late_events(table, read) == 1  # the charge; what it left out is counted
    assert [key for key, _ in event_to_messages(table, "accounts.event", "k", read)] == [
        "Withdrawn/1970-01-01T00:00:02Z"
    ]
