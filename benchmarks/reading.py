"""What reads take: `python -m benchmarks.reading [--rate 1000] [--seconds 10] [--readers 8]`.

The shop's users and reports in one worker process, and another worker to ask for what it does not hold. First without
load; then each consistency level while commands come in at a steady rate; then the query client, with a near cache and
without, of few rows. Each reader asks for one row after the other, of random users; what it waits for is in its time.
In the end the next version of a projection is built, from returns among others. Takes three to five minutes.
"""

from __future__ import annotations

import asyncio
import json
import multiprocessing
import random
import tempfile
import time
from collections.abc import Awaitable, Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import aiohttp
import click

from benchmarks.environment import ShopWorker, local_broker
from benchmarks.rebuilding import rebuild, returns
from benchmarks.report import machine, show
from pipeline.adapters.avro.codec import codecs
from pipeline.adapters.kafka import admin
from pipeline.adapters.kafka.topics import create_topics
from pipeline.client import AsyncClient, Client
from pipeline.client.queries import AsyncQueryClient
from pipeline.engine.plan import ServicePlan
from pipeline.topology import Topology, load
from topologies.users import ChangeName, RegisterUser

KEYS = 5_000
HOT = 100  # of them, those that are read over the query client
WARM_S = 1.0
SESSION_S = 0.5  # how often those who read with one token get a newer one
CACHE_BYTES = 64 << 20
Read = Callable[[str], Awaitable[float]]  # of a key; returns when it began


