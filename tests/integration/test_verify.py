"""`pipeline verify` over real Kafka: a settled shop is clean, a running one too, and damage is named."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import Producer, TopicPartition

from pipeline.adapters.avro.codec import codecs
from pipeline.adapters.kafka import end_offsets
from pipeline.adapters.rocksdb.stores import claim_slot
from pipeline.demo.commands import Asked, stocking, trading
from pipeline.demo.invoices import COLUMNS, read_invoices
from pipeline.demo.progress import Watcher
from pipeline.demo.run import PARTITIONS, SHIPPED
from pipeline.engine.ports import TP
from pipeline.model import CommandMessage, EventMessage, StateMessage
from pipeline.verify import Finding, Report, verify
from tests.helpers.support import Shop, until
from topologies import inventory as inv
from topologies import orders as o
from topologies import reports as r
from topologies import users as u

AT = "2009-12-01T10:00:00"
CODES = ("TEA", "POT", "CUP", "JAR")


def some_business(day: int = 0) -> Iterator[Asked]:
    for code in CODES:
        yield Asked("inventory", code, inv.RegisterProduct(code))
        yield Asked("inventory", code, inv.ReceiveStock(50))
    for n in range(20):
        lines = tuple(o.Line(code, n % 3 + 1, 1500) for code in CODES[: n % 4 + 1])
        yield Asked("users", f"u{n % 5}", u.RegisterUser(f"User {n}", "France"))
        yield Asked("orders", f"{day}{n}", o.PlaceOrder(f"u{n % 5}", ("France", "Spain")[n % 2], AT, lines))
    yield Asked("orders", f"C{day}", o.ReturnGoods("u0", "France", AT, (o.Line("TEA", 1, 1500),)))


class Damaged:
    """A settled shop with its worker stopped, and a plain producer to do harm with."""

    def __init__(self, shop: Shop) -> None:
        self.shop = shop
        self.codecs = codecs(shop.topology.schemas)
        self._producer = Producer({"bootstrap.servers": shop.bootstrap, "partitioner": "murmur2_random"})

    def plant(self, topic: str, key: str | None, value: bytes | None, headers: Any = None) -> tuple[int, int]:
        """Partition and offset of the planted record."""
        stored: list[Any] = []
        self._producer.produce(
            topic, value, key and key.encode(), headers=headers, on_delivery=lambda _, message: stored.append(message)
        )
        assert self._producer.flush(30) == 0
        return stored[0].partition(), stored[0].offset()

    def verify(self, *services: str, tables: bool = False) -> Report:
        return verify(self.shop.bootstrap, self.shop.topology, services, tables=tables)


def one(report: Report, kind: str) -> Finding:
    assert report.found[kind] == 1, report.findings
    return next(finding for finding in report.findings if finding.kind == kind)


def test_a_settled_shop_is_clean_and_then_each_damage_is_named(shop: Shop) -> None:
    worker = shop.worker()
    shop.send(some_business())
    damaged = Damaged(shop)
    source = damaged.plant("inventory.command", "JUG", b"this is not Avro")
    shop.settle()
    report = damaged.verify(tables=True)
    assert report.clean, report.findings
    assert report.checked["parked"] == 1
    assert report.checked["commands sent on"] == 20 + 2 + 50  # checkouts that begin; one return; lots taken
    assert report.checked["commands asked of others"] == 2 * (20 + 20) + 50  # of each order, charge and lot of stock
    assert report.checked["table rows"] == 4 + 5 + 5 + 21 + 20 + 2 + 1 + 4 + 5 + 5 + 4 + 2
    assert report.rejected == {"users/already_registered": 15}
    assert not any(report.lag.values())
    assert worker.stop() == 0

    make = damaged.codecs
    events = make("inventory.event", EventMessage, inv.Event)
    planted = damaged.plant(
        "inventory.event", "POT", events.encode(EventMessage(99, "x", "x", 1, inv.StockReceived(1)))
    )
    report = damaged.verify("inventory")
    assert report.found == {"extra_event": 1, "version_gap": 1}
    found = one(report, "extra_event")
    assert (found.service, found.topic, found.partition, found.offset) == ("inventory", "inventory.event", *planted)
    assert (found.key, found.version) == ("POT", 99)

    states = make("inventory.state", StateMessage, inv.Stock)
    planted = damaged.plant("inventory.state", "CUP", states.encode(StateMessage(5, 1, inv.Stock(True, "CUP", 7))))
    found = one(damaged.verify("inventory"), "wrong_state")
    assert (found.key, found.partition, found.offset) == ("CUP", *planted)

    planted = damaged.plant("units_sold.row", "JAR", make("units_sold.row", r.UnitsSold).encode(r.UnitsSold(1)))
    found = one(damaged.verify("reports"), "wrong_row")
    assert (found.key, found.partition, found.offset) == ("JAR", *planted)

    planted = damaged.plant("units_sold.by_key", "JAR", make("units_sold.by_key", r.Units).encode(r.Units(4)))
    report = damaged.verify("reports")
    assert {"extra_message", "duplicate_message"} & set(report.found)
    assert any(f.kind.endswith("_message") and (f.partition, f.offset) == planted for f in report.findings)

    commands = make("inventory.command", CommandMessage, inv.Command)
    command = CommandMessage("stock_follows_orders/C0/1/0", "c", "orders.event/C0/1", 1, inv.PutBackStock("C0", 1))
    planted = damaged.plant("inventory.command", "TEA", commands.encode(command))
    report = damaged.verify("inventory")
    again = [f for f in report.findings if f.kind in ("duplicate_command", "wrong_command")]
    assert [(f.service, f.key, f.topic) for f in again] == [("inventory", "TEA", "inventory.command")]
    assert report.lag["inventory"] == 1

    headers = [("parked-action", b"parked"), ("parked-done", b""), ("parked-source-topic", b"inventory.command")]
    headers += [(f"parked-source-{n}", str(v).encode()) for n, v in zip(("partition", "offset"), source, strict=True)]
    planted = damaged.plant("inventory.parked", "JUG", b"this is not Avro", headers)
    found = one(damaged.verify("inventory"), "duplicate_parked")
    assert (found.topic, found.partition, found.offset) == ("inventory.parked", *planted)


def test_a_wrong_table_is_named(shop: Shop) -> None:
    worker = shop.worker()
    shop.send(some_business())
    shop.settle()
    assert worker.stop() == 0
    codec = codecs(shop.topology.schemas)("inventory.state", StateMessage, inv.Stock)
    _, stores = claim_slot(shop.home / "state", "inventory", 0)
    opened = [stores.open(f"inventory.command-{n}") for n in range(PARTITIONS)]
    ((store, row),) = [(store, row) for store in opened if (row := store.get(b"inventory\0TEA")) is not None]
    state = codec.decode(row)
    store.write([(b"inventory\0TEA", codec.encode(state._replace(version=state.version - 1)))], {})
    for each in opened:
        each.close()
    stores.close()
    shop.worker()
    with shop.query() as client:
        assert client.get("inventory", "TEA")["version"] == state.version - 1
    report = verify(shop.bootstrap, shop.topology, patience_s=0.5)
    assert set(report.found) == {"wrong_table_row"}
    assert one(report, "wrong_table_row")[1:3] == ("inventory", "inventory")
    assert one(report, "wrong_table_row").key == "TEA"
    fake = verify(shop.bootstrap, shop.topology, ("users",), rows=lambda table, partition: [], patience_s=0.5)
    assert fake.found == {"missing_table_row": 5}


@pytest.mark.long
def test_a_shop_at_work_is_clean(shop: Shop) -> None:
    shop.worker()
    shop.send(some_business())
    shop.settle()
    busy = threading.Event()

    def trade() -> None:
        day = 0
        while not busy.wait(0.5):
            day += 1
            shop.send(some_business(day))

    trading = threading.Thread(target=trade)
    trading.start()
    try:
        reports = [verify(shop.bootstrap, shop.topology, patience_s=30.0) for _ in range(3)]
    finally:
        busy.set()
        trading.join()
    for report in reports:
        assert report.clean, report.findings
    assert reports[0].checked["commands"] < reports[2].checked["commands"]


@pytest.mark.long
def test_killed_workers_leave_a_clean_history_at_any_moment(shop: Shop) -> None:
    invoices = read_invoices(SHIPPED)
    shop.send(islice(stocking(invoices), 3_000), islice(trading(invoices), 300))
    for _ in range(3):
        worker = shop.worker()
        with shop.watcher() as watcher:
            before = folded(watcher)
            until("it folds on", lambda before=before, watcher=watcher: folded(watcher) > before)
        worker.kill()
        report = verify(shop.bootstrap, shop.topology, tables=False)
        assert report.clean, report.findings
    shop.worker()
    shop.settle()
    report = verify(shop.bootstrap, shop.topology, patience_s=30.0)
    assert report.clean, report.findings
    assert not any(report.lag.values())


def folded(watcher: Watcher) -> int:
    lags, _ = watcher.look()
    return sum(lag.committed for lag in lags.values())


def test_old_commands_may_be_gone(shop: Shop) -> None:
    shop.worker()
    shop.send(some_business())
    shop.settle()
    ends = end_offsets(shop.admin, [TP(topic, n) for topic in ("inventory.command", "users.command") for n in range(4)])
    half = [TopicPartition(*tp, end // 2) for tp, end in ends.items()]
    for future in shop.admin.delete_records(half).values():
        future.result()
    shop.send(some_business(1))
    shop.settle()
    report = verify(shop.bootstrap, shop.topology)
    assert report.clean, report.findings
    assert report.notes


def cli(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "pipeline", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)


@pytest.fixture
def small(tmp_path: Path) -> Path:
    path = tmp_path / "small.csv"
    rows = [f"{n},P{n % 3},THING,2,2009-12-0{n % 5 + 1} 10:00:00,1.25,{n % 4},France" for n in range(1, 20)]
    path.write_text("\n".join([",".join(COLUMNS), *rows]) + "\n")
    return path


def test_the_demo_that_was_kept_is_verified(tmp_path: Path, small: Path) -> None:
    home = ("--home", str(tmp_path / "home"))
    try:
        done = cli("demo", "--input", str(small), "--keep", *home)
        assert done.returncode == 0, done.stdout + done.stderr
        seen = cli("verify", "topologies", *home)
        assert seen.returncode == 0, seen.stdout + seen.stderr
        assert "verified:" in seen.stdout
        written = cli("verify", "topologies", "--json", "--service", "inventory", *home)
        report = json.loads(written.stdout)
        assert report["clean"]
        assert report["lag"] == {"inventory": 0}
        told = 1  # the order of the demo that asks for too many
        assert report["checked"]["commands"] == 3 + 3 + 2 * 19 + told  # each order reserves and takes one lot
    finally:
        cli("demo", "--stop", *home)


def test_the_command_says_what_is_wrong(shop: Shop) -> None:
    worker = shop.worker()
    shop.send(some_business())
    shop.settle()
    assert worker.stop() == 0
    states = codecs(shop.topology.schemas)("users.state", StateMessage, u.User)
    _, offset = Damaged(shop).plant("users.state", "u1", states.encode(StateMessage(1, 1, u.User("x", "y"))))
    bad = cli("verify", "topologies", "--no-tables", "--bootstrap", shop.bootstrap)
    assert bad.returncode == 1, bad.stderr
    assert "wrong_state" in bad.stdout
    assert f"offset {offset} key 'u1'" in bad.stdout
    nobody = cli("verify", "topologies", "--service", "users", "--bootstrap", shop.bootstrap)
    assert nobody.returncode == 2
    assert "no worker of service 'users'" in nobody.stderr
