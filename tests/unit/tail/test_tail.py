"""Records are shown as they were written, without classes; what is no data is told apart, and nothing stops it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from pipeline.adapters.avro.registry import ENGINE, Registry
from pipeline.adapters.json.as_written import AsWritten
from pipeline.errors import TopicError
from pipeline.model import BARRIER
from pipeline.tail.record import Reader, Shown
from pipeline.tail.topics import chosen, meant
from pipeline.testing import TestDriver
from pipeline.topology import Topology
from topologies import inventory, orders, users

LAMP = orders.Line("LAMP", 2, 1500)
Records = dict[str, list[Shown]]


@pytest.fixture(scope="module")
def read(shop_topology: Topology) -> Reader:
    return Reader(AsWritten(Registry(shop_topology.schemas)), {})


@pytest.fixture(scope="module")
def records(shop_topology: Topology, read: Reader) -> Iterator[Records]:
    """All records of a shop in which something has happened, by topic."""
    with TestDriver(shop_topology) as driver:
        driver.send("inventory", "LAMP", inventory.RegisterProduct("a lamp"), inventory.ReceiveStock(1))
        driver.send("users", "anna", users.RegisterUser("Anna", "France", "anna@example.org"))
        driver.send("orders", "1", orders.PlaceOrder("anna", "", "2009-12-01T10:00", (LAMP,), "saga"))
        found: Records = {}
        for topic, there in driver._world.kafka.topics.items():
            for n, log in enumerate(there.logs):
                for r in log.archive:
                    if r.decided:
                        at = topic, n, r.offset(), r.timestamp()[1]
                        found.setdefault(topic, []).append(read.read(*at, r.key(), r.value(), tuple(r.headers() or ())))
        yield found


def test_all_that_stands_anywhere_can_be_read(records: Records) -> None:
    assert len(records) > 20
    for topic, shown in records.items():
        for each in shown:
            assert each.error is None, (topic, each)
            assert json.loads(json.dumps(each.as_json())) == each.as_json()


def test_commands_events_rows_and_replies_say_what_they_are(records: Records) -> None:
    placed = records["orders.event"][0]
    assert (placed.kind, placed.type, placed.key, placed.about["version"]) == ("event", "OrderPlaced", "1", 1)
    assert placed.value["customer"] == "anna"
    asked = next(each for each in records["inventory.command"] if each.type == "ReserveStock")
    assert asked.about["causation_id"].startswith("checkout_saga.command/")
    assert "type" not in asked.value
    refused = next(each for each in records["inventory.replies"] if each.type == "Rejected")
    assert (refused.key, refused.value["reason"]) == ("LAMP", "out_of_stock")
    accepted = next(each for each in records["orders.replies"] if each.type == "Acceptance")
    assert accepted.value["events"][0]["type"] == "OrderPlaced"  # bytes within the record are records, too
    assert accepted.value["events"][0]["value"]["customer"] == "anna"
    row = records["customers.row"][0]
    assert (row.kind, row.key, row.value["registered"]) == ("row", "anna", True)
    assert records["checkout_saga.deadlines"][0].about["name"]


def test_what_is_no_data_is_told_apart(read: Reader) -> None:
    def kind(topic: str, value: bytes | None, *headers: tuple[str, bytes]) -> tuple[str, Any]:
        shown = read.read(topic, 0, 1, 2, b"k", value, headers)
        return shown.kind, shown.value

    assert kind("orders.command", None, BARRIER) == ("barrier", None)
    assert kind("customers.row", None) == ("deleted", None)
    assert kind("other.topic", b"hello") == ("text", "hello")
    assert kind("other.topic", b'{"a": 1}') == ("text", {"a": 1})
    assert kind("other.topic", b"\xff\xfe") == ("text", {"base64": "//4="})
    assert kind("orders.positions", b'{"offset": 3}') == ("positions", {"offset": 3})


@pytest.mark.parametrize(
    ("value", "says"),
    [
        (b"no Avro", "not in the Confluent wire format"),
        (b"\0\x7f\xff\xff\xff\x01", "unknown schema id 2147483647"),
        (b"\0", "not in the Confluent wire format"),
    ],
)
def test_what_cannot_be_decoded_says_why(read: Reader, value: bytes, says: str) -> None:
    shown = read.read("orders.event", 0, 1, 2, b"\xff", value, ())
    assert (shown.kind, shown.key, shown.key_base64) == ("unreadable", None, "/w==")
    assert says in (shown.error or "")


def test_a_cut_or_longer_record_cannot_be_decoded(read: Reader, shop_topology: Topology) -> None:
    with TestDriver(shop_topology) as driver:
        driver.send("users", "anna", users.RegisterUser("Anna", "France"))
        value = next(r.value() for log in driver._world.kafka.topics["users.event"].logs for r in log.archive)
    for broken in (value[:-1], value + b"\0"):
        assert read.read("users.event", 0, 1, 2, b"anna", broken, ()).kind == "unreadable"


def test_a_notice_says_what_was_parked_and_why(read: Reader) -> None:
    headers = [("parked-action", b"parked"), ("parked-source-topic", b"orders.command"), ("parked-cause", b"a bug")]
    shown = read.read("orders.parked", 0, 1, 2, b"1", b"no Avro", headers)
    assert (shown.kind, shown.type, shown.about["cause"]) == ("parked", "parked", "a bug")
    assert shown.about["source_topic"] == "orders.command"
    assert "wire format" in (shown.error or "")
    resumed = read.read("orders.parked", 0, 1, 2, None, None, [("parked-action", b"resumed"), ("parked-by", b"me")])
    assert (resumed.kind, resumed.type, resumed.about["by"]) == ("parked", "resumed", "me")


def test_a_name_means_its_topics(shop_topology: Topology) -> None:
    names = meant(shop_topology)
    assert names["orders"] == ("orders.command", "orders.event")  # the aggregate, not the service
    assert names["customers"] == ("customers.row",)
    assert names["checkout_saga"] == ("checkout_saga.command", "checkout_saga.event")
    assert names["reports"][-1] == "reports.parked"
    there = {"orders.command", "orders.event", "loose"}
    assert chosen(["orders", "loose", "orders.event"], shop_topology, there) == [
        "orders.command",
        "orders.event",
        "loose",
    ]
    assert chosen(["loose"], None, there) == ["loose"]
    with pytest.raises(TopicError, match="no topic 'ordres', and no aggregate, projection or service has that name"):
        chosen(["ordres"], shop_topology, there)
    with pytest.raises(TopicError, match=r"does not have customers\.row yet; create it with"):
        chosen(["customers"], shop_topology, there)


def test_without_a_topology_the_schemas_that_were_published_do(shop_topology: Topology) -> None:
    registry = Registry(ENGINE)
    for each in Registry(shop_topology.schemas).versions(["users.event"]):
        registry.learn(each.id, each.topic, each.schema)
    with TestDriver(shop_topology) as driver:
        driver.send("users", "anna", users.RegisterUser("Anna", "France"))
        value = next(r.value() for log in driver._world.kafka.topics["users.event"].logs for r in log.archive)
    assert Reader(AsWritten(registry), {}).read("users.event", 0, 1, 2, b"1", value, ()).type == "UserRegistered"
