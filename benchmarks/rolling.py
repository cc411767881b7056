"""What rolling restarts cost those who wait: `python -m benchmarks.rolling [--rate 200]`, or `make rolling`.

Two workers of the shop's users, each with a home and a node of its own, as on two machines. Commands come in at a
steady rate that does not depend on the answers, and each is waited for, from when it was due. Meanwhile the workers are
restarted in turn: SIGTERM, wait for the end, start again, wait until it has its share of the partitions and folds it.
First without --standby, then with it. Takes some four minutes.
"""

from __future__ import annotations

import asyncio
import json
import tempfile
import time
from collections.abc import Mapping
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

import click
import httpx

from benchmarks.environment import ShopWorker, local_broker
from benchmarks.report import machine, show
from pipeline.adapters.avro.codec import codecs
from pipeline.adapters.kafka import admin
from pipeline.adapters.kafka.topics import create_topics, partition_counts
from pipeline.client import AsyncClient
from pipeline.engine.plan import ServicePlan
from pipeline.topology import Topology, load
from topologies.users import ChangeName, RegisterUser

SERVICE = "users"
KEYS = 1_000
PARTITIONS = 4
WAIT_S = 60.0
READY_S = 120.0
LOOK_S = 0.1
CALM_S = 2.0  # between restarts, and before the first


class Replies:
    """A steady rate of commands, each with its reply: when it was due, and how long that took."""

    def __init__(self, client: AsyncClient, rate: int) -> None:
        self._client, self._rate = client, rate
        self.found: list[tuple[float, float]] = []
        self._over = False

    async def _one(self, n: int, due_s: float) -> None:
        await self._client.send("users", f"u{n % KEYS}", ChangeName(f"name {n}"), wait=WAIT_S)
        self.found.append((due_s, time.monotonic() - due_s))

    async def run(self) -> None:
        """Send until `end`, and wait for what is under way."""
        began_s, n, tasks = time.monotonic(), 0, set[asyncio.Task[None]]()
        while not self._over:
            due_s = began_s + n / self._rate
            if (early_s := due_s - time.monotonic()) > 0:
                await asyncio.sleep(early_s)
            task = asyncio.create_task(self._one(n, due_s))
            tasks.add(task)
            n += 1
            for done in [task for task in tasks if task.done()]:
                tasks.discard(done)
                done.result()
        await asyncio.gather(*tasks)

    def end(self) -> None:
        """Send no more."""
        self._over = True

    def max_s(self, since_s: float, until_s: float) -> float:
        """The longest wait of the commands that were due in that time."""
        return max((took_s for due_s, took_s in self.found if since_s <= due_s < until_s), default=0.0)

    def seconds(self, *percents: int) -> dict[str, float]:
        """The percentiles and the maximum."""
        ordered = sorted(took_s for _, took_s in self.found)
        told = {f"p{p}, s": ordered[min(len(ordered) - 1, len(ordered) * p // 100)] for p in percents}
        return told | {"max, s": ordered[-1]}


@click.command()
@click.option("--restarts", default=10, show_default=True, help="Of both workers together.")
@click.option("--rate", default=200, show_default=True, help="Commands a second.")
@click.option(
    "--only", type=click.Choice(["plain", "standby"]), help="Only without, or only with --standby.  [default: both]"
)
@click.option("--whole-shop", is_flag=True, help="All services in each worker.  [default: the users alone]")
@click.option("--bootstrap", help="Kafka to use, without topics of the shop.  [default: one of its own]")
@click.option("--json", "file", type=click.Path(path_type=Path), help="Where to write the results.")
def main(
    restarts: int, rate: int, only: str | None, whole_shop: bool, bootstrap: str | None, file: Path | None
) -> None:
    """What rolling restarts of two workers cost those who wait for replies."""
    topology, rows, each = load("topologies"), list[dict[str, Any]](), list[dict[str, Any]]()
    for how in [only] if only else ["plain", "standby"]:
        with local_broker(bootstrap) as address:
            facts = machine()
            options = ["--standby"] if how == "standby" else []
            found = asyncio.run(measured(address, topology, () if whole_shop else (SERVICE,), options, restarts, rate))
        title = "with --standby" if how == "standby" else "as it is by default"
        each += [{"workers": title, **row} for row in found.restarts]
        rows.append({"workers": title, "replies": len(found.replies.found), **found.replies.seconds(50, 90, 99)})
    show(f"Each restart, {rate} commands/s", each)
    show(f"Replies over {restarts} rolling restarts, {rate} commands/s; load {facts['load']}", rows)
    if file:
        file.write_text(json.dumps({"machine": facts, "rate": rate, "rows": rows, "restarts": each}, indent=2))


class Measured:
    """What one way to run the workers gave."""

    def __init__(self, replies: Replies) -> None:
        self.replies, self.restarts = replies, list[dict[str, Any]]()


async def measured(
    address: str, topology: Topology, services: tuple[str, ...], options: list[str], restarts: int, rate: int
) -> Measured:
    """Restart two workers in turn, under load."""
    plans = [ServicePlan(service, codecs(topology.schemas)) for service in topology.chosen(services)]
    create_topics(admin(address), plans, PARTITIONS, 1)
    counts = partition_counts(admin(address))
    shares = {plan.service.name: sum(counts[topic] for topic in plan.source_topics) // 2 for plan in plans}
    with tempfile.TemporaryDirectory() as home, ExitStack() as running:
        workers = []
        for node in "ab":
            workers.append(ShopWorker(address, Path(home, node), *services, options=["--node", node, *options]))
            running.callback(workers[-1].end)
        for worker in workers:
            await asyncio.to_thread(wait_until_ready, worker, shares)
        async with AsyncClient(address, topology, "benchmark") as client:
            await client.send("users", "u0", RegisterUser("name", "France"), wait=WAIT_S)
            for n in range(1, KEYS):
                await client.send("users", f"u{n}", RegisterUser("name", "France"))
            found = Measured(Replies(client, rate))
            sending = asyncio.create_task(found.replies.run())
            for n in range(restarts):
                await asyncio.sleep(CALM_S)
                found.restarts.append(await asyncio.to_thread(restart, workers[n % 2], shares))
            await asyncio.sleep(CALM_S)
            found.replies.end()
            await sending
    for row in found.restarts:
        began_s = row.pop("began")
        row["longest wait, s"] = found.replies.max_s(began_s, began_s + row["until ready, s"] + CALM_S)
    return found


def restart(worker: ShopWorker, shares: Mapping[str, int]) -> dict[str, float]:
    """SIGTERM, and start again once it has ended. Return what that took."""
    began_s = time.monotonic()
    worker.end()
    ended_s = time.monotonic()
    worker.start()
    wait_until_ready(worker, shares)
    return {"began": began_s, "until it ended, s": ended_s - began_s, "until ready, s": time.monotonic() - began_s}


def wait_until_ready(worker: ShopWorker, shares: Mapping[str, int]) -> None:
    """Return once it folds its share of each service. Raises RuntimeError."""
    url, until_s = worker.url(), time.monotonic() + READY_S
    while not _is_ready(url, shares):
        if time.monotonic() > until_s:
            raise RuntimeError(f"the worker at {url} has no share of the partitions after {READY_S:.0f} s")
        time.sleep(LOOK_S)


def _is_ready(url: str, shares: Mapping[str, int]) -> bool:
    with suppress(httpx.HTTPError):
        status = httpx.get(f"{url}/v1/status").json()
        return all((status[s]["assigned"], status[s]["restoring"]) == (share, 0) for s, share in shares.items())
    return False


if __name__ == "__main__":
    main()
