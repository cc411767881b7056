"""What each feature costs a command: `python -m benchmarks.features`.

The shop's users, with one thing more switched on in each row; the engine's own task, tables and checkpoint, on RocksDB;
only Kafka is left out: records are there already, and what is sent goes nowhere. Microseconds of processor time of the
lane's thread, the best of the rounds, which take turns; so what stands beside the first row is what the feature adds.
"""

from __future__ import annotations

import json
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import click

from benchmarks.report import machine, show
from pipeline import Aggregate, Idempotency, Service
from pipeline.adapters.avro.codec import Codec, codecs
from pipeline.adapters.memory import MemoryRecord
from pipeline.adapters.tables import claim_slot
from pipeline.model import CommandMessage
from pipeline.runtime.checkpoint import checkpoint
from pipeline.runtime.ports import TP
from pipeline.runtime.raising import AT_LEAST, SHARE, Raising
from pipeline.runtime.settings import MachineClock
from pipeline.runtime.stats import LaneStats
from pipeline.runtime.task import Task
from pipeline.runtime.wiring import Wiring
from pipeline.runtime.worker import calm_the_collector
from pipeline.topology import load
from topologies.users import ChangeName, RegisterUser, users

PART = 4_000  # commands between two checkpoints
SECRET = b"of no use outside"


class Nowhere:
    """A `Producer` whose broker takes everything, and keeps nothing."""

    def produce(self, *_: Any) -> None: ...

    produce_last = park = commit = produce

    def partitions(self, _: str) -> int:
        return 1

    def flush(self, _: float) -> dict[TP, int]:
        return {}


def variants() -> dict[str, tuple[Aggregate[Any, Any, Any], str | None]]:
    """The users with more and more of the engine's features, and where their commands want replies."""
    bare = replace(users, idempotency=None, deadlines=False, history=False, unique=())
    timed = replace(bare, deadlines=True)
    unique = replace(timed, unique=users.unique)
    remembering = replace(unique, idempotency=Idempotency())
    return {
        "events and states": (bare, None),
        "… deadlines": (timed, None),
        "… a unique value, which commands leave alone": (unique, None),
        "… repeated commands are known again": (remembering, None),
        "… and each command is answered": (remembering, "benchmark.reply/0/k"),
    }


def records(encode: Callable[[Any], bytes], count: int, reply_to: str | None) -> Iterator[MemoryRecord]:
    """A tenth as many users as commands, each registered once and then renamed."""
    now_ms, known = time.time_ns() // 1_000_000, max(1, count // 10)
    for n in range(count):
        body: Any = RegisterUser(f"name {n}", "France") if n < known else ChangeName(f"name {n}")
        message = CommandMessage(f"command-{n}", f"command-{n}", None, now_ms, body, None, reply_to)
        yield MemoryRecord(f"user-{n % known}".encode(), encode(message), n, now_ms, (), None)


def cost_us(aggregate: Aggregate[Any, Any, Any], reply_to: str | None, count: int) -> float:
    """Microseconds a command."""
    make, producer, clock = codecs(load("topologies").schemas), Nowhere(), MachineClock()
    inlet = Wiring(Service("users", aggregates=[aggregate]), make, secret=SECRET).inlets["users.command"]
    codec = inlet.codec
    assert isinstance(codec, Codec)
    commands = list(records(codec.encode, count, reply_to))
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as home:
        _, stores = claim_slot(Path(home), "users", 0)
        store, stats = stores.open("users"), LaneStats()
        raising = Raising("users", clock, stats, SHARE, AT_LEAST)
        task = Task(TP("users.command", 0), inlet, store, producer, stats, "parked", clock, raising, {})  # type: ignore[arg-type]
        task.running, task.position = True, 0
        task.take_due(0, 1)  # as a lane does in its first turn
        for table in task.tables:
            if table.cached:
                table.cache.limit(128 << 20)
        started = time.thread_time()
        for n in range(0, count, PART):
            task.fold(commands[n : n + PART])
            checkpoint([task], producer, None, clock, 1.0)  # type: ignore[arg-type]
        taken_s = time.thread_time() - started
        store.close()
        stores.close()
    assert stats.events == count
    return taken_s / count * 1e6


@click.command()
@click.option("--count", default=100_000, show_default=True, help="Commands in each round.")
@click.option("--rounds", default=3, show_default=True, help="Of which the best counts.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object instead of a table.")
def main(count: int, rounds: int, as_json: bool) -> None:
    """Measure what each feature adds to a command."""
    calm_the_collector()
    about, costs = machine(), dict[str, float]()
    for _ in range(rounds):
        for name, (aggregate, reply_to) in variants().items():
            costs[name] = min(costs.get(name, float("inf")), cost_us(aggregate, reply_to, count))
    first, before, rows = next(iter(costs.values())), 0.0, []
    for name, us in costs.items():
        rows.append({"with": name, "us a command": us, "adds": us - before if before else 0.0, "x": us / first})
        before = us
    if as_json:
        click.echo(json.dumps({"machine": about, "features": rows}))
    else:
        show(f"What a command costs a lane's thread, Kafka left out (load {about['load']})", rows)


if __name__ == "__main__":
    main()
