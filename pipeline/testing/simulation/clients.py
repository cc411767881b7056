"""Clients of the simulated world: they store commands, some with a partitioner of their own."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pipeline.adapters.memory.log import Headers
from pipeline.engine.ports import TP
from pipeline.model.records.partitioning import partition_of
from pipeline.testing.simulation.schedule import Sent

if TYPE_CHECKING:
    from pipeline.testing.simulation.world import World


def store(world: World, sent: Sent, name: str, due_ms: int | None = None, headers: Headers = ()) -> TP:
    """Store a client's command, now, with the id `name`. Return where it stands."""
    now_ms = world.kafka.clock.time_ms()
    topic, value = world.oracle.command(sent.aggregate, sent.command, name, now_ms - sent.age_ms, due_ms)
    key, partitions = sent.key.encode(), world.schedule.partitions
    tp = TP(topic, (partition_of(key, partitions) + sent.aside) % partitions)
    offset = world.kafka.append(tp, key, value, headers)
    when = "" if due_ms is None else f" for {(due_ms - now_ms) / 1000:g} s later"
    world.tell("client", f"sends {sent.command} to {sent.key!r}{when} ({topic}-{tp.partition}@{offset})")
    return tp
