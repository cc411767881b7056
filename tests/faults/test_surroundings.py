"""The short version of `make faults`, the other half: connections, state directories, disks; and damage is seen."""

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from confluent_kafka import Producer

from pipeline.client import Client
from tests.faults.harness.cluster import Cluster
from tests.faults.judging import SEED, judge
from tests.faults.kinds import network, state
from tests.faults.kinds.state import Skipped
from tests.faults.oracle import read
from tests.faults.round import Round, running
from tests.helpers.support import until
from topologies import orders

pytestmark = pytest.mark.long


def test_connections_cut(cluster: Cluster, tmp_path: Path) -> None:
    with running("network", SEED, cluster, tmp_path / "round", proxied=True) as round_:
        network.cuts(round_, 3)
    judge(round_, 3)


def test_state_directories_damaged_and_damage_is_seen(cluster: Cluster, tmp_path: Path) -> None:
    with running("state", SEED, cluster, tmp_path / "round") as round_:
        state.damages(round_, 2)
        round_.settle()
        judge(round_, 2)
        key = plant(round_)
        plant_in_sql(round_)
    damage = round_.result.damage
    assert any(each.startswith("duplicate_event ") for each in damage.duplicated), "the history checker sees it, too"
    lost, deleted = damage.lost
    assert lost == "command never answered"
    assert deleted.startswith("missing_table_row units_sold-1 P2 ")
    assert any(each.startswith("command ") for each in damage.duplicated)
    assert any(each.startswith(f"move ('OrderConfirmed', '{key}'") for each in damage.duplicated)
    assert any(each.startswith(f"orders {key}: version 1 in place 4") for each in damage.wrong)
    assert any(each.startswith(f"orders.state {key}: ") for each in damage.wrong)
    assert any(each.startswith("units_sold[P0]") for each in damage.wrong)
    for place in ("units_sold in SQL[P1]", "units_sold in SQL[P2]: None, ", "products in SQL[P3]: ('another', "):
        assert any(each.startswith(place) for each in damage.wrong), damage.wrong
    assert not any(each.startswith("units_sold in SQL[P4]") for each in damage.wrong)


def plant(round_: Round) -> str:
    """What the engine must never do: an event a second time, which others follow; and a command without its event.

    It comes once the order is confirmed, as its fourth event.
    """
    order = orders.PlaceOrder("u0", "France", "2009-12-01T10:00:00", (orders.Line("P0", 1, 100),))
    client = Client(round_.cluster.bootstrap, round_.shop.topology)
    round_.sent.events[client.send("orders", "planted", order)] = "orders"
    client.flush()
    topic = "orders.event"
    shop = round_.shop

    def events() -> list[bytes | None]:
        return [value for key, value in read(shop, topic) if key == "planted"]

    placed, *_ = until("it is confirmed", lambda: len(found := events()) == 3 and found)
    producer = Producer({"bootstrap.servers": round_.cluster.bootstrap, "partitioner": "murmur2_random"})
    producer.produce(topic, placed, b"planted")
    assert producer.flush(30) == 0
    round_.sent.events["never answered"] = "orders"
    return "planted"


def plant_in_sql(round_: Round) -> None:
    """What somebody else might do to the tables: a row is changed, one is deleted."""
    with closing(sqlite3.connect(round_.database.removeprefix("sqlite:///"), isolation_level=None)) as sqlite:
        for change in (
            "UPDATE units_sold SET quantity = quantity + 1 WHERE row_key = 'P1'",
            "DELETE FROM units_sold WHERE row_key = 'P2'",
            "UPDATE products SET description = 'another' WHERE row_key = 'P3'",
        ):
            assert sqlite.execute(change).rowcount == 1


def test_the_disk_of_the_tables_is_full(cluster: Cluster, tmp_path: Path) -> None:
    try:
        with running("disk", SEED, cluster, tmp_path / "round") as round_:
            state.full_disk(round_, 1)
    except Skipped as why:
        pytest.skip(f"DISK FULL NOT TESTED: {why}")
    judge(round_, 1)
