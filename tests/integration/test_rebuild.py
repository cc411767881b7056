"""A projection's next version: built beside the old while workers go on, compared, switched to, the old one dropped."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from pipeline.adapters.avro.codec import codecs
from pipeline.adapters.avro.registry import Registry
from pipeline.adapters.kafka.topics import delete_services, partition_counts
from pipeline.client import Client
from pipeline.client.queries import QueryClient
from pipeline.demo.commands import stocking, trading
from pipeline.demo.invoices import Invoices
from pipeline.engine.plan import ServicePlan
from pipeline.rebuild.building import Progress
from pipeline.rebuild.subject import subject
from pipeline.topology import Topology, load
from pipeline.verify import verify
from tests.helpers.support import Shop, Worker, until
from topologies import inventory as i
from topologies import orders as o
from topologies import reports

pytestmark = pytest.mark.long


NEXT = """

def add_twice(row: Revenue, amount: Amount) -> Revenue:
    return Revenue(row.thousandths + 2 * amount.thousandths, row.orders + 1)


next_revenue = replace(revenue, evolve=add_twice, version=2)

"""
SERVICE = "# --- service ---"
OWN = "reports_revenue_v2"


class Code:
    """A copy of the shop's code, in which `revenue` has a second version."""

    def __init__(self, shop: Shop) -> None:
        self.shop, self.package = shop, shop.home / "next" / "topologies"
        self.schemas = self.package.parent / "schemas"
        shutil.copytree(Path(reports.__file__).parent, self.package, ignore=shutil.ignore_patterns("__pycache__"))
        shutil.copytree(shop.topology.schemas, self.schemas)
        for kind in ("row", "by_key"):
            shutil.copy(self.schemas / f"revenue.{kind}.avsc", self.schemas / f"revenue_v2.{kind}.avsc")
        Registry(self.schemas).register()
        self.write(NEXT, "revenue, next_revenue, ")

    def write(self, more: str, instead: str) -> None:
        """Writes `reports.py` anew, with `instead` in place of the projection in the service's list."""
        before, line, after = (Path(reports.__file__)).read_text().partition(SERVICE)
        (self.package / "reports.py").write_text(before + more + line + after.replace("revenue, ", instead, 1))

    def worker(self, *arguments: str) -> Worker:
        """A worker of this code."""
        worker = Worker(self.shop.home, str(self.package), "--bootstrap", self.shop.bootstrap, *arguments)
        self.shop._workers.append(worker)
        return worker

    def command(self, *arguments: str) -> list[str]:
        where = ("--topology", str(self.package), "--bootstrap", self.shop.bootstrap, "--home", str(self.shop.home))
        return [sys.executable, "-m", "pipeline", "projection", *arguments, *where]

    def run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """`pipeline projection …`."""
        return subprocess.run(self.command(*arguments), capture_output=True, text=True, check=False, timeout=150)

    def load(self) -> Topology:
        return load(str(self.package))


@pytest.fixture
def code(shop: Shop) -> Code:
    made = Code(shop)
    topology = made.load()
    delete_services(shop.admin, [ServicePlan(topology.services[OWN], codecs(topology.schemas))])
    return made


def rows(client: QueryClient, table: str = "revenue") -> dict[str, Any]:
    return {row["key"]: row["row"] for row in client.scan(table)}


def doubled(found: dict[str, Any]) -> dict[str, Any]:
    return {key: {**row, "thousandths": 2 * row["thousandths"]} for key, row in found.items()}


