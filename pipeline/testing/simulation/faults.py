"""The effect of each kind of fault on the simulated world."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pipeline.engine.ports import TP
from pipeline.errors import BrokerUnreachable, OutcomeUnknown, TransactionAborted
from pipeline.testing.simulation.schedule import CHANGELOGS, PLACES, TIME, Fault

if TYPE_CHECKING:
    from pipeline.testing.simulation.worker import Worker
    from pipeline.testing.simulation.world import World

DAY_S = 26 * 3600.0


def strike(world: World, worker: Worker | None, fault: Fault, point: str) -> None:
    """Apply the fault, if it can happen at this point. May raise in the worker, or let others run before it returns."""
    kind, size = fault.kind, fault.size
    if (places := PLACES[kind]) and point not in places:
        return
    who = worker.name if worker is not None else "time"
    world.struck[kind] += 1
    world.points.add(f"{kind} {point}")
    world.tell(who, _said(fault, point))
    if worker is None:
        _in_the_cluster(world, fault)
    elif kind == "crash":
        from pipeline.testing.simulation.worker import Killed

        worker.torn_share = fault.share
        if size:
            world.kafka.clock.later(size, worker.start)
        raise Killed
    elif kind == "pause":
        worker.pause(size)
    elif kind == "stop":
        worker.stopping, worker.again_s = True, size
    elif kind == "abort":
        raise TransactionAborted("the broker has aborted the transaction")
    elif kind == "unknown":
        raise OutcomeUnknown("the commit was left without an answer")
    elif kind == "late":
        worker.late_s = size
    elif kind == "unreachable":
        raise BrokerUnreachable("the broker does not answer")
    elif kind == "damage" and world.touched is not None:
        raise world.touched.damaged()
    elif kind == "fence":
        world.kafka.transactions.fence(worker.name)
    elif kind == "rebalance":
        world.kafka.group(worker.plan.service.name).rebalance()
    elif kind == "expel" and worker.consumer is not None:
        worker.consumer.expel()
    elif kind == "astray" and worker.consumer is not None and worker.reader is not None:
        log_reader = worker.past if fault.share >= 0.75 and worker.past is not None else worker.reader
        (worker.consumer if fault.share < 0.5 else log_reader).go_astray()
    elif kind in ("slow", "markers"):
        _slow(world, worker, fault)
    elif kind == "skew":
        worker.clock.skew_s = size
        world.ahead_ms = max(world.ahead_ms, int(size * 1000))


def _said(fault: Fault, point: str) -> str:
    size = f" ({fault.size:g} s)" if fault.kind in ("crash", "pause", "stop", "late", "slow", "markers", "skew") else ""
    where = "" if point == TIME else f" at {point}"
    return f"FAULT {fault.kind}{size}{where}"


def _slow(world: World, worker: Worker, fault: Fault) -> None:
    """Slow down one topic of the service, or all its changelogs, or the offsets of its group."""
    own = dict(worker.plan.own_topics())
    topics = sorted({*own, *worker.plan.source_topics})
    chosen = int(fault.share * (len(topics) + 1))
    if fault.share == CHANGELOGS:
        slowed = [topic for topic in topics if topic in own and own[topic].compacted]
    else:
        slowed = topics[chosen : chosen + 1]
    tps = [log.tp for topic in slowed for log in world.kafka.topics[topic].logs]
    if fault.kind == "slow":
        world.kafka.slow_down(tps, fault.size)
    else:
        world.kafka.delay_markers(tps or [TP(worker.plan.service.name, -1)], fault.size)
    world.tell("", f"{fault.kind}: {', '.join(slowed) or 'offsets of the group'}")


def _day(world: World) -> None:
    world.tell("time", "a day passes, and the cleaner takes old deletions away")
    world.kafka.compact()
    world.kafka.clock.advance(DAY_S)
    world.kafka.compact()
    for worker in world.everybody():
        worker.wake_s = min(worker.wake_s, world.kafka.clock.now_s)


def _in_the_cluster(world: World, fault: Fault) -> None:
    kind, struck = fault.kind, world.workers[int(fault.share * len(world.workers)) % len(world.workers)]
    if kind == "busy":
        struck.busy_s = fault.size
        world.tell(struck.name, f"from now on, each call takes {fault.size:g} s")
    elif kind == "twin":
        world.double(struck)
    elif kind == "compact":
        world.kafka.compact()
    elif kind == "day":
        world.at_quiet.append(lambda: _day(world))
    elif kind == "forget":
        world.mishaps.forget(struck.plan, fault.share)
    elif kind == "anew":
        world.mishaps.make_anew(struck.plan, fault.share)
    elif kind == "truncate":
        for plan in world.oracle.plans:
            offsets = world.kafka.group(plan.service.name).offsets
            for topic, topic_kind in plan.own_topics():
                for log in world.kafka.topics[topic].logs:
                    if topic_kind.compacted:
                        log.compact(world.kafka.clock.time_ms(), 24 * 3_600_000)
                        log.truncate(log.records[0].offset() if log.records else log.stable_end)
                    elif topic in plan.source_topics and topic_kind.value in ("command", "by_key"):
                        log.truncate(offsets[log.tp].offset if log.tp in offsets else 0)
