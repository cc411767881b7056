"""Slow machines, members that are gone, names held twice: each bug planted here is found in a history spelled out."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from pipeline.adapters.memory import MemoryProducer
from pipeline.engine.loop.lane import Lane
from pipeline.engine.loop.task import Task
from pipeline.testing import Simulation
from pipeline.testing.simulation import Fault, Schedule, Sent
from tests.simulation.worlds.tills import TOPOLOGY, Code, Take

WAITING = tuple(Sent(1_600, "tills", "till-0", Take(1)) for _ in range(30))
LATER = Sent(90_000, "tills", "till-0", Take(1))  # so that the trouble lasts until a transaction would be timed out
BUSY = Fault("busy", "time", 1_500, 1.0, 0.9)  # of the tills


def busy(*faults: Fault) -> Schedule:
    return Schedule((*WAITING, LATER), (BUSY, *faults), workers=1, partitions=1, records_per_poll=40)


def dying(workers: int, partitions: int, commands: int, *deaths: int) -> Schedule:
    """Workers die for good after those flushes, their transactions being open."""
    sent = tuple(Sent(3_000 + n * 300, "tills", f"till-{n % partitions}", Take(1)) for n in range(commands))
    faults = tuple(Fault("crash", "producer.flush:after", nth) for nth in deaths)
    return Schedule(sent, faults, workers=workers, partitions=partitions)


Plant = Callable[[pytest.MonkeyPatch], None]
PLANTED: dict[str, tuple[Plant, Schedule]] = {}


def planted(schedule: Schedule) -> Callable[[Plant], Plant]:
    def plant(plant: Plant) -> Plant:
        PLANTED[plant.__name__] = plant, schedule
        return plant

    return plant


@planted(busy())
def a_fold_does_not_look_at_the_clock(patch: pytest.MonkeyPatch) -> None:
    original = Task.fold
    patch.setattr(Task, "fold", lambda self, records, until_s=0.0: original(self, records))


@planted(busy(Fault("crash", "producer.commit:after", 5, 5.0)))
def what_a_turn_had_no_time_for_is_stepped_over(patch: pytest.MonkeyPatch) -> None:
    def look_after(self: Lane, batch: Any, folded: int) -> None:
        ends = dict(self._ends)
        original(self, batch, folded)
        if not self._rewound:
            self._ends = ends

    original = Lane._look_after
    patch.setattr(Lane, "_look_after", look_after)


@planted(dying(2, 2, 12, 7))
def what_a_dead_member_has_left_open_is_not_ended(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(MemoryProducer, "fence", lambda self, name: None)


@planted(dying(3, 3, 60, 4, 5))
def an_owner_is_noted_only_with_what_it_folds(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Lane, "_claim", lambda self, started: None)


@planted(Schedule(WAITING, (Fault("twin", "time", 2_000),)))
def a_second_worker_of_one_name_is_let_in(patch: pytest.MonkeyPatch) -> None:
    from pipeline.testing.simulation import worker

    patch.setattr(worker, "make_sure_of", lambda *_: None)


def findings(schedule: Schedule) -> list[str]:
    return Simulation(TOPOLOGY, schedule=schedule, mend=Code.mend).run().findings


@pytest.mark.parametrize("name", PLANTED)
def test_a_planted_bug_is_found_and_without_it_the_history_is_clean(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    plant, schedule = PLANTED[name]
    assert findings(schedule) == []
    plant(monkeypatch)
    assert findings(schedule) != []
