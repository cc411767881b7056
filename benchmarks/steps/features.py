"""What each feature costs a record: `python -m benchmarks.steps.features`.

The shop's users, with one thing more switched on in each row, and then records of other kinds, each beside a plain one;
the engine's own task, tables and checkpoint, on RocksDB where no other database is named; only Kafka is left out:
records are there already, and what is sent goes nowhere. Microseconds of processor time of the lane's thread, the best
of the rounds, which take turns; so what stands beside the first row is what the feature adds.
"""

from __future__ import annotations

import json
import tempfile
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import click

from benchmarks.report import machine, show
from benchmarks.steps.workloads import Kind, asked, kinds
from pipeline import Aggregate, Idempotency, Service
from pipeline.adapters.avro.codec import codecs
from pipeline.adapters.memory import MemoryRecord
from pipeline.engine.loop.checkpoint import checkpoint
from pipeline.engine.loop.task import Task
from pipeline.engine.parking.error_rate import ErrorRate
from pipeline.engine.ports import TP
from pipeline.engine.stats import LaneStats
from pipeline.model.service import RAISING_AT_LEAST, RAISING_SHARE
from pipeline.topology import load
from pipeline.worker.main import tune_gc
from pipeline.worker.settings import MachineClock
from topologies.users import ChangeName, RegisterUser, users

PART = 4_000  # records between two checkpoints


class Nowhere:
    """A `Producer` whose broker takes everything, and keeps nothing."""

    def produce(self, *_: Any) -> None: ...

    produce_last = park = commit = produce

    def partitions(self, _: str) -> int:
        return 1

    def flush(self, _: float) -> dict[TP, int]:
        return {}


def variants() -> dict[str, Kind]:
    """The users with more and more of the engine's features, and where their commands want replies."""
    bare = replace(users, idempotency=None, deadlines=False, history=False, unique=())
    timed = replace(bare, deadlines=True)
    unique = replace(timed, unique=users.unique)
    remembering = replace(unique, idempotency=Idempotency())
    return {
        "events and states": renaming(bare, None),
        "… deadlines": renaming(timed, None),
        "… a unique value, which commands leave alone": renaming(unique, None),
        "… repeated commands are known again": renaming(remembering, None),
        "… and each command is answered": renaming(remembering, "benchmark.reply/0/k"),
    }


def renaming(aggregate: Aggregate[Any, Any, Any], reply_to: str | None) -> Kind:
    """A tenth as many users as commands, each registered once and then renamed."""

    def messages(count: int) -> Iterator[tuple[str, Any]]:
        known = max(1, count // 10)
        for n in range(count):
            body: Any = RegisterUser(f"name {n}", "France") if n < known else ChangeName(f"name {n}")
            yield f"user-{n % known}", asked(n, body, reply_to)

    return Kind(Service("users", aggregates=[aggregate]), "users.command", messages)


def cost_us(kind: Kind, count: int) -> float:
    """Microseconds a record."""
    make, producer, clock = codecs(load("topologies").schemas), Nowhere(), MachineClock()
    source_topic = kind.source_topic(make)
    now_ms = clock.time_ms()
    records = [
        MemoryRecord(key, value, n, now_ms, (), None)
        for n, (key, value) in enumerate(kind.records(make, source_topic, count))
    ]
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as home, kind.store(Path(home), source_topic) as store:
        stats = LaneStats()
        error_rate = ErrorRate("features", clock, stats, RAISING_SHARE, RAISING_AT_LEAST)
        ports, plan = (
            SimpleNamespace(producer=producer, clock=clock),
            SimpleNamespace(
                parked="parked", positions="positions", service=SimpleNamespace(name="features", transient=())
            ),
        )
        context: Any = SimpleNamespace(plan=plan, ports=ports, stats=stats, error_rate=error_rate, tracing=None)
        task = Task(TP(kind.topic, 0), source_topic, store, context, kind.finders)
        task.running, task.position = True, 0
        task.take_due(0, 1)  # as a lane does in its first turn
        for table in task.tables:
            if table.cached:
                table.cache.limit(128 << 20)
        started = time.thread_time()
        for n in range(0, len(records), PART):
            task.fold(records[n : n + PART])
            checkpoint([task], producer, None, clock, 1.0, {})  # type: ignore[arg-type]
        taken_s = time.thread_time() - started
    assert stats.parked == 0
    assert not stats.rejected
    return taken_s / len(records) * 1e6


def costs_compared(title: str, costs: dict[str, float]) -> list[dict[str, Any]]:
    """Rows of a table: what begins with … has one thing more than the row before; `x`: so many times the plain one."""
    rows: list[dict[str, Any]] = []
    plain = before = 0.0
    for name, us in costs.items():
        if not name.startswith("…"):
            plain = before = us
        rows.append({title: name, "us a record": us, "adds": us - before, "x": us / plain})
        before = us
    return rows


@click.command()
@click.option("--count", default=100_000, show_default=True, help="Records in each round.")
@click.option("--rounds", default=3, show_default=True, help="Of which the best counts.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object instead of tables.")
def main(count: int, rounds: int, as_json: bool) -> None:
    """Measure what each feature adds to a command, and what records of other kinds cost."""
    tune_gc()
    about, costs = machine(), {name: dict[str, float]() for name in ("with", "kind")}
    for _ in range(rounds):
        for title, of_them in (("with", variants()), ("kind", kinds())):
            for name, kind in of_them.items():
                us = cost_us(kind, count)
                costs[title][name] = min(costs[title].get(name, us), us)
    features = costs_compared("with", costs["with"])
    others = costs_compared("kind", costs["kind"])
    if as_json:
        click.echo(json.dumps({"machine": about, "features": features, "kinds": others}))
    else:
        show(f"What a command costs a lane's thread, Kafka left out (load {about['load']})", features)
        show("What a record of each kind costs it", others)


if __name__ == "__main__":
    main()
