"""The short version of `make faults`: each kind of fault at least once, on real Kafka with real worker processes."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from confluent_kafka import Producer

from pipeline.client import Client
from tests.faults import answers, network, processes, state
from tests.faults.cluster import Cluster
from tests.faults.oracle import read
from tests.faults.round import Round, running
from tests.faults.state import Skipped
from tests.support import until
from topologies import orders

SEED = 20091201


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    made = Cluster(tmp_path_factory.mktemp("brokers") / "one")
    yield made
    made.close()


def judge(round_: Round, faults: int) -> None:
    assert not round_.result.damage, f"{round_.result.damage}\n{round_.result.notes}\nkept: {round_.home}"
    assert round_.result.injected >= faults
    assert round_.result.sent > 50


def test_workers_killed_stopped_and_ended(cluster: Cluster, tmp_path: Path) -> None:
    with running("processes", SEED, cluster, tmp_path / "round") as round_:
        processes.kills(round_, 1)
        processes.kills_at_points(round_, len(SHORT), SHORT)
        processes.zombies(round_, 1)
        processes.ends(round_, 1)
    judge(round_, 1 + len(SHORT) + 1 + 1)


SHORT = ("produced, not committed", "committed, not in RocksDB")


def test_rebalances_refusals_and_unknown_outcomes(cluster: Cluster, tmp_path: Path) -> None:
    with running("answers", SEED, cluster, tmp_path / "round") as round_:
        answers.aborts(round_, 5)
        answers.unknown_outcomes(round_, 1)
        processes.rebalances(round_, 1)
    judge(round_, 5 + 1 + 6)


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
    damage = round_.result.damage
    assert any(each.startswith("duplicate_event ") for each in damage.duplicated), "the history checker sees it, too"
    assert damage.lost == ["command never answered"]
    assert any(each.startswith("command ") for each in damage.duplicated)
    assert any(each.startswith(f"move of stock ('{key}'") for each in damage.duplicated)
    assert any(each.startswith(f"orders {key}: version 1 in place 2") for each in damage.wrong)
    assert any(each.startswith(f"orders.state {key}: ") for each in damage.wrong)
    assert any(each.startswith("units_sold[") for each in damage.wrong)


def plant(round_: Round) -> str:
    """What the engine must never do: an event a second time, which others follow; and a command without its event."""
    order = orders.PlaceOrder("u0", "France", "2009-12-01T10:00:00", (orders.Line("P0", 1, 100),))
    client = Client(round_.cluster.bootstrap, round_.shop.topology)
    round_.sent.events[client.send("orders", "planted", order)] = "orders"
    client.flush()
    topic = "orders.event"
    found: dict[str, bytes | None] = {}
    until("it is answered", lambda: found.update(read(round_.shop, topic)) or "planted" in found)
    producer = Producer({"bootstrap.servers": round_.cluster.bootstrap, "partitioner": "murmur2_random"})
    producer.produce(topic, found["planted"], b"planted")
    assert producer.flush(30) == 0
    round_.sent.events["never answered"] = "orders"
    return "planted"


def test_the_disk_of_the_tables_is_full(cluster: Cluster, tmp_path: Path) -> None:
    try:
        with running("disk", SEED, cluster, tmp_path / "round") as round_:
            state.full_disk(round_, 1)
    except Skipped as why:
        pytest.skip(f"DISK FULL NOT TESTED: {why}")
    judge(round_, 1)
