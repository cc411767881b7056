"""Misplaced keys in the simulated world: none begins a second life, none is lost, and who does either is found."""

from __future__ import annotations

from dataclasses import replace
from typing import Any
from unittest.mock import ANY

import pytest

from pipeline.engine.parking.parking import Parking
from pipeline.model.records.partitioning import partition_of
from pipeline.testing import Simulation
from pipeline.testing.simulation import Schedule, from_seed
from pipeline.testing.simulation.schedule import Operation
from tests.simulation.worlds import deals, tills

SEEDS = 80


def strays(seed: int, world: Any = tills) -> Schedule:
    """Half of the commands stand in a partition where their keys do not belong. Operators redrive some of them."""
    whole = from_seed(seed, world.commands)
    sent = tuple(each._replace(aside=(n + seed) % 2) for n, each in enumerate(whole.commands))
    times = [300 * n + seed for n in range(1, 9)]
    operations = [Operation(at_ms, "discard" if n == 5 else "redrive", n, 1 + n) for n, at_ms in enumerate(times)]
    return replace(whole, commands=sent, operations=tuple(sorted((*whole.operations, *operations))))


def fails(seed: int) -> bool:
    return bool(Simulation(tills.TOPOLOGY, seed, schedule=strays(seed), mend=tills.Code.mend).run().findings)


@pytest.mark.parametrize("first", range(0, SEEDS, 20))
def test_misplaced_commands_are_parked_sent_home_or_discarded(first: int) -> None:
    for seed in range(first, first + 20):
        Simulation(tills.TOPOLOGY, seed, schedule=strays(seed), mend=tills.Code.mend).check()


@pytest.mark.parametrize("first", range(0, SEEDS // 2, 20))
def test_so_are_those_of_sagas(first: int) -> None:
    assert [found for seed in range(first, first + 20) if (found := deals.play(seed, strays(seed, deals)))] == []


def test_seeds_bring_misplaced_keys_too() -> None:
    assert any(sent.aside for seed in range(64) for sent in from_seed(seed, tills.commands).commands)


# --- planted bugs -----------------------------------------------------------------------------------------------------


def keys_live_anywhere(patch: pytest.MonkeyPatch) -> None:
    patch.setattr("pipeline.engine.loop.task.partition_of", lambda *_: ANY)


def a_redrive_folds_it_here(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Parking, "_is_misplaced", lambda self, key: False)


def a_misplaced_record_is_skipped(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Parking, "put_elsewhere", lambda *_: None)


def what_is_sent_home_is_lost(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Parking, "_send_home", lambda *_: None)


def what_is_sent_home_goes_on_waiting(patch: pytest.MonkeyPatch) -> None:
    def release(self: Parking, key: bytes, entry: Any) -> None:
        if partition_of(key, self.partitions) == self.tp.partition:
            original(self, key, entry)
        else:
            self.touched = True

    original = Parking.release
    patch.setattr(Parking, "release", release)


BUGS = (
    keys_live_anywhere,
    a_redrive_folds_it_here,
    a_misplaced_record_is_skipped,
    what_is_sent_home_is_lost,
    what_is_sent_home_goes_on_waiting,
)


@pytest.mark.parametrize("plant", BUGS, ids=lambda plant: plant.__name__)
def test_a_bug_with_misplaced_keys_is_found(plant: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        plant(patch)
        assert any(fails(seed) for seed in range(SEEDS))
