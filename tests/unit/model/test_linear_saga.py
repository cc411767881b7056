"""A saga of steps: each path by hand, and thousands of schedules with everything that can go wrong on the way."""

from __future__ import annotations

import re
from dataclasses import replace
from importlib import import_module
from typing import Any

import pytest
from hypothesis import given, settings

from pipeline.errors import TopologyError
from pipeline.model import Rejected
from pipeline.model.saga.linear import linear_saga
from pipeline.model.saga.participant import Ledger
from pipeline.model.saga.saga import Ask, Intervention, Saga, Started, TimeUp
from pipeline.model.saga.steps import Progress, Step
from tests.helpers.market import (
    ESCROW,
    SALE,
    STEPS,
    Buy,
    Goods,
    Hold,
    Sale,
    begun,
    decide,
    goods,
    pay,
    sale_saga,
    steps,
    unpay,
)
from tests.helpers.protocol_world import SCHEDULE, ToSaga, World, finds
from tests.helpers.saga_run import SagaRun, no, yes

MODULE = import_module("pipeline.model.saga.linear")  # its name is also that of its function


class Run(SagaRun):
    """One instance, told one message after the other."""

    def __init__(self, saga: Saga[Any] = SALE) -> None:
        super().__init__(saga)

    def status(self) -> str:
        return self.saga.summary(self.state).status


BUY = Buy("o1", 2, 1)
RESERVED = (BUY, yes("reserve.0"), yes("reserve.1"))


def test_steps_come_one_after_the_other_and_their_commands_at_once() -> None:
    run = Run().tell(BUY)
    assert run.asks() == (
        Ask("reserve.0", "goods", "tea", Hold("o1", 2)),
        Ask("reserve.1", "goods", "pot", Hold("o1", 1)),
    )
    assert run.timers() == (("reserve/1/timeout", 10),)
    assert run.tell(yes("reserve.1")).sent() == []
    run.tell(yes("reserve.0"))
    assert run.sent() == ["pay.0/1"]
    assert run.over() == ("reserve/1/timeout",)
    assert run.tell(yes("pay.0")).sent() == ["take.0/1", "take.1/1", "take.2/1"]
    run.tell(yes("take.0"), yes("take.2"), yes("take.1"))
    assert (run.sent(), run.status(), run.over()) == ([], "done", ("take/1/timeout",))


def test_a_refused_step_undoes_what_succeeded_last_first() -> None:
    run = Run().tell(*RESERVED, no("pay.0", "poor"))
    assert run.sent() == ["undo-reserve.0/1", "undo-reserve.1/1"]
    assert run.status() == "compensating"
    run.tell(yes("undo-reserve.0"), yes("undo-reserve.1"))
    assert (run.status(), run.state.progress.reason) == ("undone", "poor")


def test_of_the_step_that_fails_only_what_was_accepted_is_undone() -> None:
    run = Run().tell(BUY, yes("reserve.0"), no("reserve.1", "out_of_stock"))
    assert run.sent() == ["undo-reserve.0/1"]


def test_what_is_worth_another_attempt_is_tried_again_after_a_while_under_another_id() -> None:
    run = Run().tell(BUY, no("reserve.0", "locked"), yes("reserve.1"))
    assert run.timers() == (("reserve/1/backoff", 1.0),)
    assert run.tell(TimeUp("reserve/1/backoff")).sent() == ["reserve.0/2"]
    assert run.tell(no("reserve.0", "locked", 2)).sent() == ["undo-reserve.1/1"]


def test_one_reason_that_will_not_go_away_outweighs_those_that_may() -> None:
    run = Run().tell(BUY, no("reserve.0", "out_of_stock"), no("reserve.1", "locked"))
    assert (run.status(), run.state.progress.reason) == ("undone", "out_of_stock")


def test_what_is_not_answered_in_time_may_have_been_done_and_is_undone() -> None:
    run = Run().tell(*RESERVED, TimeUp("pay/1/timeout"))
    assert run.sent() == ["undo-pay.0/1"]
    assert run.tell(yes("pay.0")).sent() == []  # too late
    assert run.tell(yes("undo-pay.0")).sent() == ["undo-reserve.0/1", "undo-reserve.1/1"]


def test_a_late_yes_to_an_earlier_attempt_counts() -> None:
    run = Run().tell(BUY, yes("reserve.0"), TimeUp("reserve/1/timeout"))
    assert run.timers() == (("reserve/1/backoff", 1.0),)
    assert run.tell(yes("reserve.1")).sent() == ["pay.0/1"]


