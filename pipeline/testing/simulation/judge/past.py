"""Compares the histories on a disk with the event logs."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from typing import TYPE_CHECKING

from pipeline.engine.copies.history_follower import POSITION
from pipeline.engine.ports import TP
from pipeline.engine.state.history_reader import EVENT, STATE, HistorySpec, at_version
from pipeline.flow import event_to_state
from pipeline.model import EventMessage, StateMessage
from pipeline.testing.simulation.judge.differences import committed, rows_differ

if TYPE_CHECKING:
    from pipeline.testing.simulation.worker import Worker
    from pipeline.testing.simulation.world import World

SNAPSHOT_EVERY = 3  # histories are short


def histories(world: World, worker: Worker) -> Iterator[str]:
    """Check that each history has what was committed to its log below the position noted in it, and nothing else."""
    for spec in worker.plan.histories.values():
        for n in range(world.schedule.partitions):
            disk = worker.disk.disks.get(f"history.{spec.aggregate.name}-{n}")
            if disk is not None:
                rows, positions = disk.now()
                position = positions.get(POSITION, 0)
                where = f"the history {spec.aggregate.name}-{n} of {worker.name}, caught up with {position},"
                yield from rows_differ(where, _due(world, spec, n, position), rows)


def _due(world: World, spec: HistorySpec, partition: int, position: int) -> dict[bytes, bytes]:
    rows: dict[bytes, bytes] = {}
    states: dict[bytes, StateMessage | None] = defaultdict(lambda: None)
    for record in committed(world, TP(spec.topic, partition)):
        if record.offset() < position:
            key, event = record.key(), spec.events.decode(record.value())
            assert isinstance(event, EventMessage)
            state = states[key] = event_to_state(spec.aggregate, key, states[key], event)
            rows[at_version(EVENT, key, event.version)] = record.value()
            if event.version % SNAPSHOT_EVERY == 0:
                rows[at_version(STATE, key, event.version)] = spec.states.encode(state)
    return rows
