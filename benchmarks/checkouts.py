"""The shop's two checkouts on the same orders: `python -m benchmarks.checkouts [--rate 20] [--json FILE]`.

Real invoices' orders, each way on products and accounts of its own: at a steady rate, while somebody reads; all at
once; and at the steady rate while payments is away. One worker process, and one for payments alone.
"""

from __future__ import annotations

import json
import tempfile
import time
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import click
from rich.console import Console

from benchmarks.checkout_orders import Part, Took, part, percent, percentile, refused, took
from benchmarks.checkout_others import LATELY, STATES, Onlooker, Sales
from benchmarks.place import ShopWorker, local_broker
from benchmarks.report import machine, show
from pipeline.adapters.avro.codec import codecs
from pipeline.adapters.kafka import admin
from pipeline.adapters.topics import create_topics
from pipeline.client import Client
from pipeline.demo.commands import Asked, Way
from pipeline.demo.invoices import Invoices, read_invoices
from pipeline.demo.progress import Watcher
from pipeline.demo.run import SHIPPED
from pipeline.query.client import QueryClient
from pipeline.runtime.wiring import Wiring
from pipeline.topology import Topology, load

WAYS = ("saga", "2pc")
SERVICES = ("orders", "inventory", "checkout_saga", "checkout_2pc")  # and payments, which may be away
PATIENCE_S = 120.0
LOOK_S = 0.2
WARM_S = 3.0
Measured = dict[str, Any]


@dataclass(slots=True)
class Ground:
    """The running shop, on which all is measured."""

    bootstrap: str
    topology: Topology
    client: Client
    watcher: Watcher
    payments: ShopWorker
    invoices: Invoices
    stock_ratio: Fraction
    credit_limit: int

    def part(self, way: str, name: str, count: int) -> Part:
        """Orders for one measurement, whose products have their stock."""
        made = part(self.invoices, f"{way}-{name}-", count, Way(way, self.stock_ratio, self.credit_limit))
        for asked in made.stock:
            self.client.send(asked.aggregate, asked.key, asked.command)
        self.client.flush()
        self.settle()
        return made

    def place(self, orders: Sequence[Asked], rate: float = 0.0, lately: deque[str] | None = None) -> None:
        """Places orders, at that rate or, where it is 0, all at once; returns when all are stored."""
        began = time.monotonic()
        for n, asked in enumerate(orders):
            if rate:
                time.sleep(max(0.0, began + n / rate - time.monotonic()))
            self.client.send(asked.aggregate, asked.key, asked.command)
            if lately is not None:
                lately.append(asked.key)
        self.client.flush()

    def settle(self) -> None:
        """Waits until all that was sent has gone all the way through. Raises RuntimeError."""
        deadline = time.monotonic() + PATIENCE_S
        while not self.watcher.look()[1]:
            if time.monotonic() > deadline:
                raise RuntimeError(f"after {PATIENCE_S:.0f} s not all is folded")
            time.sleep(LOOK_S)

    def took(self, part: Part) -> dict[str, Took]:
        """How long each order took. Raises RuntimeError where one has not come to an end."""
        found = took(self.bootstrap, self.topology, part.prefix)
        if missing := [asked.key for asked in part.orders if asked.key not in found]:
            raise RuntimeError(f"{len(missing)} orders have not come to an end, such as {missing[0]}")
        return found

    def query(self) -> QueryClient:
        """A client for one thread."""
        return QueryClient(self.bootstrap, self.topology, 30.0)


# --- what is measured -------------------------------------------------------------------------------------------------


def steadily(ground: Ground, way: str, rate: float, seconds: float, name: str = "steady") -> Measured:
    """How long an order takes at a modest rate, and what readers see meanwhile."""
    made = ground.part(way, name, round(rate * seconds))
    lately: deque[str] = deque(maxlen=LATELY)
    query = ground.query
    with (
        query() as first,
        query() as second,
        Onlooker(first, made.products, lately, together=False) as one_by_one,
        Onlooker(second, made.products, lately, together=True) as together,
    ):
        ground.place(made.orders, rate, lately)
    ground.settle()  # without readers: linearizable reads write, too
    ended = list(ground.took(made).values())
    return {
        "ms from placed to decided, p50": percentile((each.ms for each in ended), 50),
        "…, p99": percentile((each.ms for each in ended), 99),
        "orders refused": refused(ended),
        "eventual reads of an order and its products": one_by_one.reads,
        **{f"… {what}, %": percent(one_by_one.found[what], one_by_one.reads) for what in STATES},
        "reads of the same together": together.reads,
        "… that show any of this": together.found.total(),
        "… that found something held for 1 s": together.contended,
    }


def at_once(ground: Ground, way: str, count: int) -> Measured:
    """How many orders a second are decided where all wait."""
    made = ground.part(way, "once", count)
    ground.place(made.orders)
    ground.settle()
    ended = list(ground.took(made).values())
    span_ms = max(each.ended_ms for each in ended) - min(each.placed_ms for each in ended)
    return {
        "orders fed at once": len(ended),
        "orders decided a second": round(1000 * len(ended) / span_ms, 1),
        "… refused": refused(ended),
    }


