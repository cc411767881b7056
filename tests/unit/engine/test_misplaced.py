"""Keys in a partition where they do not belong: parked, never folded there; sent home, folded or discarded by hand."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any
from unittest.mock import ANY

import pytest

from pipeline.engine.parking.parking import Parking
from pipeline.engine.parking.parking_log import Audit
from pipeline.engine.ports import TP
from pipeline.errors import BadRequest, NotParked
from pipeline.model import Acceptance, CommandMessage, EventMessage, Parked
from pipeline.model.records.partitioning import partition_of
from pipeline.testing import TestDriver
from pipeline.testing.simulation.judge.history import SimulatedHistory
from pipeline.topology import Topology
from pipeline.verify import judge
from pipeline.verify.replay.notices import act_of
from tests.simulation.worlds import tills as t

PARTITIONS = 4
FOUND = "pipeline.engine.loop.task.partition_of"  # what the engine takes for the home of a key
AUDIT = Audit("anna", "a test")


@pytest.fixture
def driver() -> Iterator[TestDriver]:
    t.Code.mend(True)
    with TestDriver(t.TOPOLOGY, partitions=PARTITIONS, park=True) as driver:
        yield driver


def wrong(topic: str, key: str) -> TP:
    return TP(topic, (partition_of(key.encode(), PARTITIONS) + 1) % PARTITIONS)


def stray(driver: TestDriver, key: str, *commands: Any, name: str = "stray", age_ms: int = 0) -> TP:
    """Commands as another producer's partitioner spreads them."""
    world = driver._world
    for n, command in enumerate(commands):
        topic, value = world.oracle.command("tills", command, f"{name}-{n}", world.kafka.clock.time_ms() - age_ms)
        world.kafka.append(wrong(topic, key), key.encode(), value, (("trace", b"abc"),))
    driver.advance(1)
    return wrong("tills.command", key)


def stray_event(driver: TestDriver, key: str, event: Any, version: int = 1) -> TP:
    message = EventMessage(version, f"e-{version}", "c", driver.now_ms, event)
    tp = wrong("tills.event", key)
    driver._world.kafka.append(tp, key.encode(), driver._oracle.codec[tp.topic].encode(message))
    driver.advance(5)
    return tp


def lane(driver: TestDriver, service: str) -> Any:
    return next(w.lane for w in driver._world.workers if w.plan.service.name == service)


def first(driver: TestDriver, queue: str, tp: TP, key: str) -> Any:
    view = lane(driver, queue.partition(".")[0]).views[queue, tp.partition]
    rows = view.store.scan(view.prefix, view.prefix, 100)
    return next(view.codec.decode(value) for name, value in rows if key.encode() in name)


def acts(driver: TestDriver, service: str) -> list[tuple[str, int]]:
    records = [r for log in driver._world.kafka.topics[f"{service}.parked"].logs for r in log.archive if r.decided]
    told = sorted((r.timestamp()[1], n, act_of(r.key(), r.headers())) for n, r in enumerate(records))
    return [(act.action, act.offset) for _, _, act in told if act is not None]


def findings(driver: TestDriver) -> list[str]:
    return [finding.kind for finding in judge(SimulatedHistory(driver._world), t.TOPOLOGY).findings]


# --- commands ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("known", [True, False])
def test_a_command_in_a_wrong_partition_begins_no_second_life(driver: TestDriver, known: bool) -> None:
    if known:
        driver.send("tills", "till-1", t.Take(1))
    tp = stray(driver, "till-1", t.Take(2), t.Take(3))
    assert [event.amount for event in driver.events("tills", "till-1")] == ([1] if known else [])
    assert driver.records("tills.event", tp.partition) == []
    assert driver.parked() == [("tills.command", "till-1", 0)]
    assert lane(driver, "tills").stats.misplaced == 1
    assert findings(driver) == [], "what is parked is where it has to be"
    driver.send("tills", "till-1", t.Take(4))
    assert driver.events("tills", "till-1")[-1:] == [t.Taken(4)], "the key goes on in its own partition"


def test_the_cause_says_which_key_stands_where_and_where_it_belongs(driver: TestDriver) -> None:
    tp = stray(driver, "till 1", t.Take(2))
    entry = first(driver, "tills.tills.command.queue", tp, "till 1")
    assert entry.reason == "misplaced"
    home = partition_of(b"till 1", PARTITIONS)
    assert f"'till 1' stands in tills.command-{tp.partition}, and belongs in partition {home} of 4" in entry.cause
    assert "partitioner=murmur2_random" in entry.cause
    assert "pipeline parked redrive --topic tills.command --key 'till 1'" in entry.cause


