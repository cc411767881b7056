"""Readings of many devices: `python -m telemetry.feed`, with 100,000 of 10,000 devices unless it is told otherwise.

A reading in a hundred comes ten minutes late, one in a hundred breaks a limit. At most 5,000 are under way: then
it waits until the broker has stored them.
"""

from __future__ import annotations

import argparse
import random
import sys
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from pipeline import Accepted, Client, QueryClient, Token, find_cluster
from pipeline.errors import PipelineError
from telemetry.devices import RegisterDevice, devices
from telemetry.readings import Report, device_limits, readings

SITES = 50
AT_ONCE = 5_000  # commands between two looks at what the broker has
LATE = timedelta(minutes=10)


def bars() -> Progress:
    """A progress bar; without a terminal, its last state is printed once."""
    return Progress(TextColumn("{task.description:<10}"), BarColumn(30), MofNCompleteColumn(), TimeElapsedColumn())


def register(client: Client, count: int, progress: Progress) -> Token:
    """Register all devices; return the position at which a copy has them all."""
    task, there = progress.add_task("devices", total=count), Token()
    for begin in range(0, count, AT_ONCE):
        asked = [
            client.ask(devices, f"device-{n:05}", RegisterDevice(f"site-{n % SITES:02}", 10.0, 90.0))
            for n in range(begin, min(begin + AT_ONCE, count))
        ]
        for pending in asked:
            outcome = pending.result(120)
            if isinstance(outcome, Accepted):
                there |= outcome.position
            elif outcome.reason != "already_registered":
                raise SystemExit(f"a device was not registered: {outcome}")
            progress.advance(task)
    return there


def reports(of: int, count: int, late: float, rng: random.Random) -> Iterator[tuple[str, Report]]:
    """What the devices report, in no order."""
    for _ in range(count):
        at = datetime.now(UTC) - timedelta(seconds=rng.uniform(0, 30)) - (LATE if rng.random() < late else timedelta())
        value = rng.uniform(91, 120) if rng.random() < 0.01 else min(90.0, max(10.0, rng.gauss(50, 12)))
        yield f"device-{rng.randrange(of):05}", Report(at, round(value, 2))


def feed(client: Client, of: int, count: int, late: float, rng: random.Random, progress: Progress) -> None:
    """Send all readings; progress is what the broker has stored."""
    task = progress.add_task("readings", total=count)
    for sent, (device, report) in enumerate(reports(of, count, late, rng), 1):
        client.send(readings, device, report)
        if sent % AT_ONCE == 0 or sent == count:
            client.flush()
            progress.update(task, completed=sent)


def main() -> None:
    """Register the devices, wait until the readings service knows them, and send."""
    parser = argparse.ArgumentParser(prog="python -m telemetry.feed", description=__doc__)
    parser.add_argument("--devices", type=int, default=10_000)
    parser.add_argument("--readings", type=int, default=100_000)
    parser.add_argument("--late", type=float, default=0.01, help="the share that comes ten minutes late")
    parser.add_argument("--seed", type=int, default=1)
    asked, cluster = parser.parse_args(), find_cluster()
    began = time.monotonic()
    with Client(cluster.address, cluster.topology, name="feed") as client, bars() as progress:
        there = register(client, asked.devices, progress)
        with QueryClient(cluster.address, cluster.topology, patience_s=30) as query:
            if there:  # else they were registered by an earlier run
                list(query.scan(device_limits, limit=1, at_least=there, wait=60))
        feed(client, asked.devices, asked.readings, asked.late, random.Random(asked.seed), progress)
    print(f"{asked.readings:,} readings stored, {time.monotonic() - began:.0f} s after the first device was registered")


if __name__ == "__main__":
    try:
        main()
    except PipelineError as error:
        sys.exit(f"error: {error}")
