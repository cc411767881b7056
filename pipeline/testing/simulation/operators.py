"""Operators in the simulated world: they redrive and discard parked records, and pause services."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from pipeline.engine.ports import TP
from pipeline.engine.state.parked_table import parts
from pipeline.errors import TableUnavailable
from pipeline.testing.simulation.schedule import Operation

if TYPE_CHECKING:
    from pipeline.engine.loop.lane import Lane
    from pipeline.engine.parking.parking_log import Audit
    from pipeline.testing.simulation.worker import Worker
    from pipeline.testing.simulation.world import World

CLEARING_MAX = 60  # rounds


class Held(NamedTuple):
    """A key that has parked records, and the first of them, from its owner's table."""

    worker: Worker
    tp: TP
    key: bytes
    offset: int


class Asked(NamedTuple):
    """What an operator asks of a worker."""

    operation: Operation
    worker: Worker
    tp: TP
    key: bytes
    offset: int


def held(world: World) -> list[Held]:
    """Return all keys that have parked records, in order."""
    found: dict[tuple[TP, bytes], Held] = {}
    for worker in world.workers:
        views = {} if worker.lane is None else worker.lane.views
        for source_topic in worker.plan.source_topics.values():
            for n in range(world.schedule.partitions):
                view = views.get((source_topic.queue, n))
                if view is not None and view.copy is None and not view.restoring:
                    # without passing the lane's points
                    store, tp = worker.stores[f"{source_topic.topic}-{n}"], TP(source_topic.topic, n)
                    for row, _ in store.scan(view.prefix, view.prefix, 10**9):
                        key, offset = parts(row[len(view.prefix) :])
                        found.setdefault((tp, key), Held(worker, tp, key, offset))
    return [found[place] for place in sorted(found)]


def operate(world: World, operation: Operation) -> None:
    """Send an operator's action to the owner of a key.

    A resume goes to all workers that hold anything, a pause to all of a service.
    """
    if operation.action in ("pause", "resume"):
        plans = world.oracle.plans
        service = plans[operation.nth % len(plans)].service
        for worker in world.workers:
            stats = worker.stats
            if operation.action == "resume":
                is_meant = stats.held or stats.paused or any(stats.replica_keys.values())
            else:
                is_meant = worker.plan.service is service
            if worker.lane is not None and is_meant:
                _ask(world, Asked(operation, worker, TP("", 0), b"", 0))
        return
    try:
        keys = held(world)
    except TableUnavailable:  # the partition is moving
        return
    if keys:
        worker, tp, key, offset = keys[operation.nth % len(keys)]
        world.tell("operator", f"{operation.action} {operation.limit} of {key!r} in {tp.topic}-{tp.partition}")
        _ask(world, Asked(operation, worker, tp, key, offset))


def act_on_service(world: World, worker: Worker, lane: Lane, operation: Operation, audit: Audit) -> None:
    """Pause or resume a worker's lane, and remember where what it has paused stands."""
    running, offsets = lane._tasks.running(), world.kafka.group(worker.plan.group).offsets
    if operation.action == "resume":
        before = {task.tp: world.paused.pop(task.tp) for task in running if task.tp in world.paused}
        try:
            world.tell(worker.name, str(lane.resume(audit)))
        except TableUnavailable:
            world.paused |= before
            raise
        return
    world.tell(worker.name, str(lane.pause(audit)))
    world.paused |= {task.tp: offsets[task.tp].offset for task in running if task.pause is not None}


def look_at_paused(world: World, worker: Worker) -> None:
    """Find it wrong if a service has folded on where it is paused."""
    offsets = world.kafka.group(worker.plan.group).offsets
    for tp in [tp for tp in world.paused if tp.topic in worker.plan.source_topics]:
        if offsets[tp].offset != world.paused[tp]:
            at = world.paused.pop(tp)
            world.wrong(f"{worker.name} folds {tp.topic}-{tp.partition} from {at} on, though it is paused")


def _ask(world: World, asked: Asked) -> None:
    worker = asked.worker
    worker.asked.append((asked.operation, asked.tp, asked.key, asked.offset))
    if worker.state == "waiting":
        world.make_ready(worker)


def all_done(world: World) -> bool:
    """Return whether all operators' actions are done, and all is settled."""
    return not any(worker.asked for worker in world.workers) and world.is_settled()


def clear(world: World, patience_s: float) -> bool:
    """Redrive all parked records, and discard those that raise again. Return whether that succeeded."""
    for turn in range(CLEARING_MAX):
        keys = held(world)
        if not keys:
            return True
        for nth in range(len(keys)):
            operate(world, Operation(0, "redrive" if turn % 2 == 0 else "discard", nth, 3))
        if not world.until(lambda: all_done(world), world.kafka.clock.now_s + patience_s):
            world.wrong(f"not settled {patience_s:.0f} s after a redrive: {world.unsettled()}")
            return False
    world.wrong(f"still waiting: {[each[1:] for each in held(world)]}")
    return False
