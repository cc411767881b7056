"""Codecs with the ids of a schema registry: what is asked when, and which records can be read."""

from __future__ import annotations

import json
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

import fastavro
import pytest

from pipeline.adapters import schema_registry
from pipeline.adapters.avro.codec import Codec, codecs, served_codecs
from pipeline.adapters.avro.registry import MANIFEST, Registry, Written
from pipeline.adapters.avro.schemas.files import SECRET
from pipeline.adapters.avro.served import open_registry, served_by
from pipeline.engine.plan import ServicePlan
from pipeline.errors import NotKnownYet, SchemaError, UndecodableRecord
from pipeline.model import TopicKind
from pipeline.testing.simulation import TestDriver
from pipeline.topology import Topology
from pipeline.verify.sources.decode import Decoder
from tests.helpers.fake_registry import FakeRegistry
from tests.unit.adapters.test_codec import IMPLEMENTATIONS
from topologies import inventory, orders, users

TOPIC = "a.row"
ENGINES = ("deadlines", "queue", "reply")
REPLICA = "customer_countries.replica"


@dataclass(frozen=True, slots=True)
class Amount:
    pence: int
    note: str = ""


def schema(*fields: dict[str, Any], name: str = "Amount") -> dict[str, Any]:
    return {"type": "record", "name": name, "namespace": "shop", "fields": list(fields)}


PENCE = {"name": "pence", "type": "long"}
PRESENT = schema(PENCE, {"name": "note", "type": "string", "default": ""})
OLDER = schema(PENCE)


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeRegistry]:
    made = FakeRegistry()
    monkeypatch.setenv("PIPELINE_REGISTRY", made.url)
    monkeypatch.delenv("PIPELINE_CLIENT_CONFIG", raising=False)
    monkeypatch.setattr(schema_registry, "WAIT_MS", 1)
    monkeypatch.setattr(schema_registry, "WAIT_MAX_MS", 1)
    yield made
    made.close()


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    (tmp_path / f"{TOPIC}.avsc").write_text(json.dumps(PRESENT))
    Registry(tmp_path).register()
    return tmp_path


def writer(directory: Path, **options: Any) -> Codec:
    return served_codecs(directory, registers=True)(TOPIC, Amount, **options)


def record(schema_id: int, of: Any, value: Any) -> bytes:
    """What another program writes."""
    out = BytesIO(struct.pack(">bI", 0, schema_id))
    out.seek(5)
    fastavro.schemaless_writer(out, fastavro.parse_schema(of), value)
    return out.getvalue()


@pytest.mark.parametrize("native", IMPLEMENTATIONS)
def test_records_have_the_id_that_the_registry_gives(server: FakeRegistry, directory: Path, native: bool) -> None:
    server.add("something-value", "else")
    data = writer(directory, native=native).encode(Amount(7, "x"))
    assert data[:5] == b"\0\0\0\0\2"
    assert json.loads(server.schemas[2]["schema"]) == PRESENT
    assert server.subjects["a.row-value"] == [2]
    assert writer(directory, native=native).decode(data) == Amount(7, "x")


