"""Deadlines and scheduled commands: the pure steps, a lane under a clock that is set, the client."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from click.testing import CliRunner

from pipeline import Cancel, Deadline
from pipeline.adapters.avro.codec import codecs
from pipeline.cli.data.send import _due_ms
from pipeline.cli.data.send import command as send_by_hand
from pipeline.client.commands import Commands
from pipeline.client.wire.as_of import parse_time
from pipeline.errors import FoldError, InvalidCommand, InvalidMoment
from pipeline.flow import effects_to_deadlines, is_later, once_due, too_late, was_due
from pipeline.model import CommandMessage, Idempotency
from pipeline.model.deadline import TIME_MS_MAX
from pipeline.testing import TestDriver, given
from pipeline.topology import Topology, load
from tests.simulation.worlds import tills as t

# --- the pure steps ---------------------------------------------------------------------------------------------------


def test_a_deadline_counts_from_when_its_command_was_stored() -> None:
    effects = [Deadline("close", t.Close(), after=1.5), Deadline("more", t.Take(1), at=77), Cancel("old")]
    found = effects_to_deadlines(effects, "corr", "tills.command/1/5", 10_000)
    close = CommandMessage("deadline:close/tills.command/1/5", "corr", "tills.command/1/5", 11_500, t.Close())
    more = CommandMessage("deadline:more/tills.command/1/5", "corr", "tills.command/1/5", 77, t.Take(1))
    assert found == {"close": (11_500, close), "more": (77, more), "old": None}
    assert was_due("tills", close)
    assert too_late(close, Idempotency(window_s=1), 10**15, 10**15) is None


def test_of_several_with_one_name_the_last_counts() -> None:
    one, other = Deadline("close", t.Close(), after=1), Deadline("close", t.Close(), after=2)
    assert (
        effects_to_deadlines([one, other], "c", "p", 0)["close"] == effects_to_deadlines([other], "c", "p", 0)["close"]
    )
    assert effects_to_deadlines([one, Cancel("close")], "c", "p", 0) == {"close": None}


def test_a_scheduled_command_waits_until_it_is_due_and_then_is_never_too_late() -> None:
    command = CommandMessage("c1", "corr", None, 1_000, t.Take(3), 7, "web.reply/0/k", 5_000)
    assert is_later(command, 4_999)
    assert not is_later(command, 5_000)
    due = once_due(command, "tills.command/0/3")
    assert due == CommandMessage("c1", "corr", "tills.command/0/3", 1_000, t.Take(3), 7, "web.reply/0/k")
    assert was_due("tills", due)
    assert not was_due("tills", command)
    assert not was_due("tills", due._replace(causation_id="tills.event/till-1/3"))
    assert too_late(due, Idempotency(window_s=1), 10**15, 10**15) is None


@pytest.mark.parametrize(
    "wrong",
    [
        {},
        {"after": 1, "at": 1},
        {"after": -1},
        {"after": float("nan")},
        {"after": float("inf")},
        {"at": -1},
        {"at": TIME_MS_MAX + 1},
        {"after": 1, "name": ""},
        {"after": 1, "name": "é" * 101},
    ],
)
def test_a_deadline_that_makes_no_sense_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="deadline"):
        Deadline(**{"name": "close", "command": t.Close(), **wrong})
    with pytest.raises(ValueError, match="deadline"):
        Cancel("")


def test_given_when_then_shows_deadlines() -> None:
    given(t.tills).when(t.Take(6)).then(t.Taken(6), Deadline("close", t.Close(), after=2.0)).has(t.Till(6))
    given(t.tills, t.Taken(6)).when(t.Close()).then(t.Closed(), Cancel("close"))
    with pytest.raises(AssertionError, match="Deadline"):
        given(t.tills).when(t.Take(6)).then(t.Taken(6))


# --- a lane under a clock that is set ---------------------------------------------------------------------------------


@pytest.fixture
def driver() -> Iterator[TestDriver]:
    with TestDriver(t.TOPOLOGY) as made:
        yield made


def taken_in(driver: TestDriver) -> list[Any]:
    return driver.events("tills", "till-1")


def test_it_fires_when_its_time_has_come_and_not_before(driver: TestDriver) -> None:
    driver.send("tills", "till-1", t.Take(8))
    ((_, row),) = driver.records("tills.deadlines")
    driver.advance((row.due_ms - driver.now_ms) / 1000 - 0.02)
    assert taken_in(driver) == [t.Taken(8)]
    driver.advance(0.1)
    assert taken_in(driver) == [t.Taken(8), t.Taken(2)]
    driver.advance(60)
    assert taken_in(driver) == [t.Taken(8), t.Taken(2)]
    (fired,) = [m for _, m in driver.records("tills.command") if m.causation_id]
    assert fired.id.startswith("deadline:more/tills.command/")
    assert (fired.correlation_id, fired.body, fired.issued_ms) == ("command-1", t.Take(2), row.due_ms)


def test_set_again_it_comes_then_and_cancelled_not_at_all(driver: TestDriver) -> None:
    driver.send("tills", "till-1", t.Take(6))  # to close in 2 s
    driver.send("tills", "till-1", t.Take(9))  # no, in a minute
    driver.advance(50)
    assert t.Closed() not in taken_in(driver)
    driver.advance(20)
    assert taken_in(driver).count(t.Closed()) == 1
    driver.send("tills", "till-1", t.Take(6), t.Close())
    driver.advance(60)
    assert taken_in(driver).count(t.Closed()) == 2


def test_a_scheduled_command_is_decided_when_it_is_due(driver: TestDriver) -> None:
    driver.send_unseen("tills", "till-1", t.Take(3), at_ms=driver.now_ms + 10_000)
    driver.advance(9.9)
    assert taken_in(driver) == []
    driver.advance(0.2)
    assert taken_in(driver) == [t.Taken(3)]
    driver.advance(60)
    assert taken_in(driver) == [t.Taken(3)]
    assert driver.records("tills.deadlines")[-1][1] is None


def test_one_for_a_time_that_has_passed_is_decided_at_once(driver: TestDriver) -> None:
    driver.send_unseen("tills", "till-1", t.Take(3), at_ms=driver.now_ms - 1)
    driver.advance(0.2)
    assert taken_in(driver) == [t.Taken(3)]
    assert driver.records("tills.deadlines") == []


def send_as(driver: TestDriver, name: str, command: Any, in_ms: int | None) -> None:
    now_ms = driver.now_ms
    driver._world.send("tills", "till-1", command, name, due_ms=None if in_ms is None else now_ms + in_ms)
    driver.advance(0.2)


def replies(driver: TestDriver) -> list[Any]:
    return [message.body for _, message in driver.records("tills.replies")]


def test_sent_again_before_it_is_due_it_takes_the_new_time(driver: TestDriver) -> None:
    send_as(driver, "c1", t.Take(3), 10_000)
    send_as(driver, "c1", t.Take(3), 20_000)
    driver.advance(15)
    assert taken_in(driver) == []
    driver.advance(6)
    assert taken_in(driver) == [t.Taken(3)]
    send_as(driver, "c1", t.Take(3), 1_000)  # it has its answer
    driver.advance(30)
    assert taken_in(driver) == [t.Taken(3)]


def test_sent_again_without_a_time_it_is_decided_now_and_not_again(driver: TestDriver) -> None:
    send_as(driver, "c1", t.Take(3), 10_000)
    send_as(driver, "c1", t.Take(3), None)
    assert taken_in(driver) == [t.Taken(3)]
    driver.advance(3_600)
    assert taken_in(driver) == [t.Taken(3)]


def test_its_id_stands_for_what_waits(driver: TestDriver) -> None:
    send_as(driver, "c1", t.Take(3), 10_000)
    send_as(driver, "c1", t.Take(4), None)
    send_as(driver, "c1", t.Take(4), 20_000)
    driver.advance(60)
    assert taken_in(driver) == [t.Taken(3)]
    assert [reply.count for reply in replies(driver)] == [1]


def test_a_week_later_it_is_not_too_late(driver: TestDriver) -> None:
    send_as(driver, "c1", t.Take(3), 7 * 86_400_000)
    for n in range(20):  # more than the ids that are remembered
        driver.send("tills", "till-1", t.Take(2 + n % 2))
    driver.advance(7 * 86_400)
    assert taken_in(driver)[-1] == t.Taken(3)
    assert len(taken_in(driver)) == 21


def test_those_that_are_late_come_at_the_start() -> None:
    with TestDriver(t.TOPOLOGY, partitions=1) as driver:
        driver.send("tills", "till-1", t.Take(8))
        send_as(driver, "c1", t.Take(3), 4_000)
        (worker,) = (w for w in driver._world.workers if w.plan.service.name == "tills")
        worker.stopping, worker.again_s = True, 3_600.0
        driver.send_unseen("tills", "till-1", t.Take(4))  # news, so that it hears of it
        driver.advance(3_000)
        assert taken_in(driver) == [t.Taken(8), t.Taken(4)]
        driver.advance(1_000)
        assert taken_in(driver) == [t.Taken(8), t.Taken(4), t.Taken(3), t.Taken(2)], "in order of time"
        assert worker.stats.deadlines_fired == 2
        assert worker.stats.deadlines_late_s > 3_000


def test_a_burst_of_late_ones_does_not_keep_records_waiting() -> None:
    with TestDriver(t.TOPOLOGY, partitions=1) as driver:
        for n in range(60):
            driver.send_unseen("tills", f"till-{n}", t.Take(3), at_ms=driver.now_ms + 1_000)
        driver.advance(0.9)
        (worker,) = (w for w in driver._world.workers if w.plan.service.name == "tills")
        assert worker.stats.deadlines_pending == 60
        # In the middle of the burst, of which two come a turn.
        driver._world.kafka.clock.later(0.15, lambda: driver.send_unseen("tills", "new", t.Take(4)))
        driver.advance(60)
        order = [key for key, _ in driver.records("tills.event")]
        assert 0 < order.index("new") < 50
        assert (len(order), len(sent_since(driver)), worker.stats.deadlines_fired) == (61, 60, 60)


def sent_since(driver: TestDriver) -> list[str]:
    return [key for key, message in driver.records("tills.command") if message.causation_id]


def without_deadlines() -> Topology:
    tills = dataclasses.replace(t.tills, deadlines=False)
    return Topology("without", {"tills": t.Service("tills", aggregates=[tills])}, t.SCHEMAS)


def test_an_aggregate_may_do_without() -> None:
    with TestDriver(without_deadlines()) as driver:
        driver.send("tills", "till-1", t.Take(3))
        send_as(driver, "c1", t.Take(3), 10_000)
        assert "tills.deadlines" not in driver._world.kafka.topics
        assert taken_in(driver) == [t.Taken(3)]
        with pytest.raises(FoldError, match="deadlines=False"):
            driver.send("tills", "till-1", t.Take(6))


# --- the client and the command line ----------------------------------------------------------------------------------

NOON = datetime(2026, 12, 1, 12, 0)
NOON_MS = 1_796_126_400_000


@pytest.mark.parametrize(
    ("options", "due_ms"),
    [
        ({}, None),
        ({"at": NOON_MS}, NOON_MS),
        ({"at": NOON}, NOON_MS),
        ({"at": NOON.replace(tzinfo=UTC) + timedelta(milliseconds=5)}, NOON_MS + 5),
    ],
)
def test_when_a_command_is_due(options: dict[str, Any], due_ms: int | None) -> None:
    commands = Commands(t.TOPOLOGY)
    ready = commands.write("tills", "till-1", t.Take(3), **options)
    message = codecs(t.SCHEMAS)("tills.command", CommandMessage, t.tills.command).decode(ready.value)
    assert ready.due_ms == message.due_ms == due_ms


def test_after_counts_from_now() -> None:
    before = datetime.now(UTC)
    ready = Commands(t.TOPOLOGY).write("tills", "till-1", t.Take(3), after=90)
    assert ready.due_ms is not None
    assert timedelta(0) <= datetime.fromtimestamp(ready.due_ms / 1000, UTC) - before - timedelta(seconds=89.9)


WRONG = ({"at": -1}, {"at": TIME_MS_MAX + 1}, {"at": True}, {"at": "noon"}, {"at": 1, "after": 1})


@pytest.mark.parametrize("wrong", [*WRONG, {"after": -1}, {"after": float("nan")}, {"after": "5"}])
def test_what_is_no_time_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(InvalidCommand):
        Commands(t.TOPOLOGY).write("tills", "till-1", t.Take(3), **wrong)


def test_who_takes_none_is_sent_none() -> None:
    with pytest.raises(InvalidCommand, match="deadlines=False"):
        Commands(without_deadlines()).write("tills", "till-1", t.Take(3), after=1)


def test_a_moment_that_is_no_time_is_refused() -> None:
    assert parse_time("2026-12-01T12:00") == parse_time(str(NOON_MS)) == NOON_MS
    with pytest.raises(InvalidMoment, match="is not a time"):
        parse_time("17")


@pytest.mark.parametrize(("text", "seconds"), [("90s", 90), ("15m", 900), ("2h", 7_200), ("7d", 604_800), ("1.5", 1.5)])
def test_durations_by_hand(text: str, seconds: float, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("time.time", lambda: 1_000.0)
    assert _due_ms(None, text) == 1_000_000 + int(1000 * seconds)
    assert _due_ms("2026-12-01T12:00Z", None) == NOON_MS


@pytest.mark.parametrize("options", [("--after", "soon"), ("--after", "1s", "--at", "2026-12-01"), ("--at", "17")])
def test_what_is_no_time_by_hand(options: tuple[str, ...]) -> None:
    asked = ["users", "anna", "ChangeName", json.dumps({"name": "Anne"}), *options, "--bootstrap", "127.0.0.1:1"]
    assert CliRunner().invoke(send_by_hand, asked).exit_code != 0
    assert load("topologies").with_deadlines("users").name == "users"
