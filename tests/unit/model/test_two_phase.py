"""Two-phase commit: the tables by hand, and thousands of schedules with everything that can go wrong on the way."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings

from pipeline.errors import TopologyError
from pipeline.model import Effect, Rejected
from pipeline.model.saga.coordinator import two_phase_saga
from pipeline.model.saga.participant import Claim, Ended, Ledger, Participant
from pipeline.model.saga.saga import Ask, Intervention, Replied, Saga, TimeUp
from pipeline.model.saga.two_phase import (
    COORDINATOR,
    PARTICIPANT,
    A,
    Able,
    Act,
    Asked,
    Coordination,
    Do,
    E,
    Event,
    G,
    Participation,
    Table,
    Transition,
    state_diagram,
    state_table,
)
from tests.helpers.market import (
    ESCROW,
    LOCK,
    MOVE,
    Confirm,
    Goods,
    Hold,
    Move,
    Moving,
    Release,
    decide,
    goods,
    move_saga,
    works,
)
from tests.helpers.protocol_world import SCHEDULE, ToGoods, ToSaga, World, finds
from tests.helpers.saga_run import SagaRun, no, yes

BEGIN = Move("m1", 7, ("a", "b"))


class Run(SagaRun):
    """One transaction, told one message after the other."""

    def __init__(self, saga: Saga[Any] = MOVE) -> None:
        super().__init__(saga)

    @property
    def at(self) -> str:
        return self.state.transaction.state


VOTED = (BEGIN, yes("prepare-1.0"), yes("prepare-1.1"))


def test_all_are_asked_and_told_to_commit_once_all_have_said_yes() -> None:
    run = Run().tell(BEGIN)
    assert run.asks() == (
        Ask("prepare-1.0", "goods", "a", Hold("m1/1", 1, 7)),
        Ask("prepare-1.1", "goods", "b", Hold("m1/1", 1, 7)),
    )
    assert run.timers() == (("vote/1", 10),)
    assert run.tell(yes("prepare-1.1")).sent() == []
    assert run.tell(yes("prepare-1.1"), yes("prepare-1.0")).sent() == ["commit-1.0/1", "commit-1.1/1"]
    assert (run.at, run.over(), run.timers()) == ("committing", ("vote/1",), (("outcome/0", 20),))


def test_a_commit_is_told_until_all_have_acknowledged_it_and_forgotten_only_then() -> None:
    run = Run().tell(*VOTED, yes("commit-1.0"))
    for times in range(1, 50):
        assert run.tell(TimeUp(f"outcome/{times - 1}")).sent() == [f"commit-1.1/{times + 1}"]
        assert run.at == "committing"
    assert run.saga.summary(run.state).status == "stuck"
    assert run.tell(yes("commit-1.1", 1)).sent() == ["settled-1.0/1"]
    assert run.at == "committed"
    assert run.tell(yes("settled-1.0")).state.transaction.telling == ()
    assert run.saga.summary(run.state).status == "done"


def test_a_no_aborts_and_is_final_at_once() -> None:
    run = Run().tell(BEGIN, no("prepare-1.1", "out_of_stock"))
    assert run.sent() == ["abort-1.0/1", "abort-1.1/1", "settled-1.0/1"]
    assert (run.at, run.state.transaction.reason) == ("aborted", "out_of_stock")
    assert run.tell(yes("abort-1.0"), yes("abort-1.1"), yes("settled-1.0")).saga.summary(run.state).status == "undone"
    assert run.tell(yes("prepare-1.0")).sent() == ["abort-1.0/1"]  # presumed


def test_no_vote_in_time_aborts() -> None:
    run = Run(move_saga(attempts=1)).tell(BEGIN, yes("prepare-1.0"), TimeUp("vote/1"))
    assert (run.at, run.state.transaction.reason) == ("aborted", "timeout")


def test_a_locked_participant_is_asked_again_after_a_while_as_another_attempt() -> None:
    run = Run().tell(BEGIN, yes("prepare-1.0"), no("prepare-1.1", "locked"))
    assert run.sent() == ["again-1.0/1", "again-1.1/1"]
    assert run.asks()[0].command == Release("m1/1", 7)
    assert run.timers() == (("backoff/1", 1.0), ("outcome/0", 20))
    assert run.tell(TimeUp("backoff/1")).sent() == ["prepare-2.0/1", "prepare-2.1/1"]
    assert run.tell(yes("prepare-1.0")).sent() == []  # being told already
    run.tell(yes("again-1.0"), yes("again-1.1"))
    assert run.tell(yes("prepare-1.0")).sent() == ["again-1.0/1"]  # a vote for what has been aborted
    run.tell(yes("prepare-2.0"), yes("prepare-2.1"))
    assert run.at == "committing"


def test_who_takes_part_in_nothing_is_done() -> None:
    assert Run().tell(Move("m", 1, ())).at == "committed"


def force(action: str) -> Intervention:
    return Intervention(action, "eve", "the pot is broken")


def test_what_is_forced_may_not_contradict_what_was_decided() -> None:
    run = Run().tell(BEGIN, yes("prepare-1.0"))
    assert MOVE.decide(force("commit"), run.state) == Rejected("votes_are_missing", {"state": "voting", "missing": "1"})
    aborted = Run().tell(BEGIN, force("abort"))
    assert (aborted.at, aborted.state.transaction.reason) == ("aborted", "abort forced by eve")
    assert MOVE.decide(force("commit"), aborted.state).reason == "already_decided"
    run.tell(yes("prepare-1.1"))
    assert MOVE.decide(force("abort"), run.state).reason == "already_decided"
    assert run.tell(force("commit")).sent() == ["commit-1.0/2", "commit-1.1/2"]
    run.tell(yes("commit-1.0"), yes("commit-1.1"))
    assert MOVE.decide(force("abort"), run.state).reason == "already_decided"
    assert MOVE.decide(force("skip"), run.state).reason == "unknown_action"
    assert MOVE.decide(force("abort"), Moving()).reason == "unknown_transaction"


def test_an_attempt_that_waits_can_be_forced_to_end() -> None:
    run = Run().tell(BEGIN, no("prepare-1.0", "locked"), force("abort"))
    assert (run.at, run.sent()) == ("aborted", ["abort-1.0/1", "abort-1.1/1", "settled-1.0/1"])


def test_an_outcome_that_a_participant_refuses_is_noted_and_told_again() -> None:
    run = Run().tell(*VOTED, no("commit-1.0", "not_prepared"))
    assert (run.at, run.state.transaction.trouble) == ("committing", "not_prepared")
    assert run.tell(TimeUp("outcome/0")).sent() == ["commit-1.0/2", "commit-1.1/2"]


def test_times_that_make_no_sense_are_refused() -> None:
    with pytest.raises(TopologyError, match="vote_s"):
        two_phase_saga("m", state=Moving(), begin=Move, begun=Moving, asks={}, works=works, vote_s=0)


# --- the participant --------------------------------------------------------------------------------------------------


def after(*commands: Any, participant: Participant = ESCROW, free: int = 2) -> Any:
    """The state after commands, or the Rejected of the last."""
    aggregate = goods(participant.guards(decide))
    state, decision = Goods(free), []
    for command in commands:
        decision = aggregate.decide(command, state)
        for event in [] if isinstance(decision, Rejected) else decision:
            state = aggregate.evolve(state, event)
    return decision if isinstance(decision, Rejected) else state


def test_votes_and_outcomes_can_be_repeated() -> None:
    once = after(Hold("t", 1))
    assert (once.free, once.ledger.held) == (1, 1)
    assert after(Hold("t", 1), Hold("t", 1)) == once
    done = after(Hold("t", 1), Confirm("t"))
    assert (done.free, done.gone, done.ledger) == (1, 1, Ledger(ended=(Ended("t", True),)))
    assert after(Hold("t", 1), Confirm("t"), Confirm("t"), Hold("t", 1)) == done
    let_go = after(Hold("t", 1), Release("t"))
    assert (let_go.free, let_go.gone) == (2, 0)
    assert after(Hold("t", 1), Release("t"), Release("t")) == let_go


@pytest.mark.parametrize(
    ("commands", "reason"),
    [
        ((Hold("t", 3),), "out_of_stock"),
        ((Release("t"), Hold("t", 1)), "already_aborted"),
        ((Hold("t", 1), Release("t"), Hold("t", 1)), "already_aborted"),
        ((Confirm("t"),), "not_prepared"),
        ((Hold("t", 1), Confirm("t"), Release("t")), "already_committed"),
        ((Hold("t", 1), Release("t"), Confirm("t")), "already_aborted"),
    ],
)
def test_what_a_participant_refuses(commands: tuple[Any, ...], reason: str) -> None:
    assert after(*commands).reason == reason


def test_amounts_commute() -> None:
    both = after(Hold("t", 1), Hold("u", 1))
    assert (both.free, both.ledger.held) == (0, 2)
    assert after(Hold("t", 1), Hold("u", 1), Release("t"), Hold("v", 1)).free == 0


def test_one_at_a_time_and_the_older_one_is_next() -> None:
    def locked(*commands: Any) -> Any:
        return after(*commands, participant=LOCK)

    assert locked(Hold("t/1", 1, 5), Hold("u/1", 1, 3)) == Rejected("locked", {"by": "t/1"})
    turned_away = (Hold("t/1", 1, 5), Release("u/1", 3), Release("t/1", 5))
    assert locked(*turned_away, Hold("t/2", 1, 5)) == Rejected("locked", {"by": "u"})
    taken = locked(*turned_away, Hold("u/2", 1, 3))
    assert taken.ledger.claims == (Claim("t", 5),)
    assert locked(*turned_away, Release("u/2"), Hold("t/2", 1, 5)).ledger.claims == ()
    assert locked(Hold("u/2", 1, 3), Confirm("u/2"), Release("u/1", 3)).ledger.claims == ()  # a late one


# --- the documentation ------------------------------------------------------------------------------------------------


def test_the_page_shows_the_tables_as_they_are() -> None:
    page = (Path(__file__).parents[3] / "docs" / "transactions.md").read_text()
    for table in (COORDINATOR, PARTICIPANT):
        assert f"```mermaid\n{state_diagram(table)}```" in page
        assert state_table(table) in page


# --- schedules --------------------------------------------------------------------------------------------------------

STOCK = {"a": 2, "b": 1, "lock": 5, "bell": 0}
BEGINS = [
    ToSaga("m1", Move("m1", 1, ("a", "b"))),
    ToSaga("m2", Move("m2", 2, ("lock", "a"))),
    ToSaga("m3", Move("m3", 3, ("a", "b", "lock"))),
]


class Moves(World):
    """Holds each message against what may never be said or done."""

    def tell(self, key: str, message: Any, crash: int = -1) -> None:
        decided = [s.transaction.state for s in self.seen.get(key, [])]
        super().tell(key, message, crash)
        now = self.states.get(key, Moving()).transaction.state
        if "committing" in decided:
            assert now in ("committing", "committed"), (key, decided, now)
        if "aborted" in decided:
            assert now == "aborted", (key, decided, now)

    def command(self, message: ToGoods, crash: int = -1) -> None:
        before = len(self.acts)
        super().command(message, crash)
        for act in self.acts[before:]:
            if isinstance(act.command, Hold) and act.accepted:
                assert not any(
                    earlier.key == act.key and earlier.command == Release(act.command.transaction, again)
                    for again in (0, act.command.since)
                    for earlier in self.acts[:before]
                ), "it votes yes for what it has aborted"


def drive(
    schedule: bytes, saga: Saga[Any] = MOVE, table: Participation = PARTICIPANT, *, forgets: bool = False
) -> None:
    escrow, lock = (replace(each, table=table).guards(decide) for each in (ESCROW, LOCK))
    world = Moves(saga, goods(escrow), {key: Goods(n) for key, n in STOCK.items()}, decides_after_telling=forgets)
    plain = world.decide

    def one_or_many(ask: Ask) -> Replied:
        world.goods = goods(lock if ask.key == "lock" else escrow)
        return plain(ask)

    world.decide = one_or_many  # type: ignore[method-assign]
    world.run(BEGINS, schedule)
    rung = world.stock["bell"].free
    world.check_goods(STOCK | {"bell": rung})
    assert rung >= len(BEGINS)
    committed = [s for s in world.states.values() if s.transaction.state == "committed"]
    for key in ("a", "b", "lock"):
        assert world.stock[key].gone == sum(key in state.places for state in committed), (key, world.stock)


@settings(max_examples=1_000, deadline=None)
@given(SCHEDULE)
def test_whatever_happens_on_the_way_all_do_it_or_none(schedule: bytes) -> None:
    drive(schedule)


def test_what_a_turn_saves_asking_would_have_owed_nothing_more(monkeypatch: pytest.MonkeyPatch) -> None:
    due = Saga.due

    def asked_all_the_same(self: Saga[Any], before: Any, after: Any) -> list[Effect]:
        found = due(self, before, after)
        assert found == due(replace(self, turn=None), before, after)
        return found

    monkeypatch.setattr(Saga, "due", asked_all_the_same)
    settings(max_examples=1_000, deadline=None)(given(SCHEDULE)(lambda schedule: drive(schedule)))()


def test_a_coordinator_that_forgets_its_decision_is_found() -> None:
    assert finds(lambda schedule: drive(schedule, forgets=True))


def without(table: Table[E, G, A], state: str, event: str, *instead: Transition[E, G, A]) -> Table[E, G, A]:
    return (*(row for row in table if (row.state, row.event) != (state, event)), *instead)


@pytest.mark.parametrize(
    "table",
    [
        without(
            PARTICIPANT, "aborted", "prepare", Transition("aborted", Asked.PREPARE, None, "aborted", (Act.VOTE_YES,))
        ),
        without(
            PARTICIPANT, "aborted", "prepare", *(r for r in PARTICIPANT if (r.state, r.event) == ("unknown", "prepare"))
        ),
        without(
            PARTICIPANT,
            "prepared",
            "commit",
            Transition("prepared", Asked.COMMIT, None, "prepared", (Act.ACKNOWLEDGE,)),
        ),
    ],
    ids=["votes yes after an abort", "holds again after an abort", "acknowledges and does nothing"],
)
def test_a_participant_that_breaks_its_word_is_found(table: Participation) -> None:
    assert finds(lambda schedule: drive(schedule, table=replace_aborted(table)))


def replace_aborted(table: Participation) -> Participation:
    """Rows that were copied from another state, as rows of `aborted`."""
    seen: list[Transition[Asked, Able, Act]] = []
    for row in table:
        seen.append(row._replace(state="aborted") if row in seen else row)
    return seen


@pytest.mark.parametrize(
    "table",
    [
        without(
            COORDINATOR,
            "committing",
            "acknowledged",
            Transition("committing", Event.ACKNOWLEDGED, None, "committed", (Do.TELL_NO_MORE,)),
        ),
        without(
            COORDINATOR,
            "committing",
            "not acknowledged in time",
            Transition("committing", Event.UNACKNOWLEDGED, None, "aborted", (Do.ABORT,)),
        ),
        without(
            COORDINATOR, "voting", "yes", Transition("voting", Event.YES, None, "committing", (Do.COUNT, Do.COMMIT))
        ),
        without(COORDINATOR, "aborted", "not acknowledged in time"),
    ],
    ids=["forgets after one acknowledgement", "changes its mind", "does not wait for all votes", "tells an abort once"],
)
def test_a_coordinator_that_breaks_the_table_is_found(table: Coordination) -> None:
    assert finds(lambda schedule: drive(schedule, saga=move_saga(table)))
