"""The shop's invoices while each service's worker is killed: python -m tests.faults.runs.checkouts --checkout 2pc

Feeds an invoice file to the shop, each service with a worker process of its own, and ends one worker after the other
by SIGKILL while there is work left; each is started again at once. Once all has settled, every figure is recomputed
from the file, nothing may be in flight, and `pipeline verify` judges every record. Ends with 1 if anything is wrong.
"""

from __future__ import annotations

import itertools
import json
import random
import shutil
import sys
import tempfile
import time
from fractions import Fraction
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from pipeline.broker import local
from pipeline.demo.commands import Way
from pipeline.demo.invoices import Invoices, read_invoices
from pipeline.demo.progress import Watcher
from pipeline.demo.run import SHIPPED, Demo
from pipeline.demo.telling.report import checkouts_line
from pipeline.errors import PipelineError
from pipeline.topology import load
from pipeline.verify import verify
from pipeline.verify.show import show
from pipeline.worker.processes import NEEDS_CURE
from tests.helpers.apart import Apart
from topologies.orders import CHECKOUTS

PARTITIONS = 4
TURNS = 2  # how often each service is killed
EVERY_S = 2.0
OWN_S = 1.0  # so long a kill waits for the service to have work of its own
SEED = 20091201
SHOP = load("topologies")


class Killed(Apart):
    """The shop's workers; each is killed in its turn, and started again whatever it has died of.

    Of the checkouts only the one that has work. It stands where the demo has its one worker, which calls `revive`
    wherever it waits.
    """

    def __init__(self, bootstrap: str, home: Path, checkout: str, turns: int, every_s: float) -> None:
        super().__init__(bootstrap, home, SHOP, "tests.faults.runs.checkouts:SHOP", PARTITIONS)
        first = [f"checkout_{checkout}", "inventory", "payments", "orders"]
        idle = {f"checkout_{other}" for other in CHECKOUTS if other != checkout}
        self._turns = (first + sorted(SHOP.services.keys() - idle - set(first))) * turns
        self._every_s, self._due = every_s, 0.0
        self._rng = random.Random(SEED)
        self.watcher = Watcher(bootstrap, self.shop.admin, self.shop.plans)
        self._began = time.monotonic()
        self.kills: list[dict[str, Any]] = []
        self.deaths: list[str] = []  # those that nobody ordered
        self.log = home

    def start(self, *services: str) -> None:
        super().start(*(services or SHOP.services))
        self._began = time.monotonic()

    def revive(self) -> None:
        """Starts again who has died; kills the next one if that is due, it works, and there is work left."""
        for service, worker in self.workers.items():
            code = worker.process.poll()
            if code is None:
                continue
            self.deaths.append(f"{service} ended with code {code}; its log: {worker.log}")
            if code == NEEDS_CURE:
                raise PipelineError(self.deaths[-1])
            self.launch(service)
        if not self._turns or time.monotonic() < self._due or not self.runs(self._turns[0]):
            return
        left = {name: max(0, lag.ends - lag.committed) for name, lag in self.watcher.look()[0].items()}
        if not any(left.values()) or (not left[self._turns[0]] and time.monotonic() < self._due + OWN_S):
            return
        service = self._turns.pop(0)
        self.kill(service)
        at_s = round(time.monotonic() - self._began, 1)
        self.kills.append({"service": service, "at_s": at_s, "left": left[service], "left_to_all": sum(left.values())})
        self.launch(service)
        self._due = time.monotonic() + self._rng.uniform(0.5, 1.5) * self._every_s

    def stop(self) -> None:
        self.close()


def first(invoices: Invoices, count: int) -> Invoices:
    """The first documents alone, with the products that they are about."""
    documents = dict(itertools.islice(invoices.documents.items(), count))
    about = {code for document in documents.values() for code, _ in document.lines}
    about |= {adjustment.code for document in documents.values() for adjustment in document.adjustments}
    return Invoices(documents, {code: text for code, text in invoices.products.items() if code in about})


