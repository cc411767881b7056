"""Histories with projections in a database that all workers of a service share, and that may not answer."""

import pytest

from pipeline.testing import Simulation, TestDriver
from pipeline.testing.simulation import Fault, Schedule, Sent
from tests.simulation.worlds.seeds import FRESH, PER_TEST
from tests.simulation.worlds.tills import IN_DATABASES, TOPOLOGY, Close, Code, Take, commands

FIXED = range(0, 200, PER_TEST)


def run(seed: int) -> list[str]:
    return Simulation(IN_DATABASES, seed, commands=commands, mend=Code.mend).run().findings


@pytest.mark.parametrize("first", [*FIXED, FRESH])
def test_nothing_is_wrong(first: int) -> None:
    for seed in range(first, first + PER_TEST):
        simulation = Simulation(IN_DATABASES, seed, commands=commands, mend=Code.mend)
        if simulation.run().findings:
            simulation.check()


def test_who_was_before_is_fenced_in_some_of_them() -> None:
    fenced = 0
    for seed in range(300):
        story = Simulation(IN_DATABASES, seed, commands=commands, mend=Code.mend).run(telling=True).story
        fenced += sum("Superseded" in line for line in story)
        if fenced > 5:
            return
    pytest.fail(f"only {fenced} are fenced")


@pytest.mark.parametrize("call", ["get", "write", "position"])
def test_a_database_that_does_not_answer_for_a_moment_ends_the_lane_and_no_more(call: str) -> None:
    asked = [Sent(43 + 5 * n, "tills", f"till-{n % 3}", Take(10 + n)) for n in range(8)]
    away = 0
    for nth in range(1, 60):
        schedule = Schedule(tuple(asked), (Fault("damage", f"store.{call}:before", nth, 0.05, 0.6),))
        history = Simulation(IN_DATABASES, schedule=schedule).run(telling=True)
        assert history.findings == []
        away += any("DatabaseUnreachable" in line for line in history.story)
    assert away > 1


def test_rows_in_a_database_are_read_like_all_others() -> None:
    tables = []
    for topology in (TOPOLOGY, IN_DATABASES):
        with TestDriver(topology) as driver:
            driver.send("tills", "till-1", Take(3), Take(5), Take(2))
            driver.send("tills", "till-2", Take(4), Close())
            tables.append([driver.rows("sums"), driver.rows("open_tills")])
    assert tables[0] == tables[1]
    assert tables[0][1].keys() == {"till-1"}
