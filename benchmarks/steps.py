"""What each step of the engine costs, in microseconds a command: `python -m benchmarks.steps`.

Each step is run by itself over the same commands, with the engine's own parts and a real broker, and timed by the
processor time of its thread, so that waiting does not count. Shown beside a baseline of plain Python that is measured
in between, since machines and their load differ: the ratio is what can be compared from one run to another.
"""

from __future__ import annotations

import json
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any, NamedTuple

import click
from rich.console import Console
from rich.table import Table as Shown

from benchmarks.accounts import accounts
from benchmarks.commands import commands
from benchmarks.place import Place, local_broker
from pipeline.adapters.kafka import KafkaGroupConsumer, KafkaLogReader, KafkaProducer
from pipeline.adapters.tables import claim_slot
from pipeline.flow import command_to_event, event_to_state
from pipeline.model import StateMessage
from pipeline.runtime.checkpoint import produce_changes
from pipeline.runtime.lane import Lane
from pipeline.runtime.ports import TP, Position, Record
from pipeline.runtime.table import Table
from pipeline.runtime.worker import MachineClock, calm_the_collector

BATCH = 2_000  # commands between two commits
ROUNDS = 5  # of each step over a part of the commands each; the best of them met the least of other processes


class Step(NamedTuple):
    """A step's cost: microseconds of processor time a command, and how many baselines that is."""

    name: str
    us: float
    ratio: float


def baseline_us() -> float:
    """A fixed piece of plain Python, in microseconds: make a tuple, put it in a dict, find it there."""
    found: dict[int, Any] = {}
    started = time.thread_time()
    for n in range(20_000):
        found[n & 1023] = (n, "text", None)
        found.get(n)
    return (time.thread_time() - started) / 20_000 * 1e6


class Stopwatch:
    """Times steps, each beside a baseline measured right before and after it."""

    def __init__(self) -> None:
        self.steps: list[Step] = []

    def time(self, name: str, parts: list[Any], run: Callable[[Any], Any], share: float = 1.0) -> list[Any]:
        """Runs `run` on each of `parts`; notes the best by what one item of a part takes, times `share`."""
        results, best = [], (float("inf"), 1.0)
        for part in parts:
            before = baseline_us()
            started = time.thread_time()
            results.append(run(part))
            taken = (time.thread_time() - started) / len(part) * 1e6
            best = min(best, (taken, (before + baseline_us()) / 2))
        us = best[0] * share
        self.steps.append(Step(name, us, us / best[1]))
        return results


