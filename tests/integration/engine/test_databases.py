"""Projections in PostgreSQL and SQLite over real Kafka: zombies, kills, a database that goes away, and a join."""

from __future__ import annotations

import re
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

import psycopg
import pytest
from confluent_kafka import Producer

from pipeline.adapters.avro.codec import codecs
from pipeline.adapters.avro.registry import Registry
from pipeline.adapters.kafka import KafkaGroupConsumer, KafkaLogReader, KafkaProducer
from pipeline.adapters.rocksdb.stores import claim_slot
from pipeline.adapters.sql import SqlDatabase, SqlStore, SqlStores, database_url
from pipeline.demo import figures
from pipeline.demo.commands import stocking, trading
from pipeline.demo.invoices import Invoices
from pipeline.engine.context import LanePorts
from pipeline.engine.loop.lane import Lane
from pipeline.engine.plan import ServicePlan
from pipeline.engine.ports import TP, SharedStore
from pipeline.engine.state.table import TableSpec
from pipeline.errors import Superseded
from pipeline.model import EventMessage
from pipeline.verify import verify
from pipeline.worker.settings import MachineClock
from tests.helpers.postgres import Postgres
from tests.helpers.support import Shop, until
from topologies import orders as o

PAGE = (Path(__file__).parents[3] / "docs" / "databases.md").read_text()
(JOIN,) = re.findall(r"```sql\n(.*?)```", PAGE, re.DOTALL)
UNITS = "SELECT row_key, quantity FROM units_sold"


def asked(url: str, query: str) -> list[Any]:
    if url.startswith("postgresql"):
        with psycopg.connect(url) as postgres:
            return postgres.execute(query).fetchall()
    with closing(sqlite3.connect(url.removeprefix("sqlite:///"))) as sqlite:
        return sqlite.execute(query).fetchall()


# --- the zombie -------------------------------------------------------------------------------------------------------


class Late:
    """A store whose next write of rows stands still, after the commit, for as long as `meanwhile` takes."""

    def __init__(self, inner: SqlStore, zombie: Zombie) -> None:
        self._inner, self._zombie = inner, zombie

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    def write(self, pairs: Iterable[tuple[bytes, bytes | None]], positions: Mapping[str, int]) -> None:
        rows = list(pairs)
        if rows and (meanwhile := self._zombie.meanwhile) is not None:
            self._zombie.meanwhile = None
            meanwhile()
        self._inner.write(rows, positions)


class Zombie:
    """The database as a lane sees it that stands still at the worst moment."""

    meanwhile: Callable[[], None] | None = None

    def __init__(self, inner: SqlStores) -> None:
        self._inner = inner

    def open(self, source: TP, tables: Sequence[TableSpec]) -> SharedStore:
        return Late(self._inner.open(source, tables), self)  # type: ignore[return-value]