def test_without_a_registry_nothing_is_asked(
    server: FakeRegistry, directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("PIPELINE_REGISTRY")
    assert writer(directory).encode(Amount(7)) == codecs(directory)(TOPIC, Amount).encode(Amount(7))
    assert server.requests == []


def test_who_may_only_read_the_registry_can_write_what_was_registered_ahead(
    server: FakeRegistry, directory: Path
) -> None:
    server.add("a.row-value", json.dumps(PRESENT))
    assert [writer(directory).id for _ in range(3)] == [1, 1, 1]
    assert server.requests == ["POST /subjects/a.row-value"]


def test_who_only_reads_registers_nothing(server: FakeRegistry, directory: Path) -> None:
    manifests = codecs(directory)(TOPIC, Amount).id
    followed = served_codecs(directory, registers=True)(TOPIC, Amount, strict=False)
    tool = served_codecs(directory)(TOPIC, Amount)
    assert (followed.id, tool.id) == (manifests, manifests)
    assert set(server.requests) == {"POST /subjects/a.row-value"}
    data = writer(directory).encode(Amount(7))
    assert followed.decode(data) == tool.decode(data) == Amount(7)


@pytest.mark.parametrize("native", IMPLEMENTATIONS)
def test_records_that_were_written_without_it_stay_readable(
    server: FakeRegistry, directory: Path, native: bool
) -> None:
    before = codecs(directory)(TOPIC, Amount).encode(Amount(7, "before"))
    assert writer(directory, native=native).decode(before) == Amount(7, "before")


@pytest.mark.parametrize("native", IMPLEMENTATIONS)
def test_what_another_program_has_registered_is_read(server: FakeRegistry, directory: Path, native: bool) -> None:
    codec = writer(directory, native=native)
    number = server.add("its.own.Name", json.dumps(OLDER))
    assert codec.decode(record(number, OLDER, {"pence": 7})) == Amount(7)
    server.requests.clear()
    assert codec.decode(record(number, OLDER, {"pence": 8})) == Amount(8)
    assert server.requests == []
    assert Decoder(open_registry(directory), TOPIC, Amount).value(record(number, OLDER, {"pence": 9})) == Amount(9)


@pytest.mark.parametrize(
    ("entry", "why"),
    [
        (None, "unknown schema id 9: neither in the manifest nor published"),
        ({"schema": json.dumps(schema(PENCE, name="Other"))}, "cannot be read as a.row"),
        ({"schema": "message M {}", "schemaType": "PROTOBUF"}, "is PROTOBUF"),
    ],
)
def test_what_cannot_be_read_is_told_as_such(
    server: FakeRegistry, directory: Path, entry: dict[str, Any] | None, why: str
) -> None:
    codec = writer(directory)
    if entry is not None:
        server.schemas[9] = entry
    for decode in (codec.decode, Decoder(open_registry(directory), TOPIC, Amount).value):
        with pytest.raises(UndecodableRecord, match=why) as raised:
            decode(record(9, OLDER, {"pence": 7}))
        assert isinstance(raised.value, NotKnownYet) == (entry is None)  # else no newer code is waited for


def test_a_registry_that_is_away_stops_nothing_that_needs_no_new_id(server: FakeRegistry, directory: Path) -> None:
    codec = writer(directory)
    before = codecs(directory)(TOPIC, Amount).encode(Amount(6))
    server.close()
    assert codec.decode(codec.encode(Amount(7))) == Amount(7)
    assert codec.decode(before) == Amount(6)
    with pytest.raises(NotKnownYet, match="asked for schema id 9, does not answer"):  # so it is waited for
        codec.decode(record(9, OLDER, {"pence": 7}))


def test_what_the_registry_finds_incompatible_is_refused_at_the_start(server: FakeRegistry, directory: Path) -> None:
    server.faults = [(404, {"error_code": 40401}), (409, {"error_code": 409, "message": "note has no default"})]
    with pytest.raises(SchemaError, match=r"to register a.row-value, says: note has no default"):
        writer(directory)


def test_ids_that_a_registry_gives_too_are_refused(server: FakeRegistry, directory: Path) -> None:
    (directory / MANIFEST).write_text(json.dumps({"schemas": [{"id": 3, "topic": TOPIC, "schema": PRESENT}]}))
    with pytest.raises(SchemaError, match=r"manifest.json has ids of a.row that a schema registry gives .*: 3; remove"):
        writer(directory)
    assert server.requests == []


def test_subjects_are_called_as_the_topics_are_on_the_cluster(server: FakeRegistry, shop_topology: Topology) -> None:
    names = {"users.command": "shop.users.in"}
    make = served_codecs(shop_topology.schemas, names, registers=True)
    plan = ServicePlan(shop_topology.services["users"], make, names)
    topics = {name for name, kind in plan.own_topics() if kind in (TopicKind.COMMAND, TopicKind.EVENT, TopicKind.STATE)}
    assert "shop.users.in" in topics
    engines = {"pipeline.Reply", "pipeline.Queued", "pipeline.Deadline"}
    assert set(server.subjects) == {f"{name}-value" for name in topics} | engines


def test_what_is_on_no_topic_is_not_registered(server: FakeRegistry, shop_topology: Topology) -> None:
    ServicePlan(shop_topology.services["orders"], served_codecs(shop_topology.schemas, registers=True))
    assert "orders.event-value" in server.subjects
    assert not {subject for subject in server.subjects if "replica" in subject or "users" in subject}


def test_all_that_is_written_is_registered_and_published_by_both_ids(
    server: FakeRegistry, shop_topology: Topology
) -> None:
    make = served_codecs(shop_topology.schemas, registers=True)
    for service in shop_topology.services.values():
        ServicePlan(service, make, {}, SECRET)
    told = served_by(make.registry)
    assert {subject: [number] for _, number, subject in told} == server.subjects
    assert {topic for topic, _, _ in told} == {*Registry(shop_topology.schemas).topics(), *ENGINES} - {REPLICA}
    published = make.written()
    for topic, number, _ in told:
        manifests, schema = Registry(shop_topology.schemas).current(topic)
        assert {(number, topic), (manifests, topic)} <= {(each.id, each.topic) for each in published}
        assert Written(number, topic, schema) in published
    assert served_by(Registry(shop_topology.schemas)) == []


def test_who_has_no_registry_reads_by_what_was_published(
    server: FakeRegistry, directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make = served_codecs(directory, registers=True)
    data = make(TOPIC, Amount).encode(Amount(7))
    monkeypatch.delenv("PIPELINE_REGISTRY")
    other = served_codecs(directory)
    for each in make.written():
        other.registry.learn(*each)
    assert other(TOPIC, Amount).decode(data) == Amount(7)


def test_a_topology_runs_on_its_ids(server: FakeRegistry, shop_topology: Topology) -> None:
    """All codecs of the engine, replies in inboxes among them, find each other's records."""
    make = served_codecs(shop_topology.schemas, registers=True)
    with TestDriver(shop_topology, codecs=make) as driver:
        driver.send("users", "anna", users.RegisterUser("Anna", "France"))
        driver.send("inventory", "TEA", inventory.RegisterProduct("TEA"), inventory.ReceiveStock(1))
        lines = (orders.Line("TEA", 1, 100),)
        driver.send("orders", "o1", orders.PlaceOrder("anna", "France", "2009-12-06T23:59:59", lines))
        placed = driver.row("orders", "o1")
        assert placed is not None
        assert placed.body.status == "confirmed"  # by a checkout, which asks and is answered
        assert driver.parked() == []
    number, _ = Registry(shop_topology.schemas).current("users.event")
    with TestDriver(shop_topology) as driver:  # the ids are the manifest's again
        driver.send("users", "anna", users.RegisterUser("Anna", "France"))
        logs = driver._world.kafka.topics["users.event"].logs
        assert {event.value()[1:5] for log in logs for event in log.archive if event.key()} == {
            struct.pack(">I", number)
        }


def test_a_class_that_is_ahead_of_its_schema_is_told_where_records_are_judged(directory: Path) -> None:
    @dataclass(frozen=True)
    class Ahead(Amount):
        colour: str = "red"

    Ahead.__name__ = "Amount"
    with pytest.raises(
        SchemaError, match="record 'Amount' has no field colour, which its class has; bring the schemas"
    ):
        Decoder(Registry(directory), TOPIC, Ahead)
