"""Records that cannot be folded: their key waits, others go on; redriven in order, or discarded."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pipeline import Aggregate, Service
from pipeline.adapters.avro.codec import codecs
from pipeline.adapters.memory import MemoryStores
from pipeline.engine.parking.parking_log import Audit
from pipeline.engine.parking.retries import TRIES_MAX
from pipeline.engine.plan import ServicePlan
from pipeline.engine.ports import TP, Store
from pipeline.engine.state.parked_table import ParkedRecord, ParkedTable, row_key
from pipeline.engine.state.table import TableSpec
from pipeline.errors import NotParked, TopologyError
from pipeline.flow import KeyState
from pipeline.model import BARRIER, TopicKind
from pipeline.testing import TestDriver
from pipeline.testing.simulation.judge.history import SimulatedHistory
from pipeline.topology import Topology
from pipeline.verify import judge
from pipeline.verify.replay.notices import act_of
from tests.simulation.worlds import tills as t

SCHEMAS = Path(__file__).parents[3] / "schemas"
QUEUE = codecs(SCHEMAS)("queue", ParkedRecord)
SPEC = TableSpec("s.t.queue", "s.t.queue", QUEUE, ParkedTable)
AUDIT = Audit("anna", "a test")


@pytest.fixture
def driver() -> Iterator[TestDriver]:
    """The tills, their code broken."""
    t.Code.mend(False)
    t.Code.slow = 0
    try:
        with TestDriver(t.TOPOLOGY, partitions=1, park=True) as driver:
            yield driver
    finally:
        t.Code.mend(True)


def acts(driver: TestDriver, topic: str = "tills.parked") -> list[tuple[str, int]]:
    records = driver._world.kafka.topics[topic].logs[0].archive
    told = [act_of(record.key(), record.headers()) for record in records if record.decided]
    return [(act.action, act.offset) for act in told if act is not None]


def lane(driver: TestDriver, service: str = "tills") -> Any:
    return next(w.lane for w in driver._world.workers if w.plan.service.name == service)


# --- a key that waits -------------------------------------------------------------------------------------------------


def test_a_command_that_raises_holds_its_key_and_no_other(driver: TestDriver) -> None:
    driver.send("tills", "till-1", t.Take(1), t.Take(6), t.Take(2), t.Close())
    driver.send("tills", "till-2", t.Take(3))
    assert driver.events("tills", "till-1") == [t.Taken(1)]
    assert driver.events("tills", "till-2") == [t.Taken(3)]
    assert driver.parked() == [("tills.command", "till-1", 1)]
    assert acts(driver) == [("parked", 1)], "those that merely wait have no notice"


def test_mended_it_is_redriven_in_order_and_what_comes_meanwhile_waits_behind(driver: TestDriver) -> None:
    driver.send("tills", "till-1", t.Take(6), t.Take(2))
    t.Code.mend(True)
    driver.send("tills", "till-1", t.Take(3))
    driver.redrive(limit=2)
    assert driver.events("tills", "till-1") == [t.Taken(6), t.Taken(2)]
    assert driver.parked() == [("tills.command", "till-1", 2)], "released only when its queue is empty"
    driver.send("tills", "till-1", t.Take(4))
    driver.redrive()
    driver.send("tills", "till-1", t.Take(1))
    assert [event.amount for event in driver.events("tills", "till-1")] == [6, 2, 3, 4, 1]
    assert driver.row("tills", "till-1").version == 5
    assert acts(driver) == [("parked", 0), *(("redriven", n) for n in range(4))]


def test_a_redrive_stops_where_it_raises_again(driver: TestDriver) -> None:
    driver.send("tills", "till-1", t.Take(6), t.Take(2), t.Take(6), t.Take(3))
    driver.discard()
    driver.redrive()
    assert driver.events("tills", "till-1") == [t.Taken(2)]
    assert driver.parked() == [("tills.command", "till-1", 2)]
    assert acts(driver) == [("parked", 0), ("discarded", 0), ("redriven", 1), ("parked", 2)]


def test_what_cannot_be_read_waits_too_and_can_only_be_discarded(driver: TestDriver) -> None:
    driver.send_unseen("tills", "till-1", b"no Avro")
    driver.send("tills", "till-1", t.Take(2))
    driver.redrive()
    assert driver.events("tills", "till-1") == []
    driver.discard()
    driver.redrive()
    assert driver.events("tills", "till-1") == [t.Taken(2)]


def test_a_barrier_never_waits(driver: TestDriver) -> None:
    append, tp = driver._world.kafka.append, TP("tills.command", 0)
    append(tp, None, b"no key", ())
    append(tp, None, None, [BARRIER])
    driver.advance(5)
    append(tp, None, None, [BARRIER])
    append(tp, None, b"no key either", ())
    driver.advance(5)
    assert driver.parked() == [("tills.command", "", 0)]
    assert lane(driver).stats.barriers == 2
    assert judge(SimulatedHistory(driver._world), t.TOPOLOGY).findings == []
    driver.discard(2)
    assert driver.parked() == []


def test_nodes_that_have_folded_it_do_not_fold_it_again(driver: TestDriver) -> None:
    driver.send("tills", "till-1", t.Take(7), t.Take(2))
    assert driver.parked() == [("tills.event", "till-1", 0)], "the route has raised, after the reaction"
    assert [key for key, _ in driver.records("books.command")] == ["book-b"]
    assert driver.records("sums.by_key") == []
    t.Code.mend(True)
    driver.redrive()
    assert [message.body.amount for _, message in driver.records("books.command")] == [7, 2, 1]
    assert driver.records("sums.by_key") == [("odd", t.Part(7)), ("even", t.Part(2)), ("odd", t.Part(1))]


def test_a_state_that_does_not_fit_its_schema_is_found_and_parked() -> None:
    def evolve(till: t.Till, event: Any) -> t.Till:
        return t.Till("much") if event == t.Taken(6) else t.evolve_till(till, event)  # type: ignore[arg-type]

    kinds = t.Take | t.Close | t.Scribble, t.Taken | t.Closed | t.Scribbled
    odd = Aggregate("tills", *kinds, t.Till(), t.decide_till, evolve, history=False)
    topology = Topology("odd", {"tills": Service("tills", aggregates=[odd])}, t.SCHEMAS)
    with TestDriver(topology, partitions=1, park=True) as driver:
        driver.send_unseen("tills", "till-2", t.Take(1))
        driver.send_unseen("tills", "till-1", t.Take(6), t.Take(2))
        driver.send("tills", "till-3", t.Take(3))
        assert driver.parked() == [("tills.command", "till-1", 1)]
        assert [len(driver.events("tills", f"till-{n}")) for n in (1, 2, 3)] == [0, 1, 1]
        headers = dict(driver._world.kafka.topics["tills.parked"].logs[0].archive[-1].headers())
        assert headers["parked-cause"].startswith(b"RowRefused: tills.state")


# --- transient errors -------------------------------------------------------------------------------------------------


def test_a_transient_error_is_waited_for_and_nothing_is_parked(driver: TestDriver) -> None:
    t.Code.slow = TRIES_MAX - 1
    driver.send("tills", "till-1", t.Take(8), t.Take(1))
    assert driver.events("tills", "till-1") == [t.Taken(8), t.Taken(1)]
    assert (driver.parked(), lane(driver).stats.tried_again) == ([], TRIES_MAX - 1)


def test_one_that_does_not_pass_parks_its_record_and_others_go_on_meanwhile(driver: TestDriver) -> None:
    t.Code.slow = 1_000
    driver.send("tills", "till-1", t.Take(8))
    assert driver.parked() == [("tills.command", "till-1", 0)]
    assert t.Code.slow == 1_000 - TRIES_MAX


def test_only_types_of_exceptions_are_transient() -> None:
    with pytest.raises(TopologyError, match="no type of exceptions"):
        Service("s", transient=(TimeoutError(),))  # type: ignore[arg-type]


# --- the queue --------------------------------------------------------------------------------------------------------


def entry(offset: int, **more: Any) -> ParkedRecord:
    return ParkedRecord("error", "t", 0, offset, 2, 5, b"v", False, (), "cause", "", 0, (), False)._replace(**more)


def commit(queue: ParkedTable) -> None:
    rows, marks = queue.kept(queue.changes())
    queue.store.write(rows, marks)
    queue.mark_committed()


@pytest.fixture
def store() -> Store:
    return MemoryStores().open("t")


def test_what_was_not_committed_is_forgotten(store: Store) -> None:
    queue = ParkedTable(SPEC, store)
    queue.add(b"k", entry(1))
    commit(queue)
    queue.add(b"k", entry(2))
    queue.add(b"other", entry(3))
    queue.take(b"k", 1)
    assert queue.first(b"k") == entry(2)
    assert queue.held == {b"k": 1, b"other": 1}
    queue.roll_back()
    assert (queue.held, queue.waiting) == ({b"k": 1}, (1, 1))
    assert queue.first(b"k") == entry(1)
    queue.take(b"k", 1)
    assert (queue.held, queue.first(b"k")) == ({}, None)
    queue.roll_back()
    assert queue.held == {b"k": 1}


def test_one_that_is_dropped_while_its_store_is_restored_is_read_once_that_is_done(store: Store) -> None:
    queue = ParkedTable(SPEC, store)
    queue.roll_back()
    other = ParkedTable(SPEC, store)
    other.add(b"k", entry(1))
    commit(other)
    assert queue.held == {b"k": 1}


def test_a_queue_is_read_from_its_store(store: Store) -> None:
    queue = ParkedTable(SPEC, store)
    for offset in (7, 3, 300):
        queue.add(b"k", entry(offset))
    queue.add(b"", entry(5))
    commit(queue)
    again = ParkedTable(SPEC, store)
    assert again.waiting == (0, 0), "not before somebody asks: until a task starts, its tables are restored"
    assert again.held == {b"k": 3, b"": 1}
    assert again.waiting == (2, 4)
    assert again.first(b"k") == entry(3)
    again.change(b"k", entry(3, cause="another"))
    assert again.first(b"k") == entry(3, cause="another")
    again.take(b"k", 3)
    assert again.changes() == [(row_key(b"k", 3), None)]
    commit(again)
    assert again.first(b"k") == entry(7)


def test_a_record_held_for_another_reason_is_released_by_who_holds_it(driver: TestDriver) -> None:
    driver.send("tills", "till-1", t.Take(1))
    task = lane(driver)._tasks[TP("tills.command", 0)]
    record = driver._world.kafka.log(TP("tills.command", 0)).archive[0]
    held = task.parking.hold(record, KeyState.RESERVING)
    drained = task.redrive(b"till-1", 10, AUDIT)
    assert (drained.done, drained.left) == (0, 1)
    assert drained.cause == "it waits for a reservation, which releases it by itself"
    task.parking.release(b"till-1", held)
    assert not task.queue.held


def test_what_is_not_there_cannot_be_redriven_nor_another_than_the_first_discarded(driver: TestDriver) -> None:
    tp = TP("tills.command", 0)
    with pytest.raises(NotParked):
        lane(driver).redrive(tp, b"till-1", 1, AUDIT)
    driver.send("tills", "till-1", t.Take(6), t.Take(2))
    with pytest.raises(NotParked, match="offset 0, not of 1"):
        lane(driver).discard(tp, b"till-1", 1, 1, AUDIT)


def test_each_source_topic_of_a_service_has_a_queue() -> None:
    plans = [ServicePlan(service, codecs(t.SCHEMAS)) for service in t.TOPOLOGY.services.values()]
    own = [each for plan in plans for each in plan.own_topics()]
    assert {topic for topic, kind in own if kind is TopicKind.QUEUE} == {
        "tills.tills.command.queue",
        "tills.tills.event.queue",
        "books.books.command.queue",
        "books.tills.event.queue",
        "books.sums.by_key.queue",
    }
