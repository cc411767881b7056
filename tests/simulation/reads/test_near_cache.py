"""Near caches in the simulated world: what a command has caused is in the answer, wherever it comes from."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from pipeline.adapters.memory import MemoryLogReader
from pipeline.client.near_cache.cache import NearCache
from pipeline.client.near_cache.cached_partition import PendingRead
from pipeline.client.owner_request import Answer
from pipeline.client.wire.read_options import ReadOptions
from pipeline.errors import UnknownKey
from pipeline.flow import token_to_token
from pipeline.model import Token
from pipeline.model.records.partitioning import partition_of
from pipeline.testing.simulation.world import World
from tests.simulation.reads.test_at_least import WorldSight
from tests.simulation.reads.test_watch import found, run
from tests.simulation.worlds.reading import LINEAGE, LOOK_S, caused, world_of
from tests.simulation.worlds.tills import Take


class Hasty(NearCache):
    """Does not wait for what a token names."""

    def _contains(self, *_: Any) -> bool:
        return True


@dataclass(slots=True)
class Readers:
    """Send commands to tills, and read the books that they come to, by way of a cache, at least at their positions."""

    world: World
    rng: random.Random
    cache: NearCache
    offset_source: WorldSight
    read: list[tuple[str, str, int]] = field(default_factory=list)  # command, book and its version
    tokens: list[tuple[str, str, Token]] = field(default_factory=list)

    def send(self, n: int) -> None:
        till = self.rng.choice(("till-1", "till-2"))
        tp = self.world.send("tills", till, Take(self.rng.randrange(1, 9)), f"r{n}")
        book = f"book-{'ab'[ord(till[-1]) % 2 ^ len(till) % 2]}"
        self.tokens.append((f"r{n}", book, Token.of({tuple(tp): self.world.kafka.log(tp).end - 1})))  # type: ignore[dict-item]
        for _ in range(2):
            self.get(*self.rng.choice(self.tokens[-3:]))

    def get(self, name: str, book: str, token: Token) -> None:
        partition = partition_of(book.encode(), self.world.schedule.partitions)
        asked = ReadOptions(at_least=token)
        try:
            row = self.cache.find("books", partition, book, asked)
        except UnknownKey:
            row = {"version": 0}
        if row is not None:
            self.read.append((name, book, row["version"]))
            return
        pending_read = self.cache.ask("books", partition, book)
        steps = token_to_token(LINEAGE, token.positions, "books.command", frozenset({partition}), self.offset_source)
        self._resolve(name, book, asked, partition, pending_read, steps)

    def _resolve(
        self, name: str, book: str, asked: ReadOptions, partition: int, pending_read: PendingRead, steps: Any
    ) -> None:
        try:
            steps.send(None)
        except StopIteration as done:
            self._look(name, book, asked, partition, pending_read, done.value.get(partition, -1))
            return
        self._later(lambda: self._resolve(name, book, asked, partition, pending_read, steps))

    def _look(
        self, name: str, book: str, asked: ReadOptions, partition: int, pending_read: PendingRead, due: int
    ) -> None:
        answer = found(self.world, self.rng, "books", book, due)
        if answer is None:
            self._later(lambda: self._look(name, book, asked, partition, pending_read, due))
            return
        there = answer.row is not None
        headers = {"x-pipeline-row-position": f"books.state/{partition}@{answer.rows - 1}"} if answer.rows else {}
        if answer.position:
            headers["x-pipeline-position"] = f"books.command/{partition}@{answer.position - 1}"
        body = json.loads(json.dumps(answer.row if there else {"error": "UnknownKey", "detail": "none"}))
        status = 200 if there else 404
        self.cache.keep(pending_read, "books", partition, book, asked, Answer(status, body, headers))
        self.cache.forget(pending_read, book)
        self.read.append((name, book, body["version"] if there else 0))

    def _later(self, call: Callable[[], None]) -> None:
        self.world.kafka.clock.later(LOOK_S, call)

    def stale(self) -> list[str]:
        """Answers that lack something that their command has caused."""
        due = caused(self.world)
        return [f"{name} of {book} at {n}" for name, book, n in self.read if n < due.get((name, book), 0)]


def cached(seed: int, kind: type[NearCache]) -> tuple[int, int]:
    """How many answers came from the cache, and how many of all were stale."""
    world, rng = world_of("near cache", seed)
    cache = kind(1 << 20, LINEAGE, {}, lambda: world.kafka.clock.now_s, lambda: None)
    readers, reader = Readers(world, rng, cache, WorldSight(world)), MemoryLogReader(world.kafka)

    def step() -> bool:
        cache.step(reader, 0.0)
        return False

    run(world, rng, step, readers.send)
    return cache.figures().hits, len(readers.stale())


def test_a_near_cache_answers_with_what_the_command_has_caused() -> None:
    hits = 0
    for seed in range(40):
        count, stale = cached(seed, NearCache)
        assert stale == 0, f"seed {seed}"
        hits += count
    assert hits > 40 * 2


def test_the_same_look_finds_a_cache_that_does_not_wait() -> None:
    assert sum(cached(seed, Hasty)[1] > 0 for seed in range(10)) >= 5
