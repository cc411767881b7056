"""Offsets that are forgotten, topics made anew: a service ends by itself, and after the cure nothing is twice."""

from __future__ import annotations

import random
from typing import Any

import pytest

from pipeline.engine.loop import standings
from pipeline.engine.loop.standings import TopicWatch
from pipeline.engine.loop.task import Task
from pipeline.engine.state import noted
from pipeline.testing import Simulation
from pipeline.testing.simulation import Schedule, from_seed
from pipeline.testing.simulation.schedule import with_mishap
from tests.simulation.worlds import tills

SEEDS = 60


def mishap(kind: str, seed: int) -> Schedule:
    """A mishap, and what else the seed brings but faults."""
    return with_mishap(from_seed(seed, tills.commands), random.Random(seed), tills.commands, kind)


def fails(kind: str, seed: int) -> bool:
    return bool(simulation(kind, seed).run().findings)


def simulation(kind: str, seed: int) -> Simulation:
    return Simulation(tills.TOPOLOGY, seed, schedule=mishap(kind, seed), mend=tills.Code.mend)


@pytest.mark.parametrize("first", range(0, SEEDS, 20))
@pytest.mark.parametrize("kind", ["forget", "anew"])
def test_after_the_cure_all_goes_on_and_nothing_is_twice(kind: str, first: int) -> None:
    for seed in range(first, first + 20):
        simulation(kind, seed).check()


def test_the_mishaps_happen() -> None:
    for kind, said in (("forget", "the broker forgets"), ("anew", "is made anew"), ("anew", "made anew while it runs")):
        stories = [simulation(kind, seed).run(telling=True).story for seed in range(20)]
        told = [line for story in stories for line in story if said in line]
        cured = [line for story in stories for line in story if "to where it stands" in line]
        assert told, kind
        assert cured, kind


# --- planted bugs -----------------------------------------------------------------------------------------------------


def no_offset_is_taken_for_the_beginning(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(standings, "why_not", lambda *_: None)


def positions_are_noted_a_commit_late(patch: pytest.MonkeyPatch) -> None:
    def note_position(self: Task) -> None:
        now, self.position = self.position, self.committed
        original(self)
        self.position = now

    original = Task.note_position
    patch.setattr(Task, "note_position", note_position)


def a_topic_made_anew_is_taken_for_the_old_one(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(noted, "made_again", lambda *_: [])


def nobody_looks_for_topics_made_anew(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(TopicWatch, "look", lambda *_: None)


PLANTED = [
    ("forget", no_offset_is_taken_for_the_beginning),
    ("forget", positions_are_noted_a_commit_late),
    ("anew", a_topic_made_anew_is_taken_for_the_old_one),
    ("anew", nobody_looks_for_topics_made_anew),
]


@pytest.mark.parametrize(("kind", "plant"), PLANTED, ids=[plant.__name__ for _, plant in PLANTED])
def test_a_bug_in_mishaps_is_found(kind: str, plant: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        plant(patch)
        assert any(fails(kind, seed) for seed in range(SEEDS))