def test_repeated_and_foreign_answers_change_nothing() -> None:
    run = Run().tell(BUY, yes("reserve.0"))
    for message in (yes("reserve.0"), yes("reserve.7"), yes("pay.0"), yes("undo-reserve.0"), yes("x"), BUY):
        assert SALE.decide(message, run.state) == []


def test_a_compensation_is_tried_until_it_succeeds_and_is_stuck_meanwhile() -> None:
    run = Run().tell(BUY, yes("reserve.0"), no("reserve.1", "out_of_stock"))
    for attempt in range(1, 9):
        run.tell(no("undo-reserve.0", "broken", attempt))
        assert run.status() == ("stuck" if attempt >= 5 else "compensating")
        run.tell(TimeUp(f"undo-reserve/{attempt}/backoff"))
        assert run.sent() == [f"undo-reserve.0/{attempt + 1}"]
    assert run.tell(yes("undo-reserve.0", 9)).status() == "undone"


def test_a_step_that_must_succeed_is_never_undone() -> None:
    run = Run().tell(*RESERVED, yes("pay.0"), yes("take.0"), yes("take.1"), no("take.2", "broken"))
    assert (run.status(), run.timers()) == ("running", (("take/1/backoff", 1.0),))
    assert SALE.decide(Intervention("abort", "eve", "why"), run.state) == Rejected("no_way_back", {"step": "take"})


def person(action: str) -> Intervention:
    return Intervention(action, "eve", "the pot is broken")


def test_what_has_to_succeed_and_is_not_answered_is_stuck_and_goes_on_waiting() -> None:
    run = Run(sale_saga(*steps(ask_again=False))).tell(*RESERVED, yes("pay.0"), TimeUp("take/1/timeout"))
    assert (run.sent(), run.timers(), run.status()) == ([], (), "stuck")
    assert run.tell(yes("take.0"), yes("take.1"), yes("take.2")).status() == "done"
    undoing = Run(sale_saga(*steps(ask_again=False))).tell(
        *RESERVED, no("pay.0", "poor"), TimeUp("undo-reserve/1/timeout")
    )
    assert (undoing.sent(), undoing.status()) == ([], "stuck")
    assert undoing.tell(yes("undo-reserve.0"), yes("undo-reserve.1")).status() == "undone"


def test_a_person_can_retry_skip_and_abort() -> None:
    run = Run().tell(BUY, yes("reserve.0"), person("retry"))
    assert run.sent() == ["reserve.1/2"]
    assert run.tell(person("skip")).sent() == ["pay.0/1"]
    assert run.tell(person("abort")).sent() == ["undo-pay.0/1"]
    assert run.tell(person("skip")).sent() == ["undo-reserve.0/1", "undo-reserve.1/1"]
    assert SALE.decide(person("abort"), run.state) == Rejected("already_compensating")
    run.tell(yes("undo-reserve.0"), yes("undo-reserve.1"))
    assert SALE.decide(person("skip"), run.state) == Rejected("already_settled", {"status": "undone"})
    assert SALE.decide(person("skip"), Sale()) == Rejected("unknown_saga")


def test_what_a_person_did_is_an_event() -> None:
    run = Run().tell(BUY)
    assert SALE.decide(person("abort"), run.state)[0] == person("abort")


def test_an_instance_goes_by_the_version_that_it_began_with() -> None:
    old = Run().tell(BUY)
    assert old.state.progress.definition == 1
    both = linear_saga(
        "sale", state=Sale(), begin=Buy, begun=begun, asks={}, versions={1: STEPS, 2: (Step("gift", do=pay),)}
    )
    old.saga = both
    assert old.tell(yes("reserve.0"), yes("reserve.1")).sent() == ["pay.0/1"]
    assert both.decide(BUY, Sale())[:2] == [Started(2), BUY]
    assert Run(both).tell(BUY).sent() == ["gift.0/1"]
    only_new = linear_saga("sale", state=Sale(), begin=Buy, begun=begun, asks={}, versions={2: STEPS})
    with pytest.raises(TopologyError, match="version 1"):
        only_new.evolve(old.state, yes("pay.0"))


