"""The benchmarks' topology, records, load and comparison; what they measure is not for a test to say."""

import json
from dataclasses import asdict
from pathlib import Path

import pytest

from benchmarks.peers import candidate
from benchmarks.peers.accounts import Command, Event, State, accounts
from benchmarks.peers.commands import commands
from benchmarks.peers.contract import CAUSE, bare_codecs
from benchmarks.scaling import BASE, SETTINGS
from benchmarks.steps.compare import RECORD, compared
from benchmarks.steps.features import cost_us, costs_compared
from benchmarks.steps.step_costs import Step
from benchmarks.steps.workloads import kinds
from pipeline.engine.plan import ServicePlan
from pipeline.errors import SchemaError
from pipeline.model import CommandMessage, EventMessage, StateMessage
from pipeline.testing import given


def command(kind: str, amount: int, n: int = 1) -> Command:
    return Command(f"c{n}", "acct-1", kind, amount, 1000 + n)


def event(kind: str, amount: int, balance: int, version: int, n: int = 1) -> Event:
    return Event(None, f"c{n}", "acct-1", kind, amount, balance, version, 1000 + n)


OPENED = event("opened", 50, 50, 1)


def test_an_account_is_opened_deposited_to_and_withdrawn_from() -> None:
    account = given(accounts).when(command("open", 50)).then(OPENED)
    account = account.when(command("deposit", 7, 2)).then(event("deposited", 7, 57, 2, 2))
    account = account.when(command("withdraw", 57, 3)).then(event("withdrawn", 57, 0, 3, 3))
    account.has(State(3, 0, "c3"))


def test_what_is_not_there_cannot_be_withdrawn_and_a_rejection_changes_nothing() -> None:
    account = given(accounts, OPENED).when(command("withdraw", 51, 2)).then(event("rejected", 51, 50, 1, 2))
    account.has(State(1, 50, "c1"))


def test_opening_again_sets_the_balance() -> None:
    given(accounts, OPENED).when(command("open", 9, 2)).then(event("opened", 9, 9, 2, 2))


def test_records_of_the_contract_have_no_envelope() -> None:
    plan = ServicePlan(candidate.service, bare_codecs(candidate.SCHEMAS))
    make = bare_codecs(candidate.SCHEMAS)
    commands_codec = make("accounts.command", CommandMessage, Command)
    asked = command("open", 5)
    message = CommandMessage("c1", "c1", CAUSE, 1001, asked)
    assert commands_codec.decode(commands_codec.encode(message)) == message
    assert message.body == asked
    events = make("accounts.event", EventMessage, Event)
    assert events.encode(EventMessage(9, "", "", 0, OPENED))[:6] == b"\0\0\0\0\2\0"  # header of id 2, no event_id
    states = make("accounts.state", StateMessage, State)
    assert states.decode(states.encode(StateMessage(9, 9, State(3, 7, "c3")))) == StateMessage(3, 0, State(3, 7, "c3"))
    assert plan.group == "accounts"


def test_the_candidate_takes_all_names_from_the_environment(tmp_path: Path) -> None:
    environment = {"GROUP": "g", "COMMAND_TOPIC": "in", "EVENT_TOPIC": "out", "CHANGELOG_TOPIC": "g-accounts-changelog"}
    plan = ServicePlan(candidate.service, bare_codecs(candidate.SCHEMAS), candidate.topology(environment).names)
    assert plan.group == "g"
    rest = ["g-queue", "g-parked", "g-positions"]
    assert [topic for topic, _ in plan.own_topics()] == ["in", "out", "g-accounts-changelog", *rest]
    assert plan.co_partitioned() == {"in": ["g-queue", "out", "g-accounts-changelog"]}
    for kind in ("command", "event", "state"):
        (tmp_path / f"{kind}.avsc").write_text((candidate.SCHEMAS / f"accounts.{kind}.avsc").read_text())
    candidate.check_schemas(tmp_path)
    (tmp_path / "event.avsc").write_text('"string"')
    with pytest.raises(SchemaError, match=r"event\.avsc is not accounts\.event\.avsc"):
        candidate.check_schemas(tmp_path)


@pytest.mark.parametrize("zipf", [0.0, 1.0])
def test_the_load_is_the_same_each_time_and_each_account_is_opened_first(zipf: float) -> None:
    load = list(commands(2000, 50, zipf=zipf, padding=3))
    assert load == list(commands(2000, 50, zipf=zipf, padding=3))
    assert len({each.command_id for each in load}) == 2000
    opened: set[str] = set()
    for each in load:
        assert (each.type == "open") == (each.account_id not in opened)
        opened.add(each.account_id)


def test_steps_are_compared_by_their_ratio() -> None:
    rows = compared([Step("a", 2.0, 4.0), Step("b", 1.0, 2.0), Step("c", 1.0, 1.0)], {"a": 2.0, "b": 2.0})
    assert [(row["times"], row["remark"]) for row in rows] == [(2.0, "look at this"), (1.0, ""), (1.0, "not on record")]
    assert json.loads(RECORD.read_text())["ratios"]["the whole lane"] > 0


def test_each_scaling_setting_varies_one_thing() -> None:
    for name, settings in SETTINGS.items():
        for setting in settings:
            changed = {field for field, value in asdict(setting).items() if value != asdict(BASE)[field]}
            assert name in changed
            assert changed <= {name, "commands", "keys"}


def test_what_begins_with_dots_is_compared_with_the_plain_one_before() -> None:
    rows = costs_compared(
        "kind", {"plain": 10.0, "… more": 15.0, "… and more": 30.0, "another": 4.0, "… more of it": 5.0}
    )
    assert [(row["adds"], row["x"]) for row in rows] == [(0, 1), (5, 1.5), (15, 3), (0, 1), (1, 1.25)]


@pytest.mark.parametrize("name", kinds())
def test_records_of_each_kind_are_folded(name: str) -> None:
    assert cost_us(kinds()[name], 200) > 0
