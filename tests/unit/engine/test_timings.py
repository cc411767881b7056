"""Histograms of a lane's work: each batch, commit and reply counts once, also after an abort; ages of what waits."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from pipeline.adapters.memory.clock import MemoryClock
from pipeline.engine.ports import TP, Batch
from pipeline.engine.timings import Histogram, Timings
from pipeline.errors import RecordRefused, TransactionAborted
from pipeline.testing import TestDriver
from pipeline.worker.metrics.lanes import LaneCollector
from tests.simulation.worlds import tills as t


class Record:
    """A record that was appended at some time."""

    def __init__(self, time_ms: int) -> None:
        self._time_ms = time_ms

    def timestamp(self) -> tuple[int, int]:
        return 2, self._time_ms


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


def batch(*times_ms: int) -> Batch:
    return Batch(TP("t", 0), [Record(time_ms) for time_ms in times_ms])  # type: ignore[misc]


def total(histogram: Histogram) -> int:
    return sum(histogram.counts)


def value(driver: TestDriver, name: str) -> float:
    """The metric of the service, at the time of the driver."""
    families = LaneCollector({"tills": worker(driver).stats}, worker(driver).clock).collect()
    (sample,) = next(family.samples for family in families if family.name == name)
    return sample.value


def test_a_bound_belongs_to_its_bucket() -> None:
    histogram = Histogram((1, 2))
    for each in (0, 1, 1.5, 2, 2.5):
        histogram.observe(each)
    assert (histogram.counts, histogram.sum) == ([2, 2, 1], 7)


@pytest.mark.parametrize("commands", [1, 2, 3, 4, 5, 9, 1000])
def test_each_command_counts_once_whatever_the_samples(commands: int) -> None:
    timings = Timings()
    timings.folded(batch(*[1000] * commands), commands, 0.1, commands)
    timings.committed(0.1, 1500)
    assert (total(timings.reply), timings.reply.sum) == (commands, pytest.approx(0.5 * commands))


def test_the_samples_are_spread_over_the_batch() -> None:
    timings = Timings()
    timings.folded(batch(*range(0, 4000, 10)), 400, 0.1, 400)
    timings.committed(0.1, 4000)
    assert timings.reply.sum == pytest.approx(100 * (4 + 3 + 2 + 1)), "at 0, 1000, 2000 and 3000 ms"


def test_a_batch_of_which_few_records_were_commands_counts_these() -> None:
    timings = Timings()
    timings.folded(batch(*[0] * 100), 100, 0.1, 2)
    timings.committed(0.1, 1000)
    assert (total(timings.reply), total(timings.commit), timings.committed_records.sum) == (2, 1, 100)


def test_the_clock_of_a_broker_that_is_ahead_gives_no_negative_time() -> None:
    timings = Timings()
    timings.folded(batch(5000), 1, 0.1, 1)
    timings.committed(0.1, 1000)
    assert timings.reply.counts[0] == 1
    assert timings.reply.sum == 0


def test_a_lane_counts_what_it_folds_commits_and_answers(driver: TestDriver) -> None:
    driver.send("tills", "till-1", t.Take(1), t.Take(2))
    driver.send("tills", "till-2", t.Take(3))
    stats = worker(driver).stats
    timings = stats.timings
    assert timings.batch["tills.command"].sum == 3
    assert total(timings.fold["tills.command"]) == total(timings.batch["tills.command"])
    assert total(timings.commit) == stats.checkpoints
    assert total(timings.reply) == stats.commands == 3
    assert timings.committed_records.sum == stats.records
    assert stats.opened_s == 0


def test_what_is_folded_again_after_an_abort_is_answered_once(driver: TestDriver) -> None:
    producer = worker(driver).lane._producer
    commit, aborts = producer.commit, []

    def refuse(*arguments: Any) -> None:
        if not aborts:
            aborts.append(1)
            producer.commit = commit
            raise TransactionAborted("planned")
        commit(*arguments)

    producer.commit = refuse
    driver.send("tills", "till-1", t.Take(1))
    stats = worker(driver).stats
    assert (stats.aborts, total(stats.timings.reply)) == (1, 1)
    assert driver.events("tills", "till-1") == [t.Taken(1)]


def test_what_is_committed_record_by_record_is_not_taken_for_waiting(driver: TestDriver) -> None:
    producer = worker(driver).lane._producer
    commit, refused = producer.commit, []

    def refuse(*arguments: Any) -> None:
        if not refused:
            refused.append(1)
            raise RecordRefused("planned")
        commit(*arguments)

    producer.commit = refuse
    driver.send("tills", "till-1", t.Take(1))
    assert driver.events("tills", "till-1") == [t.Taken(1)]
    driver.advance(3600)
    driver.send("tills", "till-1", t.Take(2))
    timings = worker(driver).stats.timings
    assert (total(timings.reply), timings.reply.sum < 60) == (1, True), "the first was committed by itself"


def test_rows_are_found_in_memory_or_not(driver: TestDriver) -> None:
    driver.send("tills", "till-1", t.Take(1))
    stats = worker(driver).stats
    assert (stats.cache_hits["tills"], stats.cache_misses["tills"]) == (0, 1)
    driver.send("tills", "till-1", t.Take(2))
    driver.send("tills", "till-2", t.Take(2))
    assert (stats.cache_hits["tills"], stats.cache_misses["tills"]) == (1, 2)


def test_the_oldest_parked_record_has_an_age_until_it_is_gone(driver: TestDriver) -> None:
    assert value(driver, "pipeline_oldest_parked_seconds") == 0
    driver.send("tills", "till-1", t.Take(6))
    driver.advance(100)
    driver.send("tills", "till-2", t.Take(6))
    driver.advance(10)
    assert 110 <= value(driver, "pipeline_oldest_parked_seconds") < 112
    worker(driver).lane.close()
    worker(driver).start()  # read from the store again
    driver.advance(10)
    assert 120 <= value(driver, "pipeline_oldest_parked_seconds") < 123
    t.Code.mend(True)
    driver.redrive()
    assert value(driver, "pipeline_oldest_parked_seconds") == 0


def test_a_transaction_has_an_age_as_long_as_it_is_open(driver: TestDriver) -> None:
    stats, clock = worker(driver).stats, MemoryClock()
    clock.now_s, stats.opened_s = 20.0, 7.5
    families = {family.name: family for family in LaneCollector({"tills": stats}, clock).collect()}
    assert families["pipeline_open_transaction_seconds"].samples[0].value == 12.5
