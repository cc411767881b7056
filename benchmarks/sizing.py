"""What keys and partitions cost: `python -m benchmarks.sizing [--keys 100000] [--partitions 12] [--spread 100,1000]`.

Accounts of some 100 bytes, one command each, folded by a lane of this process on a broker of its own: the disk of
broker and tables, the memory of both, how long a lane takes that has its tables, and one that makes them from the
changelog. Then topics without records, up to so many partitions in all, and what the broker takes for them. The figures
are in docs/sizing.md. Ten million keys take some 10 GB under the temporary directory meanwhile.
"""

from __future__ import annotations

import gc
import json
import os
import tempfile
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import click
from confluent_kafka.admin import NewTopic  # type: ignore[attr-defined]  # there, if not in __all__

from benchmarks.environment import Place
from benchmarks.peers.accounts import Command
from benchmarks.report import machine, show
from pipeline.adapters.kafka import admin
from pipeline.broker import local
from pipeline.broker.local import Running
from pipeline.engine.loop.lane import Lane

MB = 1 << 20
PER_TOPIC = 12


def opened(keys: int) -> Iterator[Command]:
    """One command for each key."""
    for number in range(keys):
        yield Command(f"c{number:012}", f"account-{number:012}", "open", number % 1000, number)


def folder_mb(path: Path, pattern: str = "**/*") -> float:
    """The size of the files in a folder and below it."""
    size = 0
    for each in path.glob(pattern):
        with suppress(FileNotFoundError):  # merged away meanwhile
            size += each.stat().st_blocks * 512
    return size / MB


def memory_mb(pid: int) -> float:
    """What a process holds in memory now."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) / 1024
    return 0.0


def files(pid: int) -> int:
    """How many files a process has open."""
    return len(os.listdir(f"/proc/{pid}/fd"))


def caught_up(lane: Lane, place: Place, keys: int) -> float:
    """Drives a lane until all commands are folded; returns the seconds from its opening."""
    began = time.perf_counter()
    lane.open()
    while True:
        lane.turn()
        stored = lane.positions()
        at = [stored.get(f"{place.command}-{n}", {}).get("source") for n in range(place.partitions)]
        if None not in at and sum(n or 0 for n in at) >= keys:
            return time.perf_counter() - began


def of_keys(broker: Running, home: Path, keys: int, partitions: int) -> dict[str, Any]:
    """Measures so many keys."""
    place = Place(broker.bootstrap, partitions)
    before_mb = memory_mb(os.getpid())
    began = time.perf_counter()
    place.feed(opened(keys))
    fed_s = time.perf_counter() - began
    lane = place.lane(home / "one", 0)
    folded_s = caught_up(lane, place, keys)
    lane_mb = memory_mb(os.getpid()) - before_mb
    lane.close()
    logs = {kind: folder_mb(broker_data(home), f"{topic}-*/*.log") for kind, topic in topics(place).items()}
    del lane
    gc.collect()  # a slot is free once nothing holds it
    lane = place.lane(home / "one", 0)
    warm_s = caught_up(lane, place, keys)
    lane.close()
    lane = place.lane(home / "two", 0)
    cold_s = caught_up(lane, place, keys)
    lane.close()
    place.clear()
    return {
        "keys": keys,
        "partitions": partitions,
        "stored_s": round(fed_s, 1),
        "folded_s": round(folded_s, 1),
        "tables_mb": round(folder_mb(home / "one")),
        **{f"{kind}_mb": round(size) for kind, size in logs.items()},
        "lane_memory_mb": round(lane_mb),
        "broker_memory_mb": round(memory_mb(broker.pid)),
        "warm_s": round(warm_s, 1),
        "restore_s": round(cold_s, 1),
    }


def topics(place: Place) -> dict[str, str]:
    """The topics that grow with the keys."""
    return {"commands": place.command, "events": place.event, "states": place.changelog}


def broker_data(home: Path) -> Path:
    """Where the broker keeps its logs."""
    return next(path.parent.parent for path in (home / "broker").glob("**/partition.metadata"))


def of_partitions(broker: Running, home: Path, wanted: list[int]) -> Iterator[dict[str, Any]]:
    """Measures topics without records: what the broker takes for so many partitions in all."""
    client, there = admin(broker.bootstrap), 0
    yield {"partitions": 0, "created_s": 0.0, "memory_mb": round(memory_mb(broker.pid)), "files": files(broker.pid)}
    for count in wanted:
        began = time.perf_counter()
        new = [NewTopic(f"sizing-{there + n}", PER_TOPIC, 1) for n in range((count - there) // PER_TOPIC)]
        for future in client.create_topics(new, operation_timeout=120).values():
            future.result()
        there += len(new) * PER_TOPIC
        taken_s = round(time.perf_counter() - began, 1)
        while len(list(home.glob("broker/**/sizing-*/partition.metadata"))) < there:  # made after the answer
            time.sleep(0.1)
        yield {
            "partitions": there,
            "created_s": taken_s,
            "memory_mb": round(memory_mb(broker.pid)),
            "files": files(broker.pid),
        }


@click.command()
@click.option("--keys", default=100_000, show_default=True)
@click.option("--partitions", default=12, show_default=True)
@click.option("--spread", default="120,1200", show_default=True, help="Partitions in all; empty: none are made.")
@click.option("--json", "path", type=click.Path(path_type=Path))
def main(keys: int, partitions: int, spread: str, path: Path | None) -> None:
    """Measure, and show what came of it."""
    with tempfile.TemporaryDirectory(prefix="sizing-") as folder:
        home = Path(folder)
        broker = local.up(home / "broker", say=lambda _: None)
        try:
            found = of_keys(broker, home, keys, partitions)
            show("keys", [{"what": name, "figure": value} for name, value in found.items()])
            rows = list(of_partitions(broker, home, [int(each) for each in spread.split(",") if each]))
            show("partitions without records", rows)
        finally:
            local.down(home / "broker")
    if path is not None:
        path.write_text(json.dumps({"machine": machine(), "keys": found, "partitions": rows}, indent=1) + "\n")


if __name__ == "__main__":
    main()
