"""What each step of the engine costs, in microseconds a command.

Each step is run by itself over the same commands, with the engine's own parts and a real broker, and timed by the
processor time of its thread, so that waiting does not count. Shown beside a baseline of plain Python that is measured
right before and after, since machines and their load differ: that ratio can be compared from one run to another.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks.environment import Place
from benchmarks.peers.accounts import accounts
from benchmarks.peers.commands import commands
from benchmarks.steps.baseline import baseline_us
from pipeline.adapters.kafka import KafkaGroupConsumer, KafkaLogReader, KafkaProducer
from pipeline.adapters.rocksdb.stores import claim_slot
from pipeline.engine.loop.checkpoint import produce_changes
from pipeline.engine.loop.lane import Lane
from pipeline.engine.ports import TP, Position, Record
from pipeline.engine.state.table import Table
from pipeline.flow import command_to_event, event_to_state
from pipeline.model import Rejected, StateMessage

PART = 2_000  # commands that a step takes at once, about as many as the lane does
PARTS = 10  # of them; the best met the least of other processes
KEYS = 2_000


class Step(NamedTuple):
    """A step's cost: microseconds of processor time a command, and how many baselines that is."""

    name: str
    us: float
    ratio: float


class Stopwatch:
    """Times steps; keeps the best measurement of each, in the order of their first."""

    def __init__(self) -> None:
        self._best: dict[str, Step] = {}

    @contextmanager
    def time(self, name: str, items: Callable[[], int]) -> Iterator[None]:
        """Notes what an item takes of the code within; `items` says afterwards how many it has handled."""
        before, started = baseline_us(), time.thread_time()
        yield
        taken_us = (time.thread_time() - started) * 1e6
        if count := items():
            step = Step(name, taken_us / count, taken_us / count / min(before, baseline_us()))
            self._best[name] = min(self._best.get(name, step), step, key=lambda each: each.us)

    def each(self, name: str, parts: list[list[Any]], run: Callable[[Any], Any]) -> list[Any]:
        """What `run` makes of each part, timed."""
        made = []
        for part in parts:
            with self.time(name, part.__len__):
                made.append(run(part))
        return made

    @property
    def steps(self) -> list[Step]:
        return list(self._best.values())


def measure(bootstrap: str, count: int) -> list[Step]:
    """All steps by themselves, then the whole lane over `count` commands."""
    watch = Stopwatch()
    with ExitStack() as clean:
        state = Path(clean.enter_context(tempfile.TemporaryDirectory(ignore_cleanup_errors=True)))
        place = Place(bootstrap)
        clean.callback(place.clear)
        place.feed(commands(PART * PARTS, KEYS))
        fold_steps(place, state, watch, clean)
        lane_step(bootstrap, count, state, watch)
    return watch.steps


def fold_steps(place: Place, state: Path, watch: Stopwatch, clean: ExitStack) -> None:
    """From a record to its event and its state, and from there to broker and table."""
    source_topic = place.plan.source_topics[place.command]
    spec = next(spec for spec in source_topic.tables if spec.name == "accounts")
    decode, encode = source_topic.codec.decode, place.events.encode
    _, stores = claim_slot(state, "accounts", 0)
    store = stores.open("steps")
    clean.callback(store.close)
    table = Table(spec, store)

    records = read(place, watch)
    parts = [records[n : n + PART] for n in range(0, PART * PARTS, PART)]
    watch.each("key, value, time", parts, lambda part: len([(r.key(), r.value(), r.timestamp()) for r in part]))
    values = [[record.value() for record in part] for part in parts]
    messages = watch.each("decode command", values, lambda part: [decode(value) for value in part])
    made = watch.each("decide and evolve", messages, decided)
    keys = [[record.key() for record in part] for part in parts]
    watch.each("get state, cached", keys, lambda part: len([table.get(key) for key in part]))
    values = [[event for event, _ in part] for part in made]
    events = watch.each("encode event", values, lambda part: [encode(event) for event in part])

    def put(part: list[tuple[bytes, StateMessage]]) -> Any:
        for key, row in part:
            table.put(key, row)
        changed = table.changes()
        table.mark_committed()
        return changed

    states = [[(key, row) for key, (_, row) in zip(k, m, strict=True)] for k, m in zip(keys, made, strict=True)]
    changes = watch.each("put and encode state", states, put)
    pairs = [list(zip(k, e, strict=True)) for k, e in zip(keys, events, strict=True)]
    produce(place, pairs, changes, watch, clean)
    for part in changes:
        with watch.time("write table", part.__len__):
            store.write([(table.prefix + key, value) for key, value in part], {"position": 1})
    store.flush()
    watch.each("get state, from RocksDB", keys, lambda part: len([store.get(table.prefix + key) for key in part]))


def decided(messages: list[Any]) -> list[tuple[Any, StateMessage]]:
    """The event of each command, and the state after it."""
    states: dict[str, StateMessage] = {}
    made = []
    for message in messages:
        key = message.body.account_id
        state = states.get(key)
        decision = command_to_event(accounts, b"", state, message, 0)
        assert not isinstance(decision, Rejected)
        for event in decision[0]:
            states[key] = state = event_to_state(accounts, b"", state, event)
            made.append((event, state))
    return made


def read(place: Place, watch: Stopwatch) -> list[Record]:
    """All commands, as the lane polls them."""
    reader = KafkaLogReader(place.bootstrap, f"{place.group}-steps-reader")
    reader.follow({TP(place.command, n): 0 for n in range(place.partitions)})
    found: list[Record] = []
    time.sleep(1)  # lets the client fetch, so that what is timed is taking
    while len(found) < PART * PARTS:
        arrived: list[Record] = []
        with watch.time("consume", arrived.__len__):
            for batch in reader.poll(PART, 0.5).batches.values():
                arrived += batch
        found += arrived
    reader.close()
    return found


def produce(place: Place, events: list[Any], changes: list[Any], watch: Stopwatch, clean: ExitStack) -> None:
    """Transactions of one part each: its events, its changelog, and the commit with the source's position."""
    producer = KafkaProducer(place.bootstrap, f"{place.group}-steps")
    clean.callback(producer.close)
    consumer = KafkaGroupConsumer(place.bootstrap, f"{place.group}-steps", "steps", "steps")  # never joins
    clean.callback(consumer.close)
    for part, changed in zip(events, changes, strict=True):
        producer.begin()
        with watch.time("produce event", part.__len__):
            for key, value in part:
                producer.produce(place.event, key, value, 0)
        with watch.time("produce changelog", changed.__len__):
            produce_changes(producer, place.changelog, changed, 0)
        with watch.time("flush and commit", part.__len__):
            producer.flush(30)
            producer.commit({TP(place.command, 0): Position(0, {})}, consumer.group(), 30)


def folded_since(lane: Lane, before: int) -> int:
    """How many commands a lane has folded more."""
    return lane.stats.commands - before


def lane_step(bootstrap: str, count: int, state: Path, watch: Stopwatch) -> None:
    """The lane itself, turn by turn in this thread, a tenth as many accounts as commands."""
    place = Place(bootstrap)
    place.feed(commands(count, max(1, count // 10)))
    lane = place.lane(state, 1)
    lane.open()
    while not lane.stats.commands:
        lane.turn()
    while (done := lane.stats.commands) < count:
        with watch.time("the whole lane", partial(folded_since, lane, done)):
            while lane.stats.commands < min(count, done + count // 4):
                lane.turn()
    lane.close()
    place.clear()
