"""Tokens in the simulated world: what a command has caused over a reaction of another service is in the answer."""

from __future__ import annotations

import random
from collections.abc import Callable, Coroutine, Generator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from pipeline.engine.ports import TP
from pipeline.errors import TableUnavailable
from pipeline.flow import Folder, OffsetSource, token_to_token
from pipeline.model.records.partitioning import partition_of
from pipeline.server.reads.local_tables import LocalTables
from pipeline.testing.simulation.worker import Worker
from pipeline.testing.simulation.world import World
from tests.simulation.worlds.reading import LINEAGE, LOOK_S, caused, world_of
from tests.simulation.worlds.tills import Take

BOOKS = ("book-a", "book-b")


class Until:
    """Waits until that is so; who drives it looks again when it likes."""

    def __init__(self, there: Callable[[], bool]) -> None:
        self._there = there

    def __await__(self) -> Generator[None, None, None]:
        while not self._there():
            yield


class WorldSight:
    """What a reader sees of a world: stable offsets of groups, ends of logs with what is open."""

    def __init__(self, world: World) -> None:
        self._world = world

    async def partitions(self, topic: str) -> int:
        return len(self._world.kafka.topics[topic].logs)

    async def passed(self, wanted: Mapping[Folder, int]) -> None:
        for folder, offset in wanted.items():
            await Until(lambda folder=folder, offset=offset: self._folded(folder) > offset)  # type: ignore[misc]

    def _folded(self, folder: Folder) -> int:
        tp = TP(folder.topic, folder.partition)
        told = self._world.kafka.group(folder.service).committed([tp])
        position = told[tp] if told is not None else None
        return 0 if position is None else position.offset

    async def ends(self, partitions: Sequence[tuple[str, int]]) -> Mapping[tuple[str, int], int]:
        return {place: self._world.kafka.log(TP(*place)).end for place in partitions}


class Impatient(WorldSight):
    """Asks for ends before services have got there: what the order of the two questions is for."""

    async def passed(self, wanted: Mapping[Folder, int]) -> None:
        pass


@dataclass(slots=True)
class Readers:
    """Send commands to tills, and read the books at least at their positions, of any worker that claims them."""

    world: World
    offset_source: OffsetSource
    rng: random.Random
    read: list[tuple[str, str, int]] = field(default_factory=list)  # command, book and its version

    def send(self, name: str) -> None:
        key = self.rng.choice(("till-1", "till-2"))
        tp = self.world.send("tills", key, Take(self.rng.randrange(1, 9)), name)
        token = {tuple(tp): self.world.kafka.log(tp).end - 1}
        book = self.rng.choice(BOOKS)
        partition = partition_of(book.encode(), self.world.schedule.partitions)
        steps = token_to_token(LINEAGE, token, "books.command", frozenset({partition}), self.offset_source)  # type: ignore[arg-type]
        self._resolve(name, book, partition, steps)

    def _resolve(self, name: str, book: str, partition: int, steps: Coroutine[Any, Any, dict[int, int]]) -> None:
        try:
            steps.send(None)
        except StopIteration as done:
            self._look(name, book, partition, done.value.get(partition, -1))
            return
        self.world.kafka.clock.later(LOOK_S, lambda: self._resolve(name, book, partition, steps))

    def _look(self, name: str, book: str, partition: int, due: int) -> None:
        for worker in self.rng.sample(self.world.workers, len(self.world.workers)):
            tables = self._tables(worker, partition)
            try:
                if tables is not None and tables.position("books", partition) > due:
                    value = tables.value("books", partition, book.encode())
                    self.read.append((name, book, 0 if value is None else value.version))
                    return
            except TableUnavailable:
                continue
        self.world.kafka.clock.later(LOOK_S, lambda: self._look(name, book, partition, due))

    def _tables(self, worker: Worker, partition: int) -> LocalTables | None:
        view = worker.lane.views.get(("books", partition)) if worker.lane is not None else None
        if view is None or worker.state == "paused":
            return None
        stored = view._replace(store=worker.stores[f"books.command-{partition}"])
        return LocalTables(lambda: {("books", partition): stored})

    def stale(self) -> list[str]:
        """Answers that lack something that their command has caused."""
        due = caused(self.world)
        return [
            f"{name} read {book} at {version}"
            for name, book, version in self.read
            if version < due.get((name, book), 0)
        ]


def outcome(seed: int, sight_of: Callable[[World], OffsetSource]) -> tuple[int, int]:
    """How many answers there were, and how many of them stale."""
    world, rng = world_of("at least", seed)
    readers = Readers(world, sight_of(world), rng)
    at_s = 0.0
    for n in range(12):
        at_s += rng.uniform(0.1, 1.0)
        world.kafka.clock.later(at_s, lambda n=n: readers.send(f"r{n}"))  # type: ignore[misc]
    world._to_come += 1  # faults are over once this has happened
    world.kafka.clock.later(at_s + 15.0, lambda: setattr(world, "_to_come", world._to_come - 1))
    assert world.run() == []
    return len(readers.read), len(readers.stale())


def test_at_least_sees_what_the_command_has_caused() -> None:
    answered = 0
    for seed in range(40):
        count, stale = outcome(seed, WorldSight)
        assert stale == 0, f"seed {seed}"
        answered += count
    assert answered > 40 * 8


def test_the_same_look_finds_that_less_is_not_enough() -> None:
    assert sum(outcome(seed, Impatient)[1] > 0 for seed in range(10)) >= 5