def test_a_version_is_built_beside_the_old_and_switched_to(shop: Shop, code: Code, invoices: Invoices) -> None:
    old = shop.worker()
    shop.send(stocking(invoices), trading(invoices))
    shop.settle()
    with shop.query() as client:
        before = rows(client)
        built = code.run("rebuild", "revenue", "--json")
        assert built.returncode == 0, built.stderr
        told = json.loads(built.stdout)
        differ = told.pop("differences")
        assert len(before) > 10
        assert {kind: differ[kind] for kind in ("same", "missing", "added")} == {"same": 0, "missing": 0, "added": 0}
        assert differ["changed"] == len(before)
        assert (told["version"], told["readers_get"], told["parked_records"], told["begun_at"]) == (2, 1, 0, 0)
        refused = code.run("switch", "revenue")
        assert refused.returncode == 2
        assert "does not declare version 2" in refused.stderr
        assert rows(client) == before, "whoever reads has noticed"

    assert old.stop() == 0
    one = code.worker(*[part for name in shop.topology.services if name != "reports" for part in ("--service", name)])
    until("it serves", one.addresses)  # else both would take the port that their slots have had
    two = code.worker("--service", "reports")
    topology = code.load()
    with QueryClient(shop.bootstrap, topology, 30) as client, Client(shop.bootstrap, shop.topology) as sending:
        assert rows(client) == before
        switched = code.run("switch", "revenue")
        assert switched.returncode == 0, switched.stderr
        assert "all 2 workers" in switched.stdout
        assert rows(client) == rows(client, "revenue_v2") == doubled(before)
        assert rows(client, "revenue_v1") == before
        # Both go on, and a token is waited for by either: that of an order which its checkout has confirmed.
        for stock in (i.RegisterProduct("tea"), i.ReceiveStock(2)):
            sending.send("inventory", "TEA", stock, wait=30)
        lines = (o.Line("TEA", 2, 1500),)
        placed = sending.send("orders", "new", o.PlaceOrder("x", "Peru", "2009-12-01T10:00:00", lines), wait=30)

        def confirmed() -> Any:
            found = client.get("orders", "new", at_least=placed.position)
            return found["row"]["status"] == "confirmed" and found["position"]

        token = until("it is confirmed", confirmed)
        for table, amount in (("revenue", 6000), ("revenue_v1", 3000)):
            found = client.get(table, "Peru/2009-12-01", at_least=token, wait=30)
            assert found["row"] == {"thousandths": amount, "orders": 1}
        assert verify(shop.bootstrap, topology, ("reports",)).clean
        again = code.run("switch", "revenue", "--version", "1")
        assert again.returncode == 0, again.stderr
        assert rows(client)["Peru/2009-12-01"]["thousandths"] == 3000
        assert code.run("switch", "revenue").returncode == 0

    early = code.run("drop-old", "revenue", "--yes")
    assert early.returncode == 2
    assert "still declares version 1" in early.stderr
    assert two.stop() == one.stop() == 0
    stale = shop.worker("--service", "reports")
    assert stale.process.wait(60) == 2
    assert "readers of 'revenue' get version 2, and this code declares 1" in stale.log.read_text()
    code.write(NEXT, "next_revenue, ")
    code.worker()
    with QueryClient(shop.bootstrap, code.load(), 30) as client:
        assert len(rows(client)) == len(before) + 1
        assert "revenue.row" in partition_counts(shop.admin)
        dropped = code.run("drop-old", "revenue", "--yes")
        assert dropped.returncode == 0, dropped.stderr
        until("they are gone", lambda: not {"revenue.row", "revenue.by_key"} & partition_counts(shop.admin).keys())
        assert rows(client).items() >= doubled(before).items()
        assert "revenue_v2.row" in partition_counts(shop.admin)


def test_a_build_that_is_killed_goes_on_where_it_was(shop: Shop, code: Code, invoices: Invoices) -> None:
    slow = "def add_twice(row: Revenue, amount: Amount) -> Revenue:\n    import time\n    time.sleep(0.1)"
    code.write(NEXT.replace("def add_twice(row: Revenue, amount: Amount) -> Revenue:", slow), "revenue, next_revenue, ")
    shop.worker()
    shop.send(stocking(invoices), trading(invoices))
    shop.settle()
    first = subprocess.Popen(code.command("rebuild", "revenue"), stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    until("its topics are there", lambda: "revenue_v2.row" in partition_counts(shop.admin))
    progress = Progress(shop.bootstrap, shop.admin, subject(code.load(), "revenue"))

    def has_begun() -> bool:
        progress.look()
        return progress.done > 0

    until("something is folded", has_begun)
    first.kill()
    first.communicate()
    progress.look()
    assert not progress.level
    left = progress.done
    progress.close()
    code.write(NEXT, "revenue, next_revenue, ")
    with shop.query() as client:
        before = rows(client)
    second = code.run("rebuild", "revenue", "--json")
    assert second.returncode == 0, second.stderr
    told = json.loads(second.stdout)
    assert told["begun_at"] >= left > 0
    assert told["differences"]["changed"] == len(before)
    code.worker("--service", OWN)
    third = code.run("rebuild", "revenue", "--json")  # nothing is left to do, which the worker would
    assert json.loads(third.stdout)["differences"] == told["differences"]
    with QueryClient(shop.bootstrap, code.load(), 30) as client:
        assert rows(client, "revenue_v2") == doubled(before)