def measure(place: Place, count: int) -> list[Step]:
    """All steps over `count` commands; the last is the whole lane."""
    watch = Stopwatch()
    with ExitStack() as clean:
        state = Path(clean.enter_context(tempfile.TemporaryDirectory()))
        place.feed(commands(count, max(1, count // 10)))
        wiring = place.wiring
        inlet = wiring.inlets[place.command]
        name, changelog, rows = inlet.tables[0]
        events = place.codec("accounts.event")

        records = read(place, count, watch)
        size = len(records) // ROUNDS
        parts = [records[n * size : (n + 1) * size] for n in range(ROUNDS)]
        decode = inlet.codec.decode
        watch.time("key, value, time", parts, lambda part: [(r.key(), r.value(), r.timestamp()) for r in part])
        values = [[r.value() for r in part] for part in parts]
        messages = watch.time("decode command", values, lambda part: [decode(value) for value in part])

        _, stores = claim_slot(state, "accounts", 0)
        store = stores.open("steps")
        clean.callback(stores.close)
        clean.callback(store.close)
        table = Table(name, changelog, rows, store)
        keys = [[r.key() for r in part] for part in parts]
        watch.time("get state, not there", keys, lambda part: [table.get(key) for key in part])

        def fold(part: list[Any]) -> list[Any]:
            folded: dict[str, StateMessage] = {}
            made = []
            for message in part:
                state = folded.get(message.body.account_id)
                for event in command_to_event(accounts, state, message, 0):
                    folded[message.body.account_id] = event_to_state(accounts, state, event)
                    made.append((event, folded[message.body.account_id]))
            return made

        made = watch.time("decide and evolve", messages, fold)
        values = [[event for event, _ in part] for part in made]
        written = watch.time("encode event", values, lambda part: [events.encode(event) for event in part])
        states = [[(key, state) for key, (_, state) in zip(k, m, strict=True)] for k, m in zip(keys, made, strict=True)]

        producer = KafkaProducer(place.bootstrap, f"{place.group}-steps")
        clean.callback(producer.close)
        group = member(place, clean)
        pairs = [list(zip(k, w, strict=True)) for k, w in zip(keys, written, strict=True)]

        def produce(part: list[tuple[bytes, bytes]]) -> None:
            producer.begin()
            for key, value in part:
                producer.produce(place.event, key, value, 0)

        def commit(_: Any) -> None:
            producer.flush(30)
            producer.commit({TP(place.command, 0): Position(0, {})}, group, 30)

        for part in pairs:
            watch.time("produce event", [part], produce)
            watch.time("flush and commit", [part], commit)
        watch.steps = fewest(watch.steps)

        def put(part: list[tuple[bytes, StateMessage]]) -> Any:
            for key, state in part:
                table.put(key, state)
            changes = table.changes()
            table.settle()
            return changes

        changed = watch.time("put and encode state", states, put)

        def change(part: list[tuple[bytes, bytes]]) -> None:
            producer.begin()
            produce_changes(producer, place.changelog, part, 0)

        for part in changed:
            watch.time("produce changelog", [part], change)
            commit(part)
        watch.steps = fewest(watch.steps)
        watch.time("write table", changed, lambda part: store.write([(b"t\0" + k, v) for k, v in part], {"p": 1}))
        store.flush()
        watch.time("get state, on disk", keys, lambda part: [store.get(b"t\0" + key) for key in part])
        whole(Place(place.bootstrap), count, state, watch)
    return watch.steps


def fewest(steps: list[Step]) -> list[Step]:
    """The best measurement of each step, in the order of their first."""
    best: dict[str, Step] = {}
    for step in steps:
        best[step.name] = min(best.get(step.name, step), step, key=lambda each: each.us)
    return list(best.values())


def read(place: Place, count: int, watch: Stopwatch) -> list[Record]:
    """All commands, as the lane polls them."""
    reader = KafkaLogReader(place.bootstrap, f"{place.group}-steps-reader")
    reader.follow({TP(place.command, n): 0 for n in range(place.partitions)})
    found: list[Record] = []
    started = time.thread_time()
    while len(found) < count:
        for batch in reader.poll(BATCH, 0.5).batches.values():
            found += batch
    us = (time.thread_time() - started) / count * 1e6
    watch.steps.append(Step("consume", us, us / baseline_us()))
    reader.close()
    return found


def member(place: Place, clean: ExitStack) -> object:
    """Proof of membership for a commit: that of a consumer that has not joined."""
    consumer = KafkaGroupConsumer(place.bootstrap, f"{place.group}-steps", "steps", "steps")
    clean.callback(consumer.close)
    return consumer.group()


def whole(place: Place, count: int, state: Path, watch: Stopwatch) -> None:
    """The lane itself, turn by turn in this thread, from the first command to the last commit."""
    place.feed(commands(count, max(1, count // 10)))
    _, stores = claim_slot(state, "accounts", 1)
    consumer = KafkaGroupConsumer(place.bootstrap, place.group, "lane", "lane")
    producer = KafkaProducer(place.bootstrap, f"{place.group}-lane")
    reader = KafkaLogReader(place.bootstrap, f"{place.group}-lane-reader")
    lane = Lane(place.wiring, consumer, producer, reader, stores, MachineClock())
    lane.open()
    while not lane.stats.commands:
        lane.turn()
    done, started = lane.stats.commands, time.thread_time()
    while lane.stats.commands < count:
        lane.turn()
    us = (time.thread_time() - started) / (count - done) * 1e6
    lane.close()
    stores.close()
    watch.steps.append(Step("the whole lane", us, us / baseline_us()))


def show(steps: list[Step]) -> None:
    """The steps as a table."""
    shown = Shown("step")
    shown.add_column("us a command", justify="right")
    shown.add_column("x baseline", justify="right")
    for step in steps:
        shown.add_row(step.name, f"{step.us:.2f}", f"{step.ratio:.1f}")
    Console().print(shown)


@click.command()
@click.option("--bootstrap", help="A broker; without it one is started for the run.")
@click.option("--count", default=100_000, show_default=True, help="Commands.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object.")
def main(bootstrap: str | None, count: int, as_json: bool) -> None:
    """Measure what each step costs, in microseconds of processor time a command."""
    calm_the_collector()
    with local_broker(bootstrap) as address:
        steps = measure(Place(address), count)
    if as_json:
        click.echo(json.dumps([step._asdict() for step in steps]))
    else:
        show(steps)


if __name__ == "__main__":
    main()
