"""Poison bursts, and replicas that raise, in the simulated world: nothing is lost, and who loses something is found."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest

from pipeline.engine.copies.replica import ReplicaCopy
from pipeline.engine.copies.replica_queue import ReplicaQueue
from pipeline.engine.loop.lane import Lane
from pipeline.engine.loop.transaction import Transaction
from pipeline.engine.parking.error_rate import ErrorRate
from pipeline.engine.ports import TP, Record
from pipeline.errors import FoldError
from pipeline.testing import Simulation
from pipeline.testing.simulation import Schedule, from_seed
from pipeline.testing.simulation.schedule import Operation, Sent
from tests.simulation.worlds import rates, tills

SEEDS = 120


def burst(seed: int) -> Schedule:
    """Commands to several keys, half of which raise until the code is mended, and operators who look after it."""
    whole = from_seed(seed, tills.commands)
    sent = [Sent(n * 7, "tills", f"till-{n % 5}", tills.Take(6 if n % 2 else 1 + n % 4)) for n in range(16)]
    sent += [Sent(4_000 + n, "tills", f"till-{n % 5}", tills.Take(2)) for n in range(4)]
    operations = (Operation(1_500, "resume"), Operation(2_500, "redrive", 0, 1), Operation(7_000, "resume"))
    return replace(
        whole, commands=tuple(sent), operations=operations, mended_ms=6_000, raising=(0.1, 2 + seed % 3), cleared=True
    )


def raising_copies(seed: int) -> Schedule:
    """A schedule in which the replica's code is broken for a while."""
    whole = rates.schedule(seed)
    return replace(whole, mended_ms=max(whole.mended_ms, 1 + 400 * (seed % 12)))


def bursts_fail(seed: int) -> bool:
    return bool(Simulation(tills.TOPOLOGY, seed, schedule=burst(seed), mend=tills.Code.mend).run().findings)


def copies_fail(seed: int) -> bool:
    return bool(Simulation(rates.TOPOLOGY, seed, schedule=raising_copies(seed), mend=rates.Code.mend).run().findings)


@pytest.mark.parametrize("first", range(0, SEEDS, 20))
def test_a_burst_is_parked_and_the_rest_is_folded_once_it_is_resumed(first: int) -> None:
    for seed in range(first, first + 20):
        Simulation(tills.TOPOLOGY, seed, schedule=burst(seed), mend=tills.Code.mend).check()


@pytest.mark.parametrize("first", range(0, SEEDS, 20))
def test_a_replica_that_raises_lacks_nothing_in_the_end(first: int) -> None:
    for seed in range(first, first + 20):
        Simulation(rates.TOPOLOGY, seed, schedule=raising_copies(seed), mend=rates.Code.mend).check()


def test_seeds_bring_bursts_too() -> None:
    assert any(from_seed(seed, tills.commands).raising[1] for seed in range(200))


# --- planted bugs -----------------------------------------------------------------------------------------------------


def stops_before_the_commit(patch: pytest.MonkeyPatch) -> None:
    def commit(self: Transaction, patience_s: float) -> None:
        rate = self._error_rate
        if rate._raised_now and rate._raised + len(rate._raised_now) >= rate._at_least:
            raise FoldError("too much has raised")
        original(self, patience_s)

    original = Transaction.commit
    patch.setattr(Transaction, "commit", commit)


def a_held_lane_folds_on(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Lane, "_stand_still", lambda self: None)
    patch.setattr(Lane, "_folds", lambda self, tp: tp not in self._waiting and self._tasks.runs(tp))


def resumes_where_the_reader_stands(patch: pytest.MonkeyPatch) -> None:
    """What a held lane has read and not folded is gone."""

    def poll(self: Lane) -> Any:
        batches = original(self)
        if self.stats.held:
            for task in self._tasks.running():
                log = self._consumer.bounds(task.tp)[1]
                task.position = log
        return batches

    original = Lane.poll
    patch.setattr(Lane, "poll", poll)


def a_resume_is_forgotten(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(ErrorRate, "resume", lambda self: self._window.clear())


BURSTS = (stops_before_the_commit, a_held_lane_folds_on, resumes_where_the_reader_stands, a_resume_is_forgotten)


@pytest.mark.parametrize("plant", BURSTS, ids=lambda plant: plant.__name__)
def test_a_bug_in_bursts_is_found(plant: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        plant(patch)
        assert any(bursts_fail(seed) for seed in range(SEEDS))


def skips_what_raises(patch: pytest.MonkeyPatch) -> None:
    def fold(self: ReplicaCopy, tp: TP, records: Sequence[Record]) -> Any:
        return original(self, tp, records)._replace(waiting=[])

    original = ReplicaCopy._fold_one_by_one
    patch.setattr(ReplicaCopy, "_fold_one_by_one", fold)


def later_events_overtake_the_one_that_waits(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(ReplicaQueue, "__contains__", lambda self, key: False)


def decides_with_a_row_that_lacks_events(patch: pytest.MonkeyPatch) -> None:
    def find(self: ReplicaCopy, key: str) -> Any:
        held, self.queues = self.queues, [_Nothing() for _ in self.queues]  # type: ignore[misc]
        try:
            return original(self, key)
        finally:
            self.queues = held

    original = ReplicaCopy.find
    patch.setattr(ReplicaCopy, "find", find)


class _Nothing(ReplicaQueue):
    def __init__(self) -> None:
        self._held = {}


def a_queue_is_forgotten_by_a_restart(patch: pytest.MonkeyPatch) -> None:
    def __init__(self: ReplicaQueue, *given: Any) -> None:
        original(self, *given)
        self._held.clear()

    original = ReplicaQueue.__init__
    patch.setattr(ReplicaQueue, "__init__", __init__)


COPIES = (
    skips_what_raises,
    later_events_overtake_the_one_that_waits,
    decides_with_a_row_that_lacks_events,
    a_queue_is_forgotten_by_a_restart,
)


@pytest.mark.parametrize("plant", COPIES, ids=lambda plant: plant.__name__)
def test_a_bug_in_copies_is_found(plant: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        plant(patch)
        assert any(copies_fail(seed) for seed in range(SEEDS))
