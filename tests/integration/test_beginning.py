"""Projections that are new to a service which has folded its sources already: from the beginning, or from now on."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

from pipeline.client.queries import QueryClient
from pipeline.demo.commands import Asked, stocking, trading
from pipeline.demo.invoices import Invoices
from pipeline.errors import TableUnavailable
from pipeline.topology import load
from pipeline.verify import verify
from tests.helpers.support import Shop, Worker, until
from topologies import reports
from topologies.inventory import ReceiveStock
from topologies.orders import PlaceOrder

NOW = '\nunits_sold = replace(units_sold, start="now")\n\n'


def package(shop: Shop, name: str, more: str, *without: str) -> Path:
    """A copy of the shop's code, with more code before the service, and without some of its projections."""
    made = shop.home / name / "topologies"
    shutil.copytree(Path(reports.__file__).parent, made, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copytree(shop.topology.schemas, made.parent / "schemas")
    before, line, after = Path(reports.__file__).read_text().partition("# --- service ---")
    for projection in without:
        after = after.replace(f"{projection}, ", "", 1)
    (made / "reports.py").write_text(before + more + line + after)
    return made


def _rows(client: QueryClient, table: str) -> int:
    try:
        return sum(1 for _ in client.scan(table))
    except TableUnavailable:  # nobody has it yet
        return 0


def worker_of(shop: Shop, code: Path) -> Worker:
    worker = Worker(shop.home, str(code), "--bootstrap", shop.bootstrap)
    shop._workers.append(worker)
    return worker


def test_a_new_projection_is_built_beside_the_others_and_one_that_begins_now_is_not(
    shop: Shop, invoices: Invoices
) -> None:
    old = package(shop, "old", "", "revenue", "units_sold")
    new = package(shop, "new", NOW)
    worker = worker_of(shop, old)
    shop.send(stocking(invoices), trading(invoices))
    shop.settle()
    assert worker.stop() == 0

    worker = worker_of(shop, new)
    topology = load(str(new))
    with shop.query() as client:
        until("revenue is built", lambda: _rows(client, "revenue") > 10)
        assert list(client.scan("units_sold")) == []
    report = verify(shop.bootstrap, topology, ("reports",))
    assert not report.found, report
    log = worker.log.read_text()
    assert re.search(
        r"reports: route:revenue begins at the beginning, and is built beside the others: from orders", log
    )
    assert re.search(r"reports: route:revenue is built from orders\.event-\d, up to offset \d+", log)
    assert re.search(
        r'reports: route:units_sold is new and begins now \(start="now"\), at orders\.event-\d offset', log
    )

    first = next(asked.command for asked in trading(invoices) if isinstance(asked.command, PlaceOrder))
    received = [Asked("inventory", line.code, ReceiveStock(line.quantity)) for line in first.lines]
    shop.send(received, [Asked("orders", "new-1", first)])
    codes = sorted(line.code for line in first.lines)
    with shop.query() as client:
        until("it has come", lambda: sorted(row["key"] for row in client.scan("units_sold")) == codes)
    report = verify(shop.bootstrap, topology, ("reports",))
    assert not report.found, report