class Reports:
    """The shop's reports, as lanes in this process."""

    def __init__(self, shop: Shop, url: str, cleanup: ExitStack) -> None:
        self.shop, self.url, self._cleanup = shop, url, cleanup
        self.make = codecs(shop.topology.schemas)
        self.plan = ServicePlan(shop.topology.services["reports"], self.make)
        self._orders = self.make("orders.event", EventMessage, o.Event, upcasts=o.orders.upcasts)
        self._producer = Producer({"bootstrap.servers": shop.bootstrap, "partitioner": "murmur2_random"})
        self.sold = 0

    def sell(self, count: int) -> None:
        """So many orders of one unit of TEA each."""
        for _ in range(count):
            self.sold += 1
            number, line = f"o{self.sold}", o.Line("TEA", 1, 1000)
            sold = o.OrderConfirmed(number, "anna", "France", "2009-12-01T10:00:00", (line,))
            event = EventMessage(3, f"c{self.sold}", "", 0, sold)
            self._producer.produce("orders.event", self._orders.encode(event), number.encode())
        assert self._producer.flush(30) == 0

    def stores(self) -> SqlStores:
        database = SqlDatabase("reports", database_url(self.url))
        self._cleanup.callback(database.close)
        return SqlStores(database, Registry(self.shop.topology.schemas))

    def lane(self, name: str, shared: Any) -> Lane:
        """All of one identity in the group: the one that joins last takes the place of the others."""
        bootstrap = self.shop.bootstrap
        ports = LanePorts(
            KafkaGroupConsumer(bootstrap, "reports", "reports-0", name),
            KafkaProducer(bootstrap, name),
            KafkaLogReader(bootstrap, name),
            claim_slot(self.shop.home / "lanes", name, None)[1],
            MachineClock(),
            lambda: KafkaLogReader(bootstrap, f"{name}-replay"),
            shared,
        )
        lane = Lane(self.plan, ports)
        lane.open()
        return lane

    def turn(self, lane: Lane, there: Callable[[], bool]) -> None:
        deadline = time.monotonic() + 60
        while not there():
            assert time.monotonic() < deadline
            lane.turn()

    def rows(self) -> list[Any]:
        try:
            return asked(self.url, f"{UNITS} WHERE row_key = 'TEA'")
        except (psycopg.errors.UndefinedTable, sqlite3.OperationalError):
            return []

    def positions(self) -> list[Any]:
        query = "SELECT * FROM pipeline_positions WHERE source = 'units_sold.by_key' ORDER BY source, partition"
        return asked(self.url, query)


@pytest.mark.parametrize("kind", ["postgresql", "sqlite"])
def test_a_zombie_that_wakes_up_after_its_commit_changes_no_row(
    shop: Shop, kind: str, request: pytest.FixtureRequest
) -> None:
    if kind == "sqlite":
        url = f"sqlite:///{shop.home / 'reports.sqlite'}"
    else:
        url = request.getfixturevalue("postgres").new_database()
    with ExitStack() as cleanup:
        reports = Reports(shop, url, cleanup)
        database = Zombie(reports.stores())
        zombie = reports.lane("zombie", database)
        reports.sell(5)
        reports.turn(zombie, lambda: reports.rows() == [("TEA", 5)])
        seen: list[Any] = []

        def meanwhile() -> None:
            owner = reports.lane("owner", reports.stores())
            # What the zombie has committed, and not written yet, is rolled forward from the row topic.
            reports.turn(owner, lambda: reports.rows() == [("TEA", 8)])
            reports.sell(4)
            reports.turn(owner, lambda: reports.rows() == [("TEA", 12)])
            owner.close()
            seen.extend([reports.rows(), reports.positions()])

        database.meanwhile = meanwhile
        reports.sell(3)
        with pytest.raises(Superseded) as told:
            reports.turn(zombie, lambda: False)
        zombie.abandon(told.value)
        assert [reports.rows(), reports.positions()] == seen
        assert seen[0] == [("TEA", reports.sold)]


# --- the shop ---------------------------------------------------------------------------------------------------------


def best_sellers(invoices: Invoices) -> list[tuple[str, int, float]]:
    """What the page's query has to give."""
    units = figures.from_file(invoices)["units_sold"]
    best = sorted(units.items(), key=lambda pair: (-pair[1], pair[0]))[:10]
    return [(invoices.products[code], n, round(100 * n / sum(units.values()), 1)) for code, n in best]


def test_a_table_in_sqlite_is_joined_by_two_processes_and_restored(shop: Shop, invoices: Invoices) -> None:
    worker = shop.worker("--processes", "2")
    shop.send(stocking(invoices), trading(invoices))
    shop.settle()
    until("all figures are right", lambda: shop.wrong_figures(invoices) == [])
    url = f"sqlite:///{shop.home / 'state' / 'reports' / 'reports.sqlite'}"
    assert asked(url, JOIN) == best_sellers(invoices)
    report = verify(shop.bootstrap, shop.topology)
    assert report.clean, report.findings

    with closing(sqlite3.connect(url.removeprefix("sqlite:///"), isolation_level=None)) as sqlite:
        sqlite.execute("UPDATE units_sold SET quantity = quantity + 1 WHERE row_key = 'P1'")
    assert verify(shop.bootstrap, shop.topology).found == {"wrong_table_row": 1}
    assert worker.stop() == 0
    for file in Path(url.removeprefix("sqlite:///")).parent.glob("reports.sqlite*"):
        file.unlink()
    shop.worker()
    shop.settle()
    report = verify(shop.bootstrap, shop.topology)
    assert report.clean, report.findings
    assert asked(url, JOIN) == best_sellers(invoices)


