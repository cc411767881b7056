"""What surrounds a saga: its inbox, how it is wired, and how people see it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from pipeline.adapters.avro.codec import codecs
from pipeline.cli import main
from pipeline.engine.plan import ServicePlan
from pipeline.engine.stats import LaneStats
from pipeline.engine.steps.ask import asked_codecs
from pipeline.engine.steps.inbox import command_codec
from pipeline.engine.steps.step import Output
from pipeline.errors import SchemaError, TopologyError, UndecodableRecord
from pipeline.flow import ask_to_command, asked_by, reply_to_command
from pipeline.model import (
    Acceptance,
    Ask,
    CommandMessage,
    Intervention,
    Parked,
    Reaction,
    Rejected,
    Replied,
    ReplyMessage,
    Saga,
    Service,
    Summary,
    TimeUp,
)
from tests.helpers.market import MARKET, SALE, Buy, Command, Confirm, Hold

MAKE = codecs(MARKET.schemas)
ASK = Ask("reserve.0", "goods", "tea", Hold("o/1", 2), 3)
SENT = ask_to_command("sale", "o/1", ASK, "corr", "sale.command/1/7", 99, "sale.command/1/o/1")


def reply(command_id: str, body: Any) -> ReplyMessage:
    return ReplyMessage(command_id, "goods", 1, 5, 99, 100, 0, body)


# --- the way out and back ---------------------------------------------------------------------------------------------


def test_an_ask_is_a_command_that_says_who_asks_and_where_the_answer_goes() -> None:
    command_id = "sale/o/1/reserve.0/3"
    assert CommandMessage(command_id, "corr", "sale.command/1/7", 99, ASK.command, None, "sale.command/1/o/1") == SENT
    assert asked_by(command_id) == "sale/o/1"


def test_an_answer_comes_back_as_a_command_with_what_was_replied() -> None:
    found = reply_to_command("sale", reply(SENT.id, Acceptance(1, 0, ())))
    assert found == CommandMessage(
        f"reply:{SENT.id}", "sale/o/1", "goods.command/1/5", 100, Replied("reserve.0", 3, True)
    )
    of_today = reply(SENT.id, Acceptance(1, 0, ()))._replace(correlation_id="corr")
    assert reply_to_command("sale", of_today) == found._replace(correlation_id="corr")
    refused = reply_to_command("sale", reply(SENT.id, Rejected("out_of_stock", {"free": "1"})))
    assert refused is not None
    assert refused.body == Replied("reserve.0", 3, False, "out_of_stock", {"free": "1"})


@pytest.mark.parametrize("command_id", ["", "sale", "sale/o1", "move/o1/reserve.0/1", "sale/o1/reserve.0/x"])
def test_an_answer_to_something_else_is_none(command_id: str) -> None:
    assert reply_to_command("sale", reply(command_id, Acceptance(1, 0, ()))) is None


def test_the_inbox_holds_commands_and_answers() -> None:
    inbox = command_codec(MAKE, SALE.aggregate)
    replies = MAKE("reply", ReplyMessage, Acceptance | Rejected | Parked)
    begin = CommandMessage("c", "c", None, 1, Buy("o1", 1, 1))
    assert inbox.decode(inbox.encode(begin)) == begin
    assert inbox.decode(replies.encode(reply(SENT.id, Acceptance(1, 0, ())))).body == Replied("reserve.0", 3, True)
    with pytest.raises(UndecodableRecord, match="did not send"):
        inbox.decode(replies.encode(reply("move/m1/prepare-1.0/1", Acceptance(1, 0, ()))))
    with pytest.raises(UndecodableRecord):
        inbox.decode(b"nonsense")


class Sink:
    def __init__(self) -> None:
        self.sent: list[tuple[str, bytes | None]] = []

    def partitions(self, topic: str) -> int:
        return 4

    def produce(self, topic: str, key: bytes | None, value: bytes | None, partition: int = -1) -> None:
        self.sent.append((topic, key))


@pytest.mark.parametrize(
    ("command", "there"),
    [
        (SENT, True),
        (SENT._replace(causation_id=None), False),  # from outside
        (SENT._replace(id="sale/o2/reserve.0/3"), False),  # asked by another than it goes to
        (SENT._replace(id="mine"), False),
        (SENT._replace(reply_to="sale.event/1/o/1"), False),
    ],
)
def test_an_answer_goes_to_a_command_topic_only_to_who_has_asked(command: CommandMessage, there: bool) -> None:
    sink, stats = Sink(), LaneStats()
    Output(sink, stats).reply(command, b"reply")  # type: ignore[arg-type]
    assert sink.sent == ([("sale.command", b"o/1")] if there else [])
    assert stats.undeliverable_replies == (not there)


# --- the declaration --------------------------------------------------------------------------------------------------


def test_a_saga_is_wired_like_an_aggregate_and_needs_the_topics_of_those_whom_it_asks() -> None:
    plan = ServicePlan(MARKET.services["deals"], MAKE)
    own = {topic for topic, _ in plan.own_topics()}
    assert {"sale.command", "sale.event", "sale.state", "sale.deadlines"} <= own
    assert "sale.replies" not in own
    assert plan.followed_topics() == ["goods.command"]


def test_a_class_of_anothers_command_must_have_all_of_its_fields() -> None:
    @dataclass(frozen=True, slots=True)
    class Hold:
        transaction: str

    saga = Saga("sale", Buy, {"goods": Hold | Confirm}, None, lambda s, _: s, lambda s: [], lambda s: None)  # type: ignore[arg-type, return-value]
    with pytest.raises(SchemaError, match="class Hold has no field amount, since"):
        asked_codecs(MAKE, saga.aggregate)


def test_a_reaction_may_not_be_called_like_a_saga_of_its_service() -> None:
    reaction = Reaction("sale", MARKET.services["market"].aggregates[0].events, lambda key, event: [])
    with pytest.raises(TopologyError, match="same ids"):
        Service("deals", sagas=[SALE], reactions=[reaction])


def test_a_plan_names_each_thing_once() -> None:
    twice = [Ask("a", "goods", "tea", Confirm("t")), Ask("a", "goods", "pot", Confirm("t"))]
    saga: Saga[int] = Saga(
        "s", Buy, {"goods": Command}, 0, lambda s, _: s + 1, lambda s: twice, lambda s: Summary("", "", 0, (), "")
    )
    with pytest.raises(ValueError, match="two things of the name"):
        saga.decide(Buy("o", 1, 1), 0)


@pytest.mark.parametrize("step", ["", "a/b"])
def test_a_step_has_no_slash(step: str) -> None:
    with pytest.raises(ValueError, match="slash"):
        Ask(step, "goods", "tea", Confirm("t"))


# --- people -----------------------------------------------------------------------------------------------------------


class Workers:
    """Stands for QueryClient: one instance of each saga. `settled`: none is in flight."""

    settled = False

    def __init__(self, *_: Any) -> None: ...
    def __enter__(self) -> Workers:
        return self

    def __exit__(self, *_: object) -> None: ...

    def sagas(self, saga: str, states: Any) -> list[dict[str, Any]]:
        if "running" in states and self.settled:
            return []
        where = {"status": states[0], "step": "reserve", "attempt": 1, "waits_for": ["reserve.0"], "reason": "locked"}
        return [{"saga": saga, "key": f"{saga}-1", **where, "blocks": [], "since": "2026"}]

    def saga(self, saga: str, key: str) -> dict[str, Any]:
        return {**self.sagas(saga, ["stuck"])[0], "version": 7, "state": {"tea": 1}}

    def history(self, saga: str, key: str) -> list[dict[str, Any]]:
        return [{"version": 1, "event": {"type": "Started"}}]


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["saga", "list"], ["move-1", "sale-1", "running", "reserve.0"]),
        (["saga", "list", "sale", "--state", "stuck"], ["sale-1", "stuck"]),
        (["saga", "list", "sale", "--state", "undone,done"], ["sale-1", "undone"]),
        (["2pc", "list"], ["move-1"]),
        (["saga", "show", "sale", "o1"], ["status     stuck", "version    7", '{"type": "Started"}']),
        (["saga", "list", "sale", "--json"], ['"key": "sale-1"']),
    ],
)
def test_it_is_shown(
    arguments: list[str], expected: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pipeline.client.queries.QueryClient", Workers)
    for name in MARKET.services:
        (tmp_path / f"{name}.py").write_text(
            f'from tests.helpers.market import MARKET\nservice = MARKET.services["{name}"]\n'
        )
    where = ["--topology", str(tmp_path), "--bootstrap", "nowhere:1"]
    result = CliRunner(env={"COLUMNS": "200"}).invoke(main, [*arguments, *where])
    assert result.exit_code == 0, result.output
    assert all(each in result.output for each in expected), result.output
    assert ("sale-1" in result.output) == (arguments[0] == "saga")


@pytest.mark.parametrize("arguments", [["saga", "list"], ["saga", "retry"], ["2pc", "list"], ["2pc", "force"]])
def test_help_tells_of_each(arguments: list[str]) -> None:
    result = CliRunner().invoke(main, [*arguments, "--help"])
    assert result.exit_code == 0
    assert "--topology" in result.output


def test_what_a_person_does_has_a_reason() -> None:
    result = CliRunner().invoke(main, ["saga", "abort", "sale", "o1"])
    assert result.exit_code == 2
    assert "--why" in result.output
    assert Intervention("abort", "eve", "why").by == "eve"


def test_a_message_that_was_decided_is_not_evolved_again() -> None:
    asked: list[Any] = []

    def evolve(state: int, message: Any) -> int:
        asked.append(message)
        return state + len(message.timer)

    counts = Saga("counts", Intervention, {}, 0, evolve, lambda _: [], lambda _: Summary("", "", 0, (), ""))
    folded = counts.aggregate
    message, other = TimeUp("why"), TimeUp("because")
    assert folded.decide(message, 1000) == [message]
    assert folded.evolve(1000, message) == 1003
    assert asked == [message]
    assert folded.evolve(1003, message) == 1006
    assert folded.evolve(1003, other) == 1010
    assert folded.evolve(1003, message) == 1006
    assert asked == [message, message, other, message]


def test_a_list_without_any_in_flight_says_how_to_see_the_settled(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Workers, "settled", True)
    monkeypatch.setattr("pipeline.client.queries.QueryClient", Workers)
    list_ = ["saga", "list", "checkout_saga", "--topology", "topologies", "--bootstrap", "nowhere:1"]
    result = CliRunner().invoke(main, list_)
    assert result.output == "none in flight; --state done,undone shows those that have ended\n"
    result = CliRunner().invoke(main, [*list_, "--state", "done,gone"])
    assert (result.exit_code, "'gone' is not one of" in result.output) == (2, True), result.output
