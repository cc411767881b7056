"""Watched rows in the simulated world, under crashes, zombies, lost answers and cleaning."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, field

from pipeline.adapters.json.writing import row_json
from pipeline.adapters.memory import MemoryLogReader
from pipeline.engine.ports import TP
from pipeline.errors import TableUnavailable
from pipeline.model.records.partitioning import partition_of
from pipeline.server.reads.local_tables import Found, LocalTables
from pipeline.server.watch.row_tail import Event, TailWithCatchUp, Watch
from pipeline.testing.simulation.world import World
from tests.simulation.worlds.reading import LINEAGE, LOOK_S, world_of
from tests.simulation.worlds.tills import Close, Take

ROWS = (("tills", "till-1"), ("open_tills", "till-1"), ("open_tills", "till-2"), ("sums", "odd"), ("sums", "even"))


def found(world: World, rng: random.Random, table: str, key: str, due: int | None = None) -> Found | None:
    """What some worker that claims it answers now: its owner, a standby or a zombie; `due`: what it has to be past."""
    partition = partition_of(key.encode(), world.schedule.partitions)
    home = LINEAGE.home(table)
    for worker in rng.sample(world.workers, len(world.workers)):
        view = worker.lane.views.get((table, partition)) if worker.lane is not None else None
        if view is None or worker.state == "paused":
            continue
        here = view._replace(store=worker.stores[f"{home}-{partition}"])
        tables = LocalTables(lambda here=here: {(table, partition): here})  # type: ignore[misc]
        try:
            if due is None or tables.position(table, partition) > due:
                return tables.read(table, partition, key)
        except TableUnavailable:
            continue
    return None


@dataclass(slots=True)
class Watched:
    table: str
    present: Found
    watch: Watch
    began: int
    resumed: bool
    told: list[Event] = field(default_factory=list)


@dataclass(slots=True)
class Watchers:
    """Watch rows from now on, or from somewhere in the past. `begin(found)`: the offset that the present row is at."""

    world: World
    rng: random.Random
    begin_at: Callable[[Found], int]
    tail: TailWithCatchUp
    watched: list[Watched] = field(default_factory=list)
    lost: list[Watch] = field(default_factory=list)

    def begin(self) -> None:
        table, key = self.rng.choice(ROWS)
        present = found(self.world, self.rng, table, key)
        if present is None:
            return
        tp = TP(LINEAGE.rows[table], partition_of(key.encode(), self.world.schedule.partitions))
        end = self.begin_at(present)
        resumed = self.rng.random() < 0.4
        start = self.rng.randrange(end + 1) if resumed else end
        tell = lambda offset, value: f"{offset}"  # noqa: E731
        watch = Watch(tp, key.encode(), start, end, tell, absent=present.row is None)
        self.watched.append(Watched(table, present, watch, start, resumed))
        self.tail.add(watch)
        if self.rng.random() < 0.3:  # one that goes again, whose partition others may still watch
            other = Watch(tp, key.encode(), end, end, tell, absent=False)
            self.tail.add(other)
            self.world.kafka.clock.later(self.rng.uniform(0, 2), lambda: self.tail.remove(other))

    def step(self) -> bool:
        moved, lost = self.tail.step(0.0)
        self.lost += lost
        for each in self.watched:
            each.told += each.watch.drain()
        return bool(moved)

    def wrong(self) -> list[str]:
        wrong = [f"{each.table} {each.watch.key!r}: {why}" for each in self.watched if (why := self._wrong(each))]
        return wrong + [f"{watch.tp} has nothing from {watch.next} on" for watch in self.lost]

    def _wrong(self, each: Watched) -> str:
        """Why what was told is not what the log held."""
        watch, log = each.watch, self.world.kafka.log(each.watch.tp)
        codec = self.world.oracle.codec[watch.tp.topic]
        committed = {r.offset(): r.value() for r in log.archive if r.key() == watch.key and r.decided}
        before = [value for offset, value in committed.items() if offset < each.present.rows]
        value = before[-1] if before else None
        row = None if value is None else {"key": watch.key.decode(), **row_json(codec.decode(value))}
        if each.present.row != row:
            return "the present row is not that of its place"
        offsets = [event.offset for event in each.told]
        if offsets != sorted(set(offsets)):
            return f"out of order, or twice: {offsets}"
        due = [offset for offset in committed if offset >= watch.end or (each.resumed and offset >= each.began)]
        deletion = watch.end - 1  # may be told where the log has forgotten it
        extra = [event for event in each.told if event.offset not in due]
        if any(event.offset != deletion or not event.deleted or row is not None for event in extra):
            return f"told what is not there: {extra}"
        kept = {r.offset() for r in log.records}
        if missed := [offset for offset in due if offset in kept and offset not in offsets]:
            return f"missed {missed}"
        if due and due[-1] not in offsets and not (committed[due[-1]] is None and each.told and each.told[-1].deleted):
            return f"missed the last, {due[-1]}"
        return ""


def run(world: World, rng: random.Random, step: Callable[[], bool], more: Callable[[int], None]) -> None:
    """Runs a history with something going on beside it every now and then."""
    at_s = 0.0
    for n in range(16):
        at_s += rng.uniform(0.1, 1.0)
        world.kafka.clock.later(at_s, lambda n=n: more(n))  # type: ignore[misc]

    def again() -> None:
        step()
        if world.kafka.clock.now_s < at_s + 15.0:
            world.kafka.clock.later(LOOK_S, again)

    world.kafka.clock.later(LOOK_S, again)
    world._to_come += 1  # faults are over once this has happened
    world.kafka.clock.later(at_s + 15.0, lambda: setattr(world, "_to_come", world._to_come - 1))
    assert world.run() == []
    while step():
        pass


def watched(seed: int, begin_at: Callable[[Found], int]) -> tuple[int, list[str]]:
    """How much was told, and what was wrong with it."""
    world, rng = world_of("watch", seed)
    tail = TailWithCatchUp(MemoryLogReader(world.kafka), MemoryLogReader(world.kafka))
    watchers = Watchers(world, rng, begin_at, tail)

    def more(n: int) -> None:
        world.send("tills", rng.choice(("till-1", "till-2")), rng.choice((Take(rng.randrange(1, 9)), Close())), f"c{n}")
        watchers.begin()
        if rng.random() < 0.2:
            world.kafka.compact()

    run(world, rng, watchers.step, more)
    return sum(len(each.told) for each in watchers.watched), watchers.wrong()


def test_what_is_watched_is_what_the_row_topic_holds() -> None:
    told = 0
    for seed in range(40):
        count, wrong = watched(seed, lambda present: present.rows)
        assert wrong == [], f"seed {seed}"
        told += count
    assert told > 40 * 8


def test_the_same_look_finds_one_who_begins_too_late() -> None:
    assert sum(bool(watched(seed, lambda present: present.rows + 1)[1]) for seed in range(10)) >= 3
