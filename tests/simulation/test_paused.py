"""Services that an operator pauses: no more of their commands is folded, whatever fails, and then all of it once."""

from __future__ import annotations

import random
from typing import Any

import pytest

from pipeline.engine.loop.assignment import Assignment
from pipeline.engine.loop.operators import Operators
from pipeline.testing import Simulation
from pipeline.testing.simulation import Schedule, from_seed
from pipeline.testing.simulation.schedule import with_pauses
from tests.simulation.worlds import tills

SEEDS = 16


def schedule(seed: int) -> Schedule:
    return with_pauses(from_seed(seed, tills.commands), random.Random(f"pauses {seed}"))


def simulation(seed: int) -> Simulation:
    return Simulation(tills.TOPOLOGY, seed, schedule=schedule(seed), mend=tills.Code.mend)


@pytest.mark.parametrize("first", range(0, SEEDS, 8))
def test_what_is_paused_is_not_folded_and_in_the_end_all_is_done_once(first: int) -> None:
    for seed in range(first, first + 8):
        simulation(seed).check()


def test_they_are_paused_indeed() -> None:
    stories = [simulation(seed).run(telling=True).story for seed in range(5)]
    assert [line for story in stories for line in story if "Paused(paused=" in line and "newly=0" not in line]
    assert [line for story in stories for line in story if "Resumed(resumed=True" in line]


# --- planted bugs -----------------------------------------------------------------------------------------------------


def a_new_owner_knows_of_no_pause(patch: pytest.MonkeyPatch) -> None:
    def start(self: Assignment, *args: Any) -> Any:
        task = original(self, *args)
        task.pause = None
        return task

    original = Assignment._start
    patch.setattr(Assignment, "_start", start)


def a_pause_is_not_committed(patch: pytest.MonkeyPatch) -> None:
    def commit_pause(self: Operators, action: str, tasks: Any, pause: Any, audit: Any) -> None:
        for task in tasks:
            task.pause = pause

    patch.setattr(Operators, "_commit_pause", commit_pause)


@pytest.mark.parametrize("plant", [a_new_owner_knows_of_no_pause, a_pause_is_not_committed])
def test_a_planted_bug_is_found(plant: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    plant(monkeypatch)
    assert next(seed for seed in range(500) if simulation(seed).run().findings) < 500
