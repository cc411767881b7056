"""Deadlines and scheduled commands: the pure steps, the table in order of time, a lane under a clock that is set."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from hypothesis import given as drawn
from hypothesis import settings
from hypothesis import strategies as st

from pipeline import Cancel, Deadline
from pipeline.adapters.avro.codec import codecs
from pipeline.adapters.memory import MemoryStores
from pipeline.adapters.tables import claim_slot
from pipeline.cli.send import _due_ms
from pipeline.cli.send import command as send_by_hand
from pipeline.client.commands import Commands
from pipeline.errors import FoldError, InvalidCommand, InvalidMoment
from pipeline.flow import effects_to_deadlines, is_later, once_due, too_late, was_due
from pipeline.model import NEVER, CommandMessage, DeadlineMessage, Idempotency
from pipeline.model.deadline import TIME_MS_MAX
from pipeline.query.moments import time_of
from pipeline.runtime.deadlines import COUNTED_AT_ONCE, Deadlines, deadline_key, deadline_rows, order_prefix, parts
from pipeline.runtime.ports import Store
from pipeline.runtime.table import TableSpec
from pipeline.testing import TestDriver, given
from pipeline.topology import Topology, load
from tests.simulation import tills as t

ROW = codecs(t.SCHEMAS)("deadlines", DeadlineMessage)
SPEC = TableSpec("tills.deadlines", "tills.deadlines", ROW, Deadlines, deadline_rows)


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


# --- the table --------------------------------------------------------------------------------------------------------


@pytest.fixture(params=["memory", "RocksDB"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Store]:
    if request.param == "memory":
        yield MemoryStores().open("t")
        return
    _, stores = claim_slot(tmp_path, "tills", None)
    opened = stores.open("t")
    yield opened
    opened.close()
    stores.close()


def commit(table: Deadlines) -> list[tuple[bytes, bytes | None]]:
    changes = table.changes()
    rows, marks = table.kept(changes)
    table.store.write(rows, marks)
    table.settle()
    return changes


def put(table: Deadlines, **due: int) -> None:
    for name, due_ms in due.items():
        kind, _, rest = name.partition("_")
        row = DeadlineMessage(due_ms, f"{name}@{due_ms}".encode())
        table.put(deadline_key(b"till-1", f"{kind}:{rest}"), row)


def taken(table: Deadlines, now_ms: int, most: int = 100) -> list[str]:
    return [fired.command.decode() for fired in table.take(now_ms, most)]


def test_what_is_due_comes_in_order_of_time_once(store: Store) -> None:
    table = Deadlines(SPEC, store)
    put(table, deadline_b=30, deadline_a=20, deadline_c=10, deadline_d=40)
    assert taken(table, 100) == [], "not committed yet"
    commit(table)
    assert (table.pending, table.next_ms) == (4, 10)
    assert taken(table, 9) == []
    assert taken(table, 30, 2) == ["deadline_c@10", "deadline_a@20"]
    assert taken(table, 30) == ["deadline_b@30"]
    assert (taken(table, 39), table.next_ms) == ([], 40)
    commit(table)
    assert (table.pending, table.active) == (1, True)
    assert taken(table, 40) == ["deadline_d@40"]
    commit(table)
    assert (table.pending, table.active, table.next_ms) == (0, False, NEVER)
    assert store.scan(b"tills", b"tills", 10) == [], "nothing is left, in no order"


def test_what_is_set_anew_comes_then_and_what_is_cancelled_never(store: Store) -> None:
    table = Deadlines(SPEC, store)
    put(table, deadline_a=10, deadline_b=20, deadline_c=30)
    commit(table)
    put(table, deadline_a=50)
    put(table, deadline_c=5)
    table.put(deadline_key(b"till-1", "deadline:b"), None)
    assert taken(table, 40) == [], "what this transaction has changed is not what is committed"
    commit(table)
    assert taken(table, 100) == ["deadline_c@5", "deadline_a@50"]


def test_an_aborted_transaction_has_fired_nothing(store: Store) -> None:
    table = Deadlines(SPEC, store)
    put(table, deadline_a=10, deadline_b=20)
    commit(table)
    assert taken(table, 15) == ["deadline_a@10"]
    put(table, deadline_b=5)
    table.drop()
    assert taken(table, 25) == ["deadline_a@10", "deadline_b@20"]


def test_a_scheduled_command_stays_until_it_is_decided(store: Store) -> None:
    table = Deadlines(SPEC, store)
    name = deadline_key(b"till-1", "command:c1")
    put(table, command_c1=10)
    commit(table)
    assert taken(table, 10) == ["command_c1@10"]
    commit(table)
    assert table.get(name) == DeadlineMessage(NEVER, b"command_c1@10")
    assert (taken(table, 10**15), table.pending) == ([], 1)
    table.put(name, None)
    commit(table)
    assert (table.get(name), table.pending) == (None, 0)


def test_many_are_counted_at_the_start_and_read_in_parts(store: Store) -> None:
    count = 2 * COUNTED_AT_ONCE + 7
    changes = [
        (deadline_key(b"till-1", f"deadline:{n:06}"), ROW.encode(DeadlineMessage(n // 3, b"%d" % n)))
        for n in range(count)
    ]
    store.write(deadline_rows(SPEC, store, changes), {})
    table = Deadlines(SPEC, store)
    assert table.active, "as long as nobody has looked"
    seen = [fired.command for fired in table.take(count, 1_500)]
    assert (len(seen), table.pending) == (1_500, count)
    while part := table.take(count, 1_500):
        commit(table)
        seen += [fired.command for fired in part]
    commit(table)
    assert seen == [b"%d" % n for n in range(count)]
    assert (table.pending, store.scan(b"tills", b"tills", 1)) == (0, [])


names = st.sampled_from(["deadline:a", "deadline:b", "deadline:c"])
steps = st.lists(
    st.one_of(
        st.tuples(st.just("put"), names, st.integers(0, 30)),
        st.tuples(st.just("cancel"), names, st.just(0)),
        st.tuples(st.just("take"), st.just(""), st.integers(0, 30)),
        st.tuples(st.sampled_from(["commit", "drop", "reopen", "restore"]), st.just(""), st.just(0)),
    ),
    max_size=30,
)


@settings(max_examples=300, deadline=None)
@drawn(steps)
def test_it_is_a_dictionary_with_an_order(plan: list[tuple[str, str, int]]) -> None:
    """Held against the plainest model there is: two dictionaries, committed and not."""
    table = Deadlines(SPEC, MemoryStores().open("t"))
    committed: dict[bytes, int] = {}
    changed: dict[bytes, int | None] = {}
    log: list[tuple[bytes, bytes | None]] = []
    now_ms = 0
    for what, name, number in plan:
        key = deadline_key(b"k", name)
        if what == "put":
            table.put(key, DeadlineMessage(number, key))
            changed[key] = number
        elif what == "cancel":
            table.put(key, None)
            changed[key] = None
        elif what == "take":
            now_ms = max(now_ms, number)
            due = {key: at for key, at in committed.items() if at <= now_ms and key not in changed}
            assert [(f.due_ms, f.command) for f in table.take(now_ms, 2)] == sorted((at, k) for k, at in due.items())[
                :2
            ]
            changed |= dict.fromkeys([key for at, key in sorted((at, k) for k, at in due.items())[:2]])
        elif what == "commit":
            log += commit(table)
            committed |= changed  # type: ignore[arg-type]
            committed = {key: at for key, at in committed.items() if at is not None}
            changed.clear()
        elif what == "drop":
            table.drop()
            changed.clear()
        else:
            store = table.store
            if what == "restore":
                store = MemoryStores().open("t")
                for pair in log:
                    store.write(deadline_rows(SPEC, store, [pair]), {})
            table = Deadlines(SPEC, store)
            changed.clear()
        if table._counted and not changed:
            assert (table.pending, table.active) == (len(committed), bool(committed))
            assert table.next_ms <= min(committed.values(), default=NEVER)
    order = order_prefix(SPEC.name)
    places = [key[len(order) :] for key, _ in table.store.scan(order, order, 100)]
    assert places == sorted(at.to_bytes(8, "big") + key for key, at in committed.items())


def test_keys_of_rows_are_told_apart() -> None:
    assert parts(deadline_key("é".encode(), "command:c/1")) == ("é".encode(), "command:c/1")
    assert deadline_key(b"a", "deadline:b") != deadline_key(b"ad", "eadline:b")


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
    return [message.body for _, message in driver.records("tills.answers")]


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
        (worker,) = (w for w in driver._world.workers if w.wiring.service.name == "tills")
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
        (worker,) = (w for w in driver._world.workers if w.wiring.service.name == "tills")
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
    assert time_of("2026-12-01T12:00") == time_of(str(NOON_MS)) == NOON_MS
    with pytest.raises(InvalidMoment, match="is no time"):
        time_of("17")


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
