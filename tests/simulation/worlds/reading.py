"""Readers of the simulated world: what befalls it, and what is due in the answers."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

from pipeline.flow import Lineage
from pipeline.testing.simulation import Fault, Schedule
from pipeline.testing.simulation.simulation import known_oracle
from pipeline.testing.simulation.world import World
from tests.simulation.worlds.tills import TOPOLOGY

LOOK_S = 0.02
LINEAGE = Lineage(TOPOLOGY.services.values())


def world_of(name: str, seed: int) -> tuple[World, random.Random]:
    """A world of two workers with some faults, and the dice of whoever reads it."""
    rng = random.Random(f"{name} {seed}")
    kinds: list[Callable[[], Fault]] = [
        lambda: Fault("pause", "step", rng.randrange(40, 800), rng.choice((7.0, 8.0)), rng.random()),
        lambda: Fault("crash", "step", rng.randrange(40, 800), 0.5, rng.random()),
        lambda: Fault("abort", "producer.commit:before", rng.randrange(2, 12)),
        lambda: Fault("markers", "producer.flush:after", rng.randrange(2, 12), 3.0, rng.random()),
        lambda: Fault("expel", "step", rng.randrange(40, 800), 0.0, rng.random()),
        lambda: Fault("late", "producer.commit:before", rng.randrange(2, 12), 0.2),
    ]
    faults = tuple(rng.choice(kinds)() for _ in range(rng.randrange(4)))
    switches = tuple(n for n in range(1, 2500) if rng.random() < 0.05)
    return World(known_oracle(TOPOLOGY), Schedule((), faults, switches, workers=2)), rng


def caused(world: World) -> dict[tuple[str, str], int]:
    """The version that each command has brought a book to, by the ids of command and book."""
    codec, topics = world.oracle.codec, world.kafka.topics

    def events(topic: str) -> list[tuple[str, Any]]:
        records = [record for log in topics[topic].logs for record in log.archive if record.decided]
        return [(record.key().decode(), codec[topic].decode(record.value())) for record in records]

    taken = {f"{key}/{event.version}": event.command_id for key, event in events("tills.event")}
    due: dict[tuple[str, str], int] = {}
    for book, event in events("books.event"):
        _, till, version, _ = event.command_id.split("/")
        place = taken[f"{till}/{version}"], book
        due[place] = max(event.version, due.get(place, 0))
    return due
