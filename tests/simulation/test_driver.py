"""The synchronous driver: what it shows, and that it is quick."""

import time

import pytest

from pipeline.errors import FoldError, UnknownTable
from pipeline.testing import TestDriver
from pipeline.topology import Topology
from tests.simulation.worlds import tills as t


def test_all_that_follows_from_a_command_has_happened() -> None:
    with TestDriver(t.TOPOLOGY) as driver:
        driver.send("tills", "till-1", t.Take(3), t.Take(10))
        assert driver.events("tills", "till-1") == [t.Taken(3), t.Taken(10), t.Taken(1)]
        state = driver.row("tills", "till-1")
        assert (state.version, state.body) == (3, t.Till(14))
        assert driver.rows("open_tills") == {"till-1": t.OpenTill(14, 3)}
        assert [book.body for book in driver.rows("books").values()] == [t.Book(14, 3)]
        assert driver.rows("sums") == {"even": t.Sum(10), "odd": t.Sum(4)}
        assert driver.rows("seen") == {"till-1": t.Seen(3)}
        assert driver.records("sums.by_key") == [("odd", t.Part(3)), ("even", t.Part(10)), ("odd", t.Part(1))]
        driver.send("tills", "till-1", t.Close())
        assert driver.rows("open_tills") == {}
        assert driver.row("seen", "till-1") is None


def test_time_passes_only_when_it_is_told_to() -> None:
    with TestDriver(t.TOPOLOGY) as driver:
        before = driver.now_ms
        driver.send_unseen("tills", "till-1", t.Take(3))
        assert (driver.now_ms, driver.events("tills", "till-1")) == (before, [])
        driver.advance(60)
        assert driver.now_ms == before + 60_000
        assert driver.events("tills", "till-1") == [t.Taken(3)]


def test_what_a_topology_raises_is_the_tests_to_see() -> None:
    def decide(command: object, till: t.Till) -> list[object]:
        raise ZeroDivisionError

    broken = t.Aggregate("tills", t.Take | t.Close | t.Scribble, t.tills.event, t.Till(), decide, t.evolve_till)
    topology = Topology("broken", {"tills": t.Service("tills", aggregates=[broken])}, t.SCHEMAS)
    with TestDriver(topology) as driver, pytest.raises(FoldError, match="ZeroDivisionError"):
        driver.send("tills", "till-1", t.Take(3))


def test_an_unknown_table_is_told() -> None:
    with TestDriver(t.TOPOLOGY) as driver, pytest.raises(UnknownTable, match="no table 'nowhere'"):
        driver.rows("nowhere")


def test_a_test_takes_milliseconds() -> None:
    took = []
    for _ in range(10):
        began = time.process_time()
        with TestDriver(t.TOPOLOGY) as driver:
            driver.send("tills", "till-1", t.Take(3))
        took.append(time.process_time() - began)
    assert min(took) < 0.05