def test_the_events_alone_give_the_state_whatever_version_is_the_latest_by_then() -> None:
    state = Sale()
    for event in (Started(1), BUY):
        state = SALE.evolve(state, event)
    later = linear_saga("sale", state=Sale(), begin=Buy, begun=begun, asks={}, versions={1: STEPS, 2: STEPS[:1]})
    again = Sale()
    for event in SALE.decide(BUY, Sale())[:2]:
        again = later.evolve(again, event)
    assert again == state


@pytest.mark.parametrize(
    ("steps", "says"),
    [
        ((Step("a", do=pay), Step("a", do=pay)), "'a'"),
        ((Step("Pay me", do=pay),), "Pay me"),
        ((Step("a", do=pay, must=True), Step("b", do=pay)), "'b' may fail"),
        ((Step("a", do=pay, undo=unpay, must=True),), "nothing ever undoes"),
    ],
)
def test_steps_that_make_no_saga_are_refused(steps: tuple[Step, ...], says: str) -> None:
    with pytest.raises(TopologyError, match=says):
        sale_saga(*steps)


def test_the_diagram_shows_both_ways() -> None:
    arrows = set(re.findall(r"(\S+) --> (\S+?)(?::|$)", SALE.diagram, re.MULTILINE))
    assert {("reserve", "pay"), ("pay", "take"), ("pay", "undo_pay"), ("undo_pay", "undo_reserve")} <= arrows
    assert ("take", "undo_pay") not in arrows


def test_the_diagram_shows_that_a_refused_step_itself_is_not_undone() -> None:
    arrows = {line.strip() for line in SALE.diagram.splitlines()}
    assert {"reserve --> undone: refused", "pay --> undo_reserve: refused"} <= arrows
    assert "pay --> undo_pay: refused in part, timeout or abort" in arrows
    assert Run().tell(*RESERVED, no("pay.0", "poor")).sent()[0].startswith("undo-reserve")  # as the saga does
    assert Run().tell(*RESERVED, TimeUp("pay/1/timeout")).sent()[0].startswith("undo-pay")


# --- schedules --------------------------------------------------------------------------------------------------------

STOCK = {"tea": 3, "pot": 2, "purse": 6}
BEGINS = [ToSaga(buy.order, buy) for buy in (Buy("o1", 2, 1), Buy("o2", 2, 1), Buy("o3", 1, 2))]


def drive(saga: Saga[Any], guarded: Any, schedule: bytes) -> None:
    world = World(saga, goods(guarded), {key: Goods(amount) for key, amount in STOCK.items()}, answers={})
    world.run(BEGINS, schedule)
    world.check_goods(STOCK)
    gone = {key: STOCK[key] - stock.free for key, stock in world.stock.items()}
    sold = [state for state in world.states.values() if state.progress.status == "done"]
    assert gone["tea"] == sum(sale.tea for sale in sold)
    assert gone["pot"] == sum(sale.pot for sale in sold)
    assert gone["purse"] == sum(sale.tea + sale.pot for sale in sold)
    for key, seen in world.seen.items():
        undoing = [s.progress.step for s in seen if s.progress.status == "compensating"]
        assert undoing == sorted(undoing, key=["take", "pay", "reserve"].index), (key, undoing)


@settings(max_examples=1_000, deadline=None)
@given(SCHEDULE)
def test_whatever_happens_on_the_way_it_is_all_or_nothing_in_the_end(schedule: bytes) -> None:
    drive(SALE, ESCROW.guards(decide), schedule)


def found(saga: Saga[Any], guarded: Any) -> bool:
    """Whether some schedule shows a planted bug."""
    return finds(lambda schedule: drive(saga, guarded, schedule))


def test_a_compensation_out_of_order_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    right = MODULE._Runner._undo

    def first_first(self: Any, state: Any, p: Progress) -> Progress:
        return right(self, state, replace(p, done=tuple(reversed(p.done))))

    monkeypatch.setattr(MODULE._Runner, "_undo", first_first)
    assert found(sale_saga(), ESCROW.guards(decide))


def test_a_compensation_that_forgets_what_is_in_doubt_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(MODULE, "_with_this", lambda p: p.done)
    assert found(sale_saga(), ESCROW.guards(decide))


def test_a_participant_that_does_what_has_been_undone_is_found() -> None:
    forgetful = replace(ESCROW, ledger=lambda state: Ledger(state.ledger.holds))
    assert found(sale_saga(), forgetful.guards(decide))