@pytest.mark.long
def test_kills_a_worker_that_stands_still_and_a_server_that_dies_cost_no_row(
    shop: Shop, invoices: Invoices, postgres: Postgres
) -> None:
    url = postgres.new_database()
    place = ("--database", f"reports={url}")
    first, second = (shop.worker(*place, "--node", node) for node in "ab")
    until("both serve", lambda: all(worker.addresses() for worker in (first, second)))
    parts = list(trading(invoices))
    quarter = len(parts) // 4 + 1
    shop.send(stocking(invoices), parts[:quarter])
    first.process.send_signal(signal.SIGSTOP)
    shop.send(parts[quarter : 2 * quarter])
    time.sleep(8)  # more than its session in the group
    first.process.send_signal(signal.SIGCONT)
    postgres.stop()
    shop.send(parts[2 * quarter : 3 * quarter])
    time.sleep(2)
    postgres.start()
    second.kill()
    shop.send(parts[3 * quarter :])
    third = shop.worker(*place, "--node", "b")
    shop.settle()
    assert until("all figures are right", lambda: shop.wrong_figures(invoices) == [])
    report = verify(shop.bootstrap, shop.topology)
    assert report.clean, report.findings
    assert [(d, n, float(percent)) for d, n, percent in asked(url, JOIN)] == best_sellers(invoices)
    assert dict(asked(url, UNITS)) == figures.from_file(invoices)["units_sold"]
    assert first.stop() == third.stop() == 0


def test_a_worker_that_is_told_no_database_or_an_absent_one_says_so(shop: Shop) -> None:
    for url, code, says in [
        ("postgresql://nobody@127.0.0.1:1/nothing", 1, "does not answer"),  # started again, it may
        ("mysql://host/name", 2, "is not a usable database"),
    ]:
        worker = shop.worker("--service", "reports", "--database", f"reports={url}")
        assert worker.process.wait(60) == code
        assert says in worker.log.read_text()
        assert "Traceback" not in worker.log.read_text()


@pytest.mark.long
def test_kills_at_the_calls_to_the_database_and_around_the_commit(
    shop: Shop, invoices: Invoices, postgres: Postgres
) -> None:
    url = postgres.new_database()
    parts = [*stocking(invoices), *trading(invoices)]
    points = ("producer.commit:after", "store.write:before", "store.write:after", "stores.open:after")
    for n, point in enumerate(points):
        share = len(parts) // len(points) + 1
        shop.send(parts[n * share : (n + 1) * share])
        fired = shop.home / f"fired-{n}"
        fired.touch()
        plan = f"reports/{point}@{2 + n}=kill"
        arguments = ["topologies", "--bootstrap", shop.bootstrap, "--home", str(shop.home)]
        command = [sys.executable, "-m", "tests.faults.harness.worker", plan, str(fired), "worker", *arguments]
        killed = subprocess.run([*command, "--database", f"reports={url}"], timeout=60, capture_output=True)
        assert killed.returncode == -signal.SIGKILL
        assert point in fired.read_text()
    worker = shop.worker("--database", f"reports={url}")
    shop.settle()
    assert until("all figures are right", lambda: shop.wrong_figures(invoices) == [])
    report = verify(shop.bootstrap, shop.topology)
    assert report.clean, report.findings
    assert dict(asked(url, UNITS)) == figures.from_file(invoices)["units_sold"]
    assert worker.stop() == 0
