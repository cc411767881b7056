"""What waiting for replies takes: `python -m benchmarks.replies [--rate 1000] [--seconds 20] [--commands 200000]`.

One worker process of the shop's users, with all that is on by default. First commands are sent without waiting, as fast
as they go; then, at a steady rate that does not depend on the answers, each is waited for, from when it was due.
"""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import click
import httpx

from benchmarks.environment import local_broker
from benchmarks.report import machine, show
from pipeline.adapters.avro.codec import codecs
from pipeline.adapters.kafka import admin
from pipeline.adapters.kafka.topics import create_topics
from pipeline.client import AsyncClient, Client
from pipeline.engine.plan import ServicePlan
from pipeline.topology import Topology, load
from topologies.users import ChangeName, RegisterUser

KEYS = 10_000
WAIT_S = 30.0


@click.command()
@click.option("--commands", default=200_000, show_default=True, help="Sent without waiting.")
@click.option("--rate", default=1_000, show_default=True, help="Commands a second that are waited for.")
@click.option("--seconds", default=20, show_default=True, help="For so long; as much again before, not counted.")
@click.option("--bootstrap", help="Kafka to use.  [default: one of its own]")
@click.option("--json", "file", type=click.Path(path_type=Path), help="Where to write the results.")
def main(commands: int, rate: int, seconds: int, bootstrap: str | None, file: Path | None) -> None:
    """What waiting for replies takes, and what remembering them does."""
    topology = load("topologies")
    with local_broker(bootstrap) as address, tempfile.TemporaryDirectory() as home:
        plans = [ServicePlan(service, codecs(topology.schemas)) for service in topology.chosen(("users",))]
        create_topics(admin(address), plans, 4, 1)
        arguments = ["--service", "users", "--bootstrap", address, "--home", home, "--port", "0"]
        log = Path(home, "worker.log")
        with log.open("w") as out:
            command = [sys.executable, "-m", "pipeline", "worker", "topologies", *arguments]
            worker = subprocess.Popen(command, stdout=out, stderr=out)
        try:
            sent_a_second = bulk(address, topology, commands, log)
            latencies = asyncio.run(steady(address, topology, rate, seconds))
            memory = next(
                line for line in Path(f"/proc/{worker.pid}/status").read_text().splitlines() if "VmHWM" in line
            )
        finally:
            worker.terminate()
            worker.wait(30)  # its tables are on disk now
        size = sum(path.stat().st_size for path in Path(home, "state", "users").rglob("*") if path.is_file())
    latencies.sort()
    percentile = {f"p{p}": latencies[min(len(latencies) - 1, len(latencies) * p // 100)] for p in (50, 90, 99)}
    result: dict[str, Any] = {
        "sends/s, without waiting": round(sent_a_second),
        "commands/s waited for": rate,
        **{f"reply {name}, ms": round(1000 * value, 2) for name, value in percentile.items()},
        "reply max, ms": round(1000 * latencies[-1], 2),
        "disk, bytes a remembered command": round(size / (commands + 2 * rate * seconds)),
        "worker's peak memory, MB": round(int(memory.split()[1]) / 1024),
    }
    show("Replies", [{"what": name, "measured": value} for name, value in result.items()])
    if file:
        file.write_text(json.dumps({"machine": machine(), **result}, indent=2))


def bulk(address: str, topology: Topology, commands: int, log: Path) -> float:
    """Commands sent a second; returns when all are folded."""
    with Client(address, topology, "benchmark") as client:
        client.send("users", "u0", RegisterUser("name", "France"), wait=60)
        began = time.perf_counter()
        for n in range(commands):
            client.send("users", f"u{n % KEYS}", RegisterUser(f"name {n}", "France"))
        client.flush()
        rate = commands / (time.perf_counter() - began)
    url = log.read_text().split("serving users at ")[1].split()[0]
    while httpx.get(f"{url}/v1/status").json()["users"]["commands"] <= commands:
        time.sleep(0.2)
    return rate


async def steady(address: str, topology: Topology, rate: int, seconds: int) -> list[float]:
    """Seconds from when each command was due to its outcome."""
    latencies: list[float] = []
    async with AsyncClient(address, topology, "benchmark") as client:
        await client.send("users", "u0", ChangeName("first"), wait=WAIT_S)

        async def one(n: int, due: float) -> None:
            await client.send("users", f"u{n % KEYS}", ChangeName(f"name {n}"), wait=WAIT_S)
            if n >= rate * seconds:
                latencies.append(time.perf_counter() - due)

        began, tasks = time.perf_counter(), set()
        for n in range(2 * rate * seconds):
            due = began + n / rate
            if (early := due - time.perf_counter()) > 0:
                await asyncio.sleep(early)
            task = asyncio.create_task(one(n, due))
            tasks.add(task)
            task.add_done_callback(tasks.discard)
        await asyncio.gather(*tasks)
    return latencies


if __name__ == "__main__":
    main()