def without_payments(ground: Ground, way: str, rate: float, seconds: float) -> Measured:
    """What comes of orders while payments is away, and of others who want the same products."""
    made = ground.part(way, "away", round(rate * seconds))
    ground.payments.kill()
    gone = time.time()
    wanted = [code for codes in made.products.values() for code in codes]  # what many want, as often
    with ground.query() as query, Sales(ground.client, wanted) as sales:
        ground.place(made.orders, rate)
        rows = [row["row"] for row in query.scan("orders", prefix=made.prefix)]
        stock = [row["row"] for row in query.scan("inventory", prefix=made.prefix)]
    back = time.time()
    ground.payments.start()
    ground.settle()
    ended = ground.took(made)
    waited = [each for each in ended.values() if each.ended_ms > 1000 * back]
    reserved, free = (sum(each[name] for each in stock) for name in ("reserved", "on_hand"))
    return {
        "s without payments": round(back - gone, 1),
        "orders placed meanwhile": len(ended),
        "… refused meanwhile": refused(each for each in ended.values() if each.ended_ms <= 1000 * back),
        "… held at the end of it": sum(bool(row["ledger"]["holds"]) for row in rows),
        "units reserved then, % of those not taken": percent(reserved, reserved + free),
        "s from its return to the last decision": round(max(each.ended_ms for each in waited) / 1000 - back, 1),
        "s from placed to decided, of those that waited, p50": percentile((each.ms for each in waited), 50) / 1000,
        "refused in all": refused(ended.values()),
        "sales over the counter meanwhile": dict(sales.outcomes),
        "ms until they were answered, p50": round(1000 * percentile(sales.took_s, 50)),
    }


# --- the run ----------------------------------------------------------------------------------------------------------


@contextmanager
def running(bootstrap: str | None, invoices: Invoices, stock_ratio: Fraction, credit_limit: int) -> Iterator[Ground]:
    """The shop on fresh topics, with its workers."""
    topology = load("topologies")
    with local_broker(bootstrap) as address, tempfile.TemporaryDirectory() as home, ExitStack() as cleanup:
        create_topics(admin(address), [Wiring(s, codecs(topology.schemas)) for s in topology.chosen(())], 4, 1)
        wirings = [Wiring(s, codecs(topology.schemas)) for s in topology.chosen((*SERVICES, "payments"))]
        others = ShopWorker(address, Path(home, "others"), *SERVICES)
        cleanup.callback(others.end)
        payments = ShopWorker(address, Path(home, "payments"), "payments")
        cleanup.callback(payments.end)
        others.url()
        payments.url()
        watcher = Watcher(address, admin(address), wirings)
        cleanup.callback(watcher.close)
        client = cleanup.enter_context(Client(address, topology, "benchmark"))
        yield Ground(address, topology, client, watcher, payments, invoices, stock_ratio, credit_limit)


def _shown(value: Any) -> Any:
    """A result as the table has it."""
    if isinstance(value, dict):
        return ", ".join(f"{count:,} {what}" for what, count in value.items()) or "none"
    return value


@click.command()
@click.option("--rate", default=20.0, show_default=True, help="Orders a second, where they come steadily.")
@click.option("--seconds", default=20.0, show_default=True, help="For so long.")
@click.option("--orders", default=400, show_default=True, help="So many where all come at once.")
@click.option("--away", default=30.0, show_default=True, help="For so many seconds payments is away.")
@click.option(
    "--stock-ratio", default="0.7", show_default=True, help="What is there of each product, of what is wanted."
)
@click.option("--credit-limit", default=2000, show_default=True, help="What each customer may owe, in pounds.")
@click.option("--input", "source", type=click.Path(path_type=Path), help="Invoice file.  [default: December 2009]")
@click.option("--bootstrap", help="Kafka to use, without the shop's topics.  [default: one of its own]")
@click.option("--json", "file", type=click.Path(path_type=Path), help="Where to write the results.")
def main(
    rate: float,
    seconds: float,
    orders: int,
    away: float,
    stock_ratio: str,
    credit_limit: int,
    source: Path | None,
    bootstrap: str | None,
    file: Path | None,
) -> None:
    """The saga and the two-phase commit on the same orders: how fast, what is seen in between, what blocks."""
    invoices = read_invoices(source or SHIPPED)
    found: dict[str, Measured] = {way: {} for way in WAYS}
    console = Console(stderr=True)
    with running(bootstrap, invoices, Fraction(stock_ratio), 1000 * credit_limit) as ground:
        for way in WAYS:
            steadily(ground, way, rate, WARM_S, "warm")
        for way in WAYS:
            console.print(f"{way}: {rate:g} orders/s for {seconds:g} s")
            found[way] |= steadily(ground, way, rate, seconds)
        for way in WAYS:
            console.print(f"{way}: {orders} orders at once")
            found[way] |= at_once(ground, way, orders)
        for way in WAYS:
            console.print(f"{way}: {rate:g} orders/s, payments away for {away:g} s")
            found[way] |= without_payments(ground, way, rate, away)
    show("Checkouts", [{"": what, **{way: _shown(found[way][what]) for way in WAYS}} for what in found[WAYS[0]]])
    if file:
        settings = {"rate": rate, "seconds": seconds, "orders": orders, "away": away, "stock_ratio": stock_ratio}
        settings["credit_limit"] = credit_limit
        file.write_text(json.dumps({"machine": machine(), "settings": settings, **found}, indent=2))


if __name__ == "__main__":
    main()
