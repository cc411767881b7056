"""Writes, each followed by a read of another service, while workers are restarted: `make pairs`, or
python -m tests.faults.runs.pairs [--pairs 10000] [--restarts 12] [--seed 1] [--json FILE]

Each writer has a customer of its own. It sends a return to orders, takes the token of where the broker has stored it,
and reads the customer's row of reports, which is folded behind a repartition, at least at that token: of the workers in
turn, or over the query client with a near cache. The row counts the returns, so it says whether that one is in it. Two
workers run both services, and all the time one of them is killed, ended or stopped for longer than its session. 503,
504 and no answer are honest, and asked again. A row without the return is stale, and one with too many has had one
twice. In the end the same with `eventual`, which has to find stale rows: else nothing could be said of those not found.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
import click
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from pipeline import AsyncQueryClient, Token
from pipeline.client import AsyncClient
from pipeline.errors import NotYet, TableUnavailable, UnknownKey
from tests.faults.harness.unrest import Unrest
from tests.helpers.support import Shop, shop_of_its_own
from topologies import orders

SERVICES = ("orders", "reports")
WRITERS = 64
NEAR = 3  # one writer in so many reads over the near cache
CONTROL = 1_000  # pairs with eventual
WAIT_S = 5.0  # that a worker may take before it says 504
ANSWER_S = 20.0  # a worker that stands still answers when it goes on
AGAIN_S = 0.05
PATIENCE_S = 90.0  # with one pair
SHOWN = 20
CACHE_BYTES = 8 << 20


@dataclass(slots=True)
class Tally:
    """What one way of reading has come to."""

    pairs: int = 0
    stale: list[str] = field(default_factory=list)
    too_many: list[str] = field(default_factory=list)
    again: Counter[str] = field(default_factory=Counter)  # reads without an answer, by what came instead
    seconds: list[float] = field(default_factory=list)  # from the send to the row
    hits: int = 0  # of the near cache

    def judge(self, customer: str, found: int, sent: int, *, is_all: bool = True) -> None:
        """What a row says of the returns. `is_all`: nobody has sent more meanwhile."""
        if found < sent:
            self.stale.append(f"{customer}: {found} returns and not {sent}")
        elif is_all and found > sent:
            self.too_many.append(f"{customer}: {found} returns and not {sent}")

    def figures(self) -> dict[str, Any]:
        """All of it, for a program."""
        ordered = sorted(self.seconds)
        at = {f"p{p}_ms": ordered[len(ordered) * p // 100] for p in (50, 99) if ordered}
        times = {name: round(1000 * s, 1) for name, s in {**at, "max_ms": ordered[-1] if ordered else 0.0}.items()}
        counts = {"pairs": self.pairs, "stale": len(self.stale), "too_many": len(self.too_many)}
        return {**counts, "asked_again": dict(self.again), "hits": self.hits, **times}


Read = Callable[[str, Token, Tally], Awaitable[int]]  # how many returns a customer's row has


class Pairs:
    """Writers that read what they have written."""

    def __init__(self, client: AsyncClient, unrest: Unrest, session: aiohttp.ClientSession) -> None:
        self._client, self._unrest, self._session = client, unrest, session
        self._sent = [0] * WRITERS
        self._latest: list[tuple[int, Token]] = [(0, Token())] * WRITERS
        self._turn = 0

    async def run(self, readers: list[tuple[Read, Tally]], enough: Callable[[], bool]) -> None:
        """All write and read, each in one of these ways, until that is so."""

        async def writer(n: int) -> None:
            read, tally = readers[n % len(readers)]
            while not enough():
                if self._unrest.failed is not None:
                    raise self._unrest.failed
                try:
                    async with asyncio.timeout(PATIENCE_S):
                        await self._pair(n, read, tally)
                except TimeoutError:
                    told = f"pair {self._sent[n]} of customer {n} after {PATIENCE_S:.0f} s: {dict(tally.again)}"
                    raise AssertionError(told) from None

        async with asyncio.TaskGroup() as writers:
            for n in range(WRITERS):
                writers.create_task(writer(n))

    async def _pair(self, n: int, read: Read, tally: Tally) -> None:
        customer, began = f"c{n}", time.monotonic()
        self._sent[n] = sent = self._sent[n] + 1
        # One thousandth each; which document it is decides on another partition than the customer's.
        back = orders.ReturnGoods(customer, "France", "2009-12-01T10:00:00", (orders.Line("TEA", 1, 1),))
        _, token = await self._client.store("orders", f"{n}-{sent}", back)
        tally.judge(customer, await read(customer, token, tally), sent)
        tally.seconds.append(time.monotonic() - began)
        tally.pairs += 1
        self._latest[n] = sent, token

    async def of_any_worker(self, customer: str, token: Token, tally: Tally) -> int:
        """The row, of one worker after the other until one answers."""
        return await self._asked(customer, {"at_least": token, "wait": f"{WAIT_S:g}"}, tally)

    async def eventual(self, customer: str, _: Token, tally: Tally) -> int:
        """The row as any worker has it, without waiting for the token."""
        return await self._asked(customer, {"consistency": "eventual"}, tally)

    async def _asked(self, customer: str, how: dict[str, str], tally: Tally) -> int:
        while True:
            self._turn += 1
            addresses = self._unrest.addresses
            url = f"{addresses[self._turn % len(addresses)]}/v1/tables/customers/{customer}"
            try:
                async with self._session.get(url, params=how) as answer:
                    told = await answer.json()
                    if answer.status == 200 or told.get("error") == UnknownKey.__name__:
                        return told["row"]["refunded"] if answer.status == 200 else 0
                    assert answer.status in (503, 504), f"{answer.status}: {told}"
                    tally.again[str(answer.status)] += 1
            except (aiohttp.ClientError, TimeoutError):
                tally.again["no answer"] += 1
            await asyncio.sleep(AGAIN_S)

    def by_cache(self, query: AsyncQueryClient) -> Read:
        """Over the query client; what was read once more, and what somebody else has sent, may be in its cache."""

        async def one(customer: str, token: Token, tally: Tally) -> int:
            while True:
                try:
                    row = await query.get("customers", customer, at_least=token, wait=WAIT_S)
                    return int(row["row"]["refunded"])
                except UnknownKey:
                    return 0
                except (NotYet, TableUnavailable) as error:
                    tally.again[type(error).__name__] += 1
                await asyncio.sleep(AGAIN_S)

        async def read(customer: str, token: Token, tally: Tally) -> int:
            found = await one(customer, token, tally)
            tally.judge(customer, await one(customer, token, tally), found, is_all=False)
            self._turn += 1
            other = self._turn % WRITERS
            sent, latest = self._latest[other]
            if sent:
                tally.judge(f"c{other}", await one(f"c{other}", latest, tally), sent, is_all=False)
            return found

        return read


@dataclass(slots=True)
class Result:
    """What a run has come to."""

    seconds: float
    struck: Counter[str]
    ways: dict[str, Tally]  # that must not be stale
    control: Tally  # that has to be

    @property
    def bad(self) -> bool:
        """Whether a read was stale or had a return twice; or whether it was not to be seen if one had been."""
        return any(tally.stale or tally.too_many for tally in self.ways.values()) or not self.control.stale

    def show(self, console: Console) -> None:
        """As a table, and in words."""
        columns = ("pairs", "stale", "too many", "asked again", "from the cache", "p50 ms", "p99 ms", "max ms")
        table = Table("read by", *columns, title=f"Written, then read, {sum(self.struck.values())} restarts")
        for name, tally in [*self.ways.items(), ("eventual, as a control", self.control)]:
            f = tally.figures()
            again = ", ".join(f"{why}: {times:,}" for why, times in sorted(f["asked_again"].items())) or "0"
            counts = [f"{f[name]:,}" for name in ("pairs", "stale", "too_many")]
            times = [f"{f[name]:,}" for name in ("p50_ms", "p99_ms", "max_ms") if name in f]
            table.add_row(name, *counts, again, f"{f['hits']:,}", *times)
        console.print(table)
        struck = ", ".join(f"{kind}: {times}" for kind, times in self.struck.items())
        console.print(f"workers {struck}; {self.seconds:.0f} s", highlight=False)
        for name, tally in self.ways.items():
            for wrong in [*tally.stale, *tally.too_many][:SHOWN]:
                console.print(f"{name}: {wrong}", highlight=False, markup=False)
        if not self.control.stale:
            console.print("eventual reads were not stale either: this run proves nothing")

    def json(self) -> str:
        """All of it, for a program."""
        ways = {name: tally.figures() for name, tally in self.ways.items()}
        whole = {"seconds": round(self.seconds, 1), "struck": dict(self.struck), "ways": ways}
        return json.dumps({**whole, "control": self.control.figures(), "bad": self.bad}, indent=2)


async def pairs_of(
    shop: Shop, unrest: Unrest, pairs: int, restarts: int, told: Callable[[int, int], None] = lambda *_: None
) -> Result:
    """Writes and reads so many pairs, and on until so many restarts; then some with eventual, for comparison.

    `told`: hears from time to time how many pairs and how many restarts there have been.
    """
    began = time.monotonic()
    plain, near, control = Tally(), Tally(), Tally()
    async with (
        AsyncClient(shop.bootstrap, shop.topology, "pairs") as client,
        AsyncQueryClient(shop.bootstrap, shop.topology, PATIENCE_S, cache_bytes=CACHE_BYTES) as query,
        aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=ANSWER_S)) as session,
    ):
        writing = Pairs(client, unrest, session)

        def enough() -> bool:
            done, struck = plain.pairs + near.pairs, unrest.struck.total()
            told(done, struck)
            return done >= pairs and struck >= restarts

        ways = [(writing.of_any_worker, plain)] * (NEAR - 1) + [(writing.by_cache(query), near)]
        unrest.begin()
        await writing.run(ways, enough)
        await writing.run([(writing.eventual, control)], lambda: control.pairs >= CONTROL)
        figures = query.cache_figures()
        near.hits = figures.hits if figures else 0
    names = {"at_least, of any worker": plain, "at_least, over a near cache": near}
    return Result(time.monotonic() - began, unrest.struck, names, control)


@click.command()
@click.option("--pairs", default=10_000, show_default=True, help="At least so many.")
@click.option("--restarts", default=12, show_default=True, help="At least so many.")
@click.option("--seed", default=1, show_default=True, help="Of when workers are struck.")
@click.option("--minutes", default=20.0, show_default=True, help="Given up after so long.")
@click.option("--json", "file", type=click.Path(path_type=Path), help="Where to write the figures.")
def main(pairs: int, restarts: int, seed: int, minutes: float, file: Path | None) -> None:
    """Writes, each followed by a read of another service, while workers are restarted."""
    console = Console()
    if not console.is_terminal:
        console = Console(width=140)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with (
        shop_of_its_own("pairs-", console.print) as shop,
        Unrest(shop, SERVICES, seed) as unrest,
        Progress(*columns, console=console) as progress,
    ):
        written = progress.add_task("pairs", total=pairs)
        struck = progress.add_task("restarts", total=restarts)

        def told(done: int, times: int) -> None:
            progress.update(written, completed=done)
            progress.update(struck, completed=times)

        result = asyncio.run(asyncio.wait_for(pairs_of(shop, unrest, pairs, restarts, told), 60 * minutes))
    result.show(console)
    if file:
        file.write_text(result.json())
    sys.exit(1 if result.bad else 0)


if __name__ == "__main__":
    main()
