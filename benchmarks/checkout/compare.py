"""The shop's two checkouts on the same orders: `python -m benchmarks.checkout.compare [--rate 20] [--json FILE]`.

Real invoices' orders, each way on products and accounts of its own: at a steady rate, while somebody reads; all at
once; and at the steady rate while payments is away. One worker process, and one for payments alone.
"""

from __future__ import annotations

import json
import tempfile
import time
from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import click
from rich.console import Console

from benchmarks.checkout.onlookers import LATELY, STATES, TOGETHER_S, Onlooker, Sales
from benchmarks.checkout.orders import Part, Took, part, percent, percentile, refused, took
from benchmarks.environment import ShopWorker, local_broker
from benchmarks.report import machine, show
from pipeline.adapters.avro.codec import codecs
from pipeline.adapters.kafka import admin
from pipeline.adapters.kafka.topics import create_topics
from pipeline.client import Client
from pipeline.client.queries import QueryClient
from pipeline.demo.commands import Asked, Way
from pipeline.demo.invoices import Invoices, read_invoices
from pipeline.demo.progress import Watcher
from pipeline.demo.run import SHIPPED
from pipeline.engine.plan import ServicePlan
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

    def part(self, way: Way, name: str, count: int) -> Part:
        """Orders for one measurement, whose products have their stock."""
        made = part(self.invoices, f"{way.checkout}-{name}-", count, way)
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


def steadily(ground: Ground, way: Way, rate: float, seconds: float, name: str = "steady") -> Measured:
    """How long an order takes at a modest rate."""
    made = ground.part(way, name, round(rate * seconds))
    ground.place(made.orders, rate)
    ground.settle()
    ended = list(ground.took(made).values())
    return {
        "ms from placed to decided, p50": percentile((each.ms for each in ended), 50),
        "…, p99": percentile((each.ms for each in ended), 99),
    }


def looked_at(ground: Ground, way: Way, rate: float, seconds: float) -> Measured:
    """What readers see in between."""
    made = ground.part(way, "looked-at", round(rate * seconds))
    lately: deque[str] = deque(maxlen=LATELY)
    with ExitStack() as reading:
        onlookers = [
            reading.enter_context(
                Onlooker(reading.enter_context(ground.query()), made.products, lately, together=together)
            )
            for together in (False, False, True, True)
        ]
        ground.place(made.orders, rate, lately)
    ground.settle()  # without readers: linearizable reads write, too
    ground.took(made)
    one_by_one, together = onlookers[:2], onlookers[2:]
    reads = sum(each.reads for each in one_by_one)
    found = {state: sum(each.found[state] for each in one_by_one) for state in STATES}
    return {
        "eventual reads of an order and its products": reads,
        **{f"… {state}, %": percent(found[state], reads) for state in STATES},
        "reads of the same together": sum(each.reads for each in together),
        "… that show any of this": sum(each.found.total() for each in together),
        f"… without an answer within {TOGETHER_S:g} s": sum(each.contended for each in together),
    }


def at_once(ground: Ground, way: Way, count: int) -> Measured:
    """How many orders a second are decided where all wait."""
    scarce = "scarce" if way.scarce else "ample"
    made = ground.part(way, scarce, count)
    ground.place(made.orders)
    ground.settle()
    ended = list(ground.took(made).values())
    span_ms = max(each.ended_ms for each in ended) - min(each.placed_ms for each in ended)
    rate = {f"orders/s of {count} fed at once, stock and credit {scarce}": round(1000 * len(ended) / span_ms, 1)}
    return (
        {**rate, "… refused, %": percent(refused(ended).total(), len(ended)), "… why": refused(ended)}
        if way.scarce
        else rate
    )


def without_payments(ground: Ground, way: Way, rate: float, seconds: float) -> Measured:
    """What comes of orders while payments is away, and of others who want the same products."""
    made = ground.part(way, "away", round(rate * seconds))
    wanted = [code for codes in made.products.values() for code in codes]  # what many want, as often
    ground.payments.kill()
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
        f"payments away for {seconds:g} s: orders placed": len(ended),
        "… decided meanwhile": len(ended) - len(waited),
        "… held then": sum(bool(row["ledger"]["holds"]) for row in rows),
        "… of the units that are left, reserved then, %": percent(reserved, reserved + free),
        "… s from its return to the last decision": round(max(each.ended_ms for each in waited) / 1000 - back, 1),
        "… s from placed to decided, p50": percentile((each.ms for each in waited), 50) / 1000,
        "… orders refused": refused(ended.values()),
        "… sales over the counter of the same products": sales.outcomes,
        "… ms until these were answered, p50": round(1000 * percentile(sales.took_s, 50)),
    }


# --- the run ----------------------------------------------------------------------------------------------------------


@contextmanager
def running(bootstrap: str | None, invoices: Invoices) -> Iterator[Ground]:
    """The shop on fresh topics, with its workers."""
    topology = load("topologies")
    with local_broker(bootstrap) as address, tempfile.TemporaryDirectory() as home, ExitStack() as cleanup:
        create_topics(admin(address), [ServicePlan(s, codecs(topology.schemas)) for s in topology.chosen(())], 4, 1)
        plans = [ServicePlan(s, codecs(topology.schemas)) for s in topology.chosen((*SERVICES, "payments"))]
        others = ShopWorker(address, Path(home, "others"), *SERVICES)
        cleanup.callback(others.end)
        payments = ShopWorker(address, Path(home, "payments"), "payments")
        cleanup.callback(payments.end)
        others.url()
        payments.url()
        watcher = Watcher(address, admin(address), plans)
        cleanup.callback(watcher.close)
        client = cleanup.enter_context(Client(address, topology, "benchmark"))
        yield Ground(address, topology, client, watcher, payments, invoices)


def _shown(value: Any) -> Any:
    """A result as the table has it."""
    if isinstance(value, Counter):
        return ", ".join(f"{count:,} {what}" for what, count in value.most_common()) or "none"
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
    ample = {way: Way(way) for way in WAYS}
    plenty = {way: Way(way, Fraction(2)) for way in WAYS}  # for others, too
    scarce = {way: Way(way, Fraction(stock_ratio), 1000 * credit_limit) for way in WAYS}
    with running(bootstrap, invoices) as ground:
        for way in WAYS:
            steadily(ground, ample[way], rate, WARM_S, "warm")
        measures: list[tuple[str, Callable[[str], Measured]]] = [
            (f"{rate:g} orders/s", lambda way: steadily(ground, ample[way], rate, seconds)),
            ("all at once", lambda way: at_once(ground, ample[way], orders)),
            ("all at once, too little for all", lambda way: at_once(ground, scarce[way], orders)),
            ("with readers", lambda way: looked_at(ground, ample[way], rate / 4, seconds)),
            ("without payments", lambda way: without_payments(ground, plenty[way], rate, away)),
        ]
        for what, measure in measures:
            for way in WAYS:
                console.print(f"{way}: {what}")
                found[way] |= measure(way)
    show("Checkouts", [{"": what, **{way: _shown(found[way][what]) for way in WAYS}} for what in found[WAYS[0]]])
    if file:
        settings = {"rate": rate, "seconds": seconds, "orders": orders, "away": away, "stock_ratio": stock_ratio}
        settings["credit_limit"] = credit_limit
        file.write_text(json.dumps({"machine": machine(), "settings": settings, **found}, indent=2))


if __name__ == "__main__":
    main()