def test_the_sender_is_told_that_it_is_parked_and_gets_the_reply_in_the_end(driver: TestDriver) -> None:
    kafka = driver._world.kafka
    kafka.create_topic("tests.reply", 1)
    codec = driver._oracle.codec["tills.command"]
    message = CommandMessage("c", "c", None, driver.now_ms, t.Take(2), reply_to="tests.reply/0/me")
    kafka.append(wrong("tills.command", "till-1"), b"till-1", codec.encode(message))
    driver.advance(1)

    def replies() -> list[Any]:
        decode = driver._oracle.codec["tills.replies"].decode
        return [decode(r.value()).body for r in kafka.log(TP("tests.reply", 0)).archive if r.decided]

    (told,) = replies()
    assert isinstance(told, Parked)
    assert told.cause.startswith("Misplaced: the key 'till-1' stands in")
    driver.redrive()
    assert replies()[1:] == [Acceptance(1, 1, replies()[-1].events)]


def test_a_redrive_sends_them_home_in_order_and_once(driver: TestDriver) -> None:
    driver.send("tills", "till-1", t.Take(1))
    tp = stray(driver, "till-1", t.Take(2), t.Take(3), t.Take(4))
    driver.redrive()
    assert [event.amount for event in driver.events("tills", "till-1")] == [1, 2, 3, 4]
    assert driver.row("tills", "till-1").version == 4
    assert driver.parked() == []
    assert acts(driver, "tills") == [("parked", 0), ("sent", 0), ("sent", 1), ("sent", 2)]
    sent = driver._world.kafka.log(TP(tp.topic, partition_of(b"till-1", PARTITIONS))).archive
    assert [r.headers() for r in sent if r.decided][-1] == [("trace", b"abc")], "as it was sent, with its headers"
    assert findings(driver) == []
    stray(driver, "till-1", t.Take(2))  # the sender repeats it, still in the wrong place
    driver.redrive()
    assert driver.row("tills", "till-1").version == 4, "its id was answered there"
    assert findings(driver) == []


def test_a_redrive_of_some_leaves_the_others_misplaced(driver: TestDriver) -> None:
    tp = stray(driver, "till-1", t.Take(2), t.Take(3))
    driver.discard()
    assert first(driver, "tills.tills.command.queue", tp, "till-1").reason == "misplaced"
    driver.redrive(limit=1)
    assert [event.amount for event in driver.events("tills", "till-1")] == [3]
    assert acts(driver, "tills") == [("parked", 0), ("discarded", 0), ("sent", 1)]
    assert findings(driver) == []


def test_who_repeats_what_was_discarded_is_answered_so(driver: TestDriver) -> None:
    stray(driver, "till-1", t.Take(2))
    driver.discard()
    stray(driver, "till-1", t.Take(2))
    assert (driver.parked(), lane(driver, "tills").stats.repeated) == ([], 1)
    assert findings(driver) == []


def test_one_that_comes_too_late_is_rejected_and_not_parked(driver: TestDriver) -> None:
    stray(driver, "till-1", t.Take(2), age_ms=10**9)
    assert driver.parked() == []
    assert findings(driver) == []


def test_one_that_has_waited_too_long_to_be_sent_stays_parked(driver: TestDriver) -> None:
    tp = stray(driver, "till-1", t.Take(2))
    driver.advance(10)  # longer than the tills remember ids
    driver.redrive()
    assert driver.parked() == [("tills.command", "till-1", 0)]
    entry = first(driver, "tills.tills.command.queue", tp, "till-1")
    assert entry.reason == "misplaced"
    assert "would be rejected as expired" in entry.cause
    assert findings(driver) == []


def test_what_cannot_be_read_in_a_wrong_partition_is_parked_as_that(driver: TestDriver) -> None:
    stray(driver, "till-1", b"no Avro", t.Take(2))
    driver.redrive()
    assert driver.events("tills", "till-1") == []
    driver.discard()
    driver.redrive()
    assert driver.events("tills", "till-1") == [t.Taken(2)]
    assert findings(driver) == []


def test_records_without_a_key_are_parked_as_before(driver: TestDriver) -> None:
    topic, value = driver._oracle.command("tills", t.Take(1), "keyless", 0)
    for n in range(PARTITIONS):
        driver._world.kafka.append(TP(topic, n), None, value)
    driver.advance(5)
    assert driver.parked() == [("tills.command", "", 0)] * PARTITIONS
    assert lane(driver, "tills").stats.misplaced == 0


def test_what_sets_deadlines_and_is_asked_for_stands_where_it_belongs(driver: TestDriver) -> None:
    """Deadlines fire, reactions send, routes send on, commands are scheduled: all of that is ours."""
    for n in range(12):
        driver.send("tills", f"till-{n}", t.Take(7), t.Take(8), t.Take(6))
        driver.send_unseen("tills", f"till-{n}", t.Take(2), at_ms=driver.now_ms + 1_000)
    driver.advance(20)
    assert driver.parked() == []
    assert [w.stats.misplaced for w in driver._world.workers] == [0] * len(driver._world.workers)


def test_misplaced_commands_do_not_hold_the_service(driver: TestDriver) -> None:
    for n in range(40):
        stray(driver, f"till-{n}", t.Take(2), name=f"s{n}")
    assert lane(driver, "tills").stats.held == 0
    assert len(driver.parked()) == 40


