"""Thousands of histories, each with its own faults and interleavings: the same seeds every time, and fresh ones."""

import subprocess
import sys
from pathlib import Path

import pytest

from pipeline.adapters.memory import MemoryGroupConsumer
from pipeline.testing import Simulation
from pipeline.testing.simulation import Fault, Schedule, Sent
from tests.simulation.worlds.seeds import FRESH, PER_TEST
from tests.simulation.worlds.tills import TOPOLOGY, Close, Code, Scribble, Take, commands

FIXED = range(0, 800, PER_TEST)
ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("first", [*FIXED, *range(FRESH, FRESH + 300, PER_TEST)])
def test_nothing_is_wrong(first: int) -> None:
    for seed in range(first, first + PER_TEST):
        simulation = Simulation(TOPOLOGY, seed, commands=commands, mend=Code.mend)
        if simulation.run().findings:
            simulation.check()


PRINT = """
from tests.simulation.worlds.tills import TOPOLOGY, Code, commands
from pipeline.testing import Simulation
for seed in range(40):
    history = Simulation(TOPOLOGY, seed, commands=commands, mend=Code.mend).run(telling=True)
    print(seed, history.steps, history.fingerprint, *history.story, sep="\\n")
"""


def test_a_seed_gives_the_same_history_in_every_process() -> None:
    told = []
    for hash_seed in "17":
        command = [sys.executable, "-c", PRINT]
        told.append(
            subprocess.run(command, cwd=ROOT, env={"PYTHONHASHSEED": hash_seed}, capture_output=True, check=True)
        )
    assert told[0].stdout == told[1].stdout
    assert len(told[0].stdout) > 10_000


def test_telling_a_history_does_not_change_it() -> None:
    for seed in range(20):
        simulation = Simulation(TOPOLOGY, seed, commands=commands, mend=Code.mend)
        assert simulation.run().fingerprint == simulation.run(telling=True).fingerprint


def test_a_schedule_says_everything() -> None:
    schedule = Schedule((Sent(5, "tills", "till-1", Take(3)),), (Fault("crash", "producer.commit:after", 3, 0.5),))
    history = Simulation(TOPOLOGY, schedule=schedule).run(telling=True)
    assert history.findings == []
    assert history.struck == {"crash": 1}
    assert history.points == {"crash producer.commit:after"}
    assert any("FAULT crash" in line for line in history.story)


def test_an_event_that_the_client_itself_refuses_is_parked() -> None:
    schedule = Schedule((Sent(5, "tills", "till-1", Scribble(3_000_000)),), workers=1, partitions=1)
    assert Simulation(TOPOLOGY, schedule=schedule).run().findings == []


def test_an_event_that_the_broker_refuses_is_parked() -> None:
    schedule = Schedule((Sent(5, "tills", "till-1", Scribble(1_500_000)),), workers=1, partitions=1)
    assert Simulation(TOPOLOGY, schedule=schedule).run().findings == []


def test_a_worker_that_hangs_while_it_restores_finds_its_way_back() -> None:
    """The restore goes on past its target, into what the new owner has committed meanwhile (as in seed 2180)."""
    schedule = Schedule(
        commands=(Sent(2, "tills", "till-0", Take(10)),),
        faults=(
            Fault("abort", "producer.commit:before", 2),
            Fault("rebalance", "step", 162),
            Fault("pause", "step", 232, 14.0),
        ),
        partitions=1,
    )
    assert Simulation(TOPOLOGY, schedule=schedule).run().findings == []


def test_partitions_that_are_lost_and_come_back_within_one_poll(monkeypatch: pytest.MonkeyPatch) -> None:
    """Seed 102837, made short. The real consumer's poll, too, may call the listener again after it has raised."""
    monkeypatch.setattr(MemoryGroupConsumer, "_is_to_raise", lambda self: False)
    schedule = Schedule(
        commands=(
            Sent(695, "tills", "till-2", Take(9)),
            Sent(859, "tills", "till-1", Take(9)),
            Sent(1145, "tills", "till-0", Take(4)),
            Sent(1222, "tills", "till-2", Take(2)),
            Sent(1945, "tills", "till-2", Take(5)),
        ),
        faults=(
            Fault("crash", "step", 233, 8.0, 0.46),
            Fault("pause", "reader.poll:before", 12, 15.0, 0.34),
            Fault("pause", "producer.commit:after", 1, 8.0, 0.19),
        ),
        workers=1,
        partitions=1,
        standby=True,
    )
    assert Simulation(TOPOLOGY, schedule=schedule).run().findings == []


def test_a_damaged_history_ends_its_lane_and_no_more() -> None:
    commands = [Sent(43 + 5 * n, "tills", "till-1", Take(10), f"again-{n}") for n in range(5)]
    for nth in range(1, 40):
        faults = (Fault("damage", "store.scan:before", nth, 0.05, 0.6),)
        assert Simulation(TOPOLOGY, schedule=Schedule(tuple(commands), faults, workers=1)).run().findings == []


def test_a_day_waits_for_a_standby_that_has_just_begun() -> None:
    """Seed 7000524, made short: what lives and follows has read a deletion long before it is cleaned away."""
    schedule = Schedule(
        commands=(Sent(124, "tills", "till-0", Take(6), "", 0, 300), Sent(325, "tills", "till-0", Take(9))),
        faults=(Fault("pause", "store.write:after", 20, 8.0, 0.13), Fault("day", "time", 3215, 8.0)),
        partitions=1,
        standby=True,
    )
    assert Simulation(TOPOLOGY, schedule=schedule).run().findings == []


def test_a_day_that_finds_no_quiet_moment_falls_away_with_the_other_faults() -> None:
    """Seed 62583987, made short: it passed when all was to settle, and took the time for that with it."""
    schedule = Schedule(
        commands=(
            Sent(408, "tills", "till-3", Take(9)),
            Sent(500, "tills", "till-0", Take(7), "", 0, 300),
            Sent(90_000, "tills", "till-2", Close(), "", 0, 2_000),
        ),
        faults=(Fault("crash", "step", 652), Fault("day", "time", 17_000), Fault("busy", "time", 671, 1.0, 0.78)),
        switches=(
            *(30, 31, 37, 63, 83, 85, 264, 344, 345, 352, 432, 500, 513),
            *(522, 539, 540, 547, 640, 645, 648, 651, 654, 661),
        ),
        mended_ms=2_151,
    )
    assert Simulation(TOPOLOGY, schedule=schedule).run().findings == []
