"""What a partition waits for, as the lane itself says it to other threads."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from pipeline.adapters.memory.clock import MemoryClock
from pipeline.engine.loop.held_back import HeldBack
from pipeline.engine.places import HELD_BACK_S, Place, WaitsFor
from pipeline.engine.ports import TP, Polled
from pipeline.testing import TestDriver
from tests.simulation.worlds import tills as t

TILL = TP("tills.command", 0)


@pytest.fixture
def driver() -> Iterator[TestDriver]:
    t.Code.mend(False)
    try:
        with TestDriver(t.TOPOLOGY, partitions=1, park=True) as driver:
            yield driver
    finally:
        t.Code.mend(True)


def worker(driver: TestDriver, service: str = "tills") -> Any:
    return next(worker for worker in driver._world.workers if worker.plan.service.name == service)


def place(driver: TestDriver, tp: TP = TILL) -> Place:
    found: Place = worker(driver).lane.places.all()[tp]
    return found


def test_a_partition_that_folds_waits_for_nothing_and_knows_its_last_record(driver: TestDriver) -> None:
    assert place(driver) == Place(True, place(driver).offset, 0, WaitsFor.NOTHING)
    driver.advance(5)
    now_ms = driver.now_ms
    driver.send("tills", "till-1", t.Take(1), t.Take(2))
    log = driver._world.kafka.log(TILL)
    assert place(driver).offset == log.end, "committed: Kafka's own lag is none"
    assert now_ms <= place(driver).appended_ms <= driver.now_ms
    assert worker(driver).lane.committed(TILL) == log.end


def test_a_parked_key_is_said_and_the_offset_goes_on(driver: TestDriver) -> None:
    driver.send("tills", "till-1", t.Take(6))
    driver.send("tills", "till-2", t.Take(1))
    assert place(driver).waits_for is WaitsFor.PARKED_KEY
    assert place(driver).offset == driver._world.kafka.log(TILL).end
    t.Code.mend(True)
    driver.redrive()
    assert place(driver).waits_for is WaitsFor.NOTHING


def test_a_service_that_is_held_stands_where_it_is(driver: TestDriver) -> None:
    for n in range(30):
        driver.send_unseen("tills", f"till-{n}", t.Take(6))
    driver.advance(5)
    assert worker(driver).stats.held
    before = place(driver)
    driver.send_unseen("tills", "till-x", t.Take(1))
    driver.advance(5)
    assert place(driver).waits_for is WaitsFor.HELD
    assert place(driver).offset == before.offset == driver._world.kafka.log(TILL).end - 1
    t.Code.mend(True)
    driver.resume()
    driver.redrive()
    assert place(driver).waits_for is WaitsFor.NOTHING


def test_a_partition_that_is_to_be_tried_again_says_so(driver: TestDriver) -> None:
    lane = worker(driver).lane
    lane._hold(lane._tasks[TILL], 60.0)
    assert place(driver).waits_for is WaitsFor.RETRY


def test_an_open_transaction_is_said_when_it_lasts(driver: TestDriver) -> None:
    clock = MemoryClock()
    held_back = HeldBack(clock)
    worker(driver).lane.places.watch((), (), held_back)
    held_back.look(Polled(ends={TILL: 5}, held_back={TILL}))
    assert place(driver).waits_for is WaitsFor.NOTHING, "others write all the time"
    clock.advance(HELD_BACK_S + 1)
    assert place(driver).waits_for is WaitsFor.OPEN_TRANSACTION
    held_back.look(Polled(batches={TILL: []}, ends={TILL: 9}, held_back={TILL}))
    assert place(driver).waits_for is WaitsFor.NOTHING, "it went on, and stands before the next transaction"
    assert held_back.look(Polled(ends={TILL: 9})) == 0