class Rows:
    """The results, one a kind of read."""

    def __init__(self, readers: int, seconds: float) -> None:
        self._readers, self._seconds = readers, seconds
        self.found: list[dict[str, Any]] = []

    async def measure(self, what: str, load: int, read: Read, keys: int = KEYS) -> dict[str, Any]:
        """Has all readers ask for so long, for any of the first so many keys."""
        latencies: list[float] = []
        began = time.perf_counter()
        counts_from, ends = began + WARM_S, began + WARM_S + self._seconds

        async def reader(number: int) -> None:
            rng = random.Random(number)
            while (now := time.perf_counter()) < ends:
                asked = await read(f"u{rng.randrange(keys)}")
                if now >= counts_from:
                    latencies.append(time.perf_counter() - asked)
                await asyncio.sleep(0)  # what comes from the cache waits for nothing, and others have their turn

        await asyncio.gather(*[reader(number) for number in range(self._readers)])
        latencies.sort()
        row: dict[str, Any] = {"read": what, "commands/s": load, "reads/s": round(len(latencies) / self._seconds)}
        row |= {
            f"p{p}, ms": round(1000 * latencies[min(len(latencies) - 1, len(latencies) * p // 100)], 2)
            for p in (50, 99)
        }
        self.found.append(row | {"hits": ""})
        return self.found[-1]


@click.command()
@click.option("--rate", default=1_000, show_default=True, help="Commands a second that come in meanwhile.")
@click.option("--seconds", default=10.0, show_default=True, help="For so long each kind of read.")
@click.option("--readers", default=8, show_default=True, help="That ask at the same time.")
@click.option("--records", default=50_000, show_default=True, help="Returns that a projection is rebuilt from.")
@click.option("--bootstrap", help="Kafka to use.  [default: one of its own]")
@click.option("--json", "file", type=click.Path(path_type=Path), help="Where to write the results.")
def main(rate: int, seconds: float, readers: int, records: int, bootstrap: str | None, file: Path | None) -> None:
    """What reads take at each consistency level, with a near cache and without."""
    topology, rows = load("topologies"), Rows(readers, seconds)
    with local_broker(bootstrap) as address, tempfile.TemporaryDirectory() as home, ExitStack() as running:
        plans = [ServicePlan(service, codecs(topology.schemas)) for service in topology.chosen(())]
        create_topics(admin(address), plans, 4, 1)
        owner = worker(running, address, Path(home, "owner"), "users", "reports")
        other = worker(running, address, Path(home, "other"), "inventory", "orders")
        fill(address, topology)
        asyncio.run(unloaded(rows, owner(), other()))
        commands = multiprocessing.get_context("spawn").Process(target=steady, args=(address, rate), daemon=True)
        commands.start()
        try:
            asyncio.run(loaded(rows, rate, address, topology, owner(), other()))
        finally:
            commands.terminate()
            commands.join()
        facts = machine()
        show(f"Reads, {readers} at the same time; load {facts['load']}", rows.found)
        returns(address, topology, records, KEYS)
        rebuilt = rebuild(address, topology, Path(home))
    show("Rebuild", [rebuilt])
    if file:
        file.write_text(
            json.dumps({"machine": facts, "readers": readers, "rows": rows.found, "rebuild": rebuilt}, indent=2)
        )


def worker(running: ExitStack, address: str, home: Path, *services: str) -> Callable[[], str]:
    """Starts a worker; what comes back waits until it serves, and says where."""
    started = ShopWorker(address, home, *services)
    running.callback(started.end)
    return started.url


def fill(address: str, topology: Topology) -> None:
    """Registers the users; returns when all are in the tables."""
    with Client(address, topology, "benchmark") as client:
        for n in range(KEYS):
            client.send("users", f"u{n}", RegisterUser("name", "France"))
        client.flush()
        for n in range(50):  # of all partitions
            client.send("users", f"u{n}", ChangeName("last"), wait=60)


def steady(address: str, rate: int) -> None:
    """Sends commands at a steady rate, for ever."""
    topology, rng = load("topologies"), random.Random(1)
    with Client(address, topology, "benchmark-load") as client:
        began, n = time.perf_counter(), 0
        while True:
            for _ in range(max(0, int((time.perf_counter() - began) * rate) - n)):
                client.send("users", f"u{rng.randrange(KEYS)}", ChangeName(f"name {n}"))
                n += 1
            time.sleep(0.005)


def over_http(session: aiohttp.ClientSession, url: str, table: str = "users", **asked: str) -> Read:
    """Reads a row from that worker."""

    async def read(key: str) -> float:
        began = time.perf_counter()
        async with session.get(f"{url}/v1/tables/{table}/{key}", params=asked) as answer:
            await answer.read()
            answer.raise_for_status()
        return began

    return read


async def unloaded(rows: Rows, owner: str, other: str) -> None:
    """What a worker answers where nothing else goes on."""
    async with aiohttp.ClientSession() as session:
        for what, url in (("eventual, at the owner", owner), ("eventual, forwarded", other)):
            await rows.measure(what, 0, over_http(session, url, consistency="eventual"))


async def loaded(rows: Rows, rate: int, address: str, topology: Topology, owner: str, other: str) -> None:
    """Measure all reads while commands come in."""
    async with aiohttp.ClientSession() as session, AsyncClient(address, topology, "benchmark") as client:
        for what, url, table, level in (
            ("eventual, at the owner", owner, "users", "eventual"),
            ("eventual, forwarded", other, "users", "eventual"),
            ("owner", owner, "users", "owner"),
            ("linearizable", owner, "users", "linearizable"),
            ("fresh, a projection", owner, "customers", "fresh"),
        ):
            await rows.measure(what, rate, over_http(session, url, table, consistency=level))
        for what, table in (("one's own command", "users"), ("…, in another service", "customers")):

            async def own(key: str, table: str = table) -> float:
                _, token = await client.store("users", key, ChangeName("mine"))
                return await over_http(session, owner, table, at_least=token)(key)

            await rows.measure(f"at_least: {what}", rate, own)
        for cache_bytes in (0, CACHE_BYTES):
            async with AsyncQueryClient(address, topology, 30.0, cache_bytes=cache_bytes) as query:
                await through_client(rows, rate, client, query, ", near cache" if cache_bytes else "")


async def through_client(rows: Rows, rate: int, client: AsyncClient, query: AsyncQueryClient, suffix: str) -> None:
    """Reads by the query client: eventual, and all with the token of a command that was sent just before."""

    async def eventual(key: str) -> float:
        began = time.perf_counter()
        await query.get("users", key, consistency="eventual", max_age=10)
        return began

    session = (await client.store("users", "u0", ChangeName("session")))[1]

    async def at_least(key: str) -> float:
        began = time.perf_counter()
        await query.get("users", key, at_least=session)
        return began

    async def renew() -> None:
        nonlocal session
        while True:
            await asyncio.sleep(SESSION_S)
            session = (await client.store("users", "u0", ChangeName("session")))[1]

    before = query.cache_figures()
    for what, read in (("eventual", eventual), ("at_least, a shared token", at_least)):
        renewing = asyncio.create_task(renew())
        row = await rows.measure(f"client, {what}{suffix}", rate, read, HOT)
        renewing.cancel()
        if (figures := query.cache_figures()) is not None and before is not None:
            asked = sum(figures[:3]) - sum(before[:3])
            row["hits"] = f"{100 * (figures.hits - before.hits) / max(1, asked):.0f} %"
            before = figures


if __name__ == "__main__":
    main()