def carry_through(
    bootstrap: str,
    home: Path,
    invoices: Invoices,
    way: Way,
    console: Console,
    turns: int = TURNS,
    every_s: float = EVERY_S,
) -> dict[str, Any]:
    """All of it, on a broker without the shop's topics. `wrong`: what is not as it must be, in words."""
    workers = Killed(bootstrap, home, way.checkout, turns, every_s)
    try:
        demo = Demo(home, console, bootstrap, keep=True, way=way, topology=SHOP, workers=workers)
        result = demo.trade(invoices)
        columns = (TextColumn("{task.description:<36}"), BarColumn(), TimeElapsedColumn())
        with Progress(*columns, console=console, transient=True) as progress:
            bar = progress.add_task("verify", total=None)

            def step(name: str, done: int, total: int) -> None:
                progress.update(bar, description=name, completed=done, total=total)

            report = verify(bootstrap, SHOP, step=step)
    finally:
        workers.stop()
        workers.watcher.close()
    show(console, report)
    unjudged = [note for note in report.notes if "under way" in note or "not judged" in note]
    wrong = [*result["differences"], *map(str, report.findings), *unjudged, *workers.deaths]
    return {**result, "kills": workers.kills, "verify": report.as_json(), "wrong": wrong}


def show_kills(console: Console, kills: list[dict[str, Any]]) -> None:
    """One line each."""
    table = Table(title="Killed", title_justify="left", title_style="bold")
    for name in ("service", "s after the start", "records it had left", "all had left"):
        table.add_column(name, justify="left" if name == "service" else "right")
    for kill in kills:
        table.add_row(kill["service"], f"{kill['at_s']:.1f}", f"{kill['left']:,}", f"{kill['left_to_all']:,}")
    console.print(table)


@click.command()
@click.option("--checkout", type=click.Choice(CHECKOUTS), required=True)
@click.option("--invoices", "count", type=int, default=0, help="Only the first of the file.  [default: all]")
@click.option("--stock-ratio", default="0.7", show_default=True)
@click.option("--credit-limit", default=2000, show_default=True, help="Pounds that each customer may owe.")
@click.option("--file", type=click.Path(path_type=Path), default=SHIPPED, help="Invoices.  [default: December 2009]")
@click.option("--turns", default=TURNS, show_default=True, help="How often each service is killed.")
@click.option("--every", "every_s", default=EVERY_S, show_default=True, help="Seconds from one kill to the next.")
@click.option("--json", "json_file", type=click.Path(path_type=Path), help="Where to write the result.")
def main(
    checkout: str,
    count: int,
    stock_ratio: str,
    credit_limit: int,
    file: Path,
    turns: int,
    every_s: float,
    json_file: Path | None,
) -> None:
    """The shop's invoices while every service's worker is killed in turn."""
    console = Console()
    if not console.is_terminal:
        console = Console(width=140)
    invoices = read_invoices(file)
    if count:
        invoices = first(invoices, count)
    home = Path(tempfile.mkdtemp(prefix="checkouts-"))
    broker = local.up(home / "broker", say=console.print)
    try:
        way = Way(checkout, Fraction(stock_ratio), 1000 * credit_limit)
        result = carry_through(broker.bootstrap, home, invoices, way, console, turns, every_s)
    finally:
        local.down(home / "broker")
    show_kills(console, result["kills"])
    console.print(checkouts_line(result, checkout), soft_wrap=True)
    if json_file is not None:
        json_file.write_text(json.dumps(result, indent=1, ensure_ascii=False) + "\n")
    for line in result["wrong"][:20]:
        console.print(f"[red]{line}[/]", highlight=False)
    if result["wrong"]:
        console.print(f"[bold red]{len(result['wrong'])} things are wrong; kept: {home}[/]")
        sys.exit(1)
    shutil.rmtree(home)
    console.print(
        f"[bold green]{len(result['kills'])} kills, nothing in flight, every figure and every record as it must be[/]"
    )


if __name__ == "__main__":
    main()