def test_records_parked_before_are_sent_home_by_a_redrive(driver: TestDriver, monkeypatch: pytest.MonkeyPatch) -> None:
    t.Code.mend(False)
    with monkeypatch.context() as patch:
        patch.setattr(FOUND, lambda *_: ANY)
        patch.setattr(Parking, "_is_misplaced", lambda self, key: False)
        stray(driver, "till-1", t.Take(6))
    t.Code.mend(True)
    driver.redrive()
    assert driver.events("tills", "till-1") == [t.Taken(6)]


# --- events -----------------------------------------------------------------------------------------------------------


def test_an_event_in_a_wrong_partition_gives_no_row_there_and_can_be_discarded(driver: TestDriver) -> None:
    stray_event(driver, "till-1", t.Taken(3))
    assert driver.row("open_tills", "till-1") is None
    assert ("tills.event", "till-1", 0) in driver.parked()
    view = lane(driver, "tills").views["tills.tills.event.queue", wrong("", "till-1").partition]
    assert len(view.store.scan(view.prefix, view.prefix, 9)) == 1
    driver.redrive()
    assert driver.row("open_tills", "till-1") is None, "nobody would look for it there"
    assert (
        "have its owner send it again" in first(driver, "tills.tills.event.queue", wrong("", "till-1"), "till-1").cause
    )


def test_what_only_reactions_and_routes_take_is_folded_by_a_redrive(driver: TestDriver) -> None:
    stray_event(driver, "till-1", t.Taken(3))
    assert driver.rows("books") == {}
    driver.redrive()
    assert len(driver.rows("books")) == 1
    assert driver.rows("sums") != {}
    kinds = set(findings(driver))
    assert "misplaced" not in kinds
    assert kinds <= {"extra_event"}, "which the test itself has written"


def test_a_replica_keeps_it_aside_until_it_is_discarded(driver: TestDriver) -> None:
    driver.send("tills", "till-1", t.Take(1))
    tp = stray_event(driver, "till-1", t.Taken(3), 2)
    books = lane(driver, "books")
    assert books.stats.replica_keys == {"seen": 1}
    assert driver.row("seen", "till-1") == t.Seen(1), "its row goes on without it"
    replica = books._tasks._replicas[0]
    replica.find("till-1")  # decisions go on
    entry = first(driver, "books.seen.queue", tp, "till-1")
    assert (entry.reason, entry.offset) == ("misplaced", 0)
    assert "pipeline parked discard --topic seen --key till-1" in entry.cause
    books.views["seen", tp.partition].held.check(b"", b"", b"")  # pages of rows, too
    done = books.redrive_copy("seen", tp.partition, b"till-1", AUDIT)
    assert (done.done, done.left) == (0, 1)
    assert "the copy 'seen' lacks this event" in done.cause
    with pytest.raises(NotParked, match="offset 0"):
        books.discard_copy("seen", tp.partition, b"till-1", 5, 1, AUDIT)
    assert books.discard_copy("seen", tp.partition, b"till-1", 0, 1, AUDIT) == (1, 0, None)
    assert books.stats.replica_keys == {"seen": 0}


def test_nothing_else_of_a_replica_can_be_discarded(driver: TestDriver) -> None:
    replica = lane(driver, "books")._tasks._replicas[0]
    home = partition_of(b"till-1", PARTITIONS)
    replica.queues[home]._held[b"till-1"] = 1
    with pytest.raises(BadRequest, match="cannot be discarded"):
        replica.discard(home, b"till-1", None, 9)


# --- what verify finds ------------------------------------------------------------------------------------------------


def test_verify_finds_a_misplaced_command_that_was_decided(driver: TestDriver, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(FOUND, lambda *_: ANY)
    stray(driver, "till-1", t.Take(2))
    assert set(findings(driver)) == {"misplaced"}


def test_verify_finds_a_command_that_was_parked_where_it_belongs(
    driver: TestDriver, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(FOUND, lambda *_: -1)
        driver.send("tills", "till-1", t.Take(2))
    assert "unordered_queue" in findings(driver)


def test_verify_finds_a_misplaced_command_that_was_lost(driver: TestDriver, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(Parking, "put_elsewhere", lambda *_: None)
        stray(driver, "till-1", t.Take(2))
    assert "misplaced" in findings(driver)


def test_without_idempotency_it_is_the_same() -> None:
    tills = replace(t.tills, idempotency=None)
    service = replace(t.TILLS, aggregates=[tills])
    with TestDriver(Topology("tills", {"tills": service}, t.SCHEMAS), partitions=PARTITIONS, park=True) as driver:
        stray(driver, "till-1", t.Take(2))
        assert driver.parked() == [("tills.command", "till-1", 0)]
        driver.redrive()
        assert driver.events("tills", "till-1") == [t.Taken(2)]
