"""A real schema registry beside a real Kafka: any program with its client reads what services write, and sends, too."""

from __future__ import annotations

import json
import subprocess
import sys
import uuid
from collections.abc import Iterator
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import Producer
from confluent_kafka.schema_registry import Schema, SchemaRegistryClient
from confluent_kafka.schema_registry.avro import AvroDeserializer, AvroSerializer
from confluent_kafka.serialization import MessageField, SerializationContext

from pipeline.adapters.avro.registry import Registry
from pipeline.adapters.avro.schemas.files import schema_files
from pipeline.adapters.schema_registry import SchemaRegistry
from pipeline.client import Accepted, Client
from pipeline.errors import SchemaError
from pipeline.model import TopicKind
from pipeline.model.records.control import is_barrier
from pipeline.topology import load
from pipeline.verify import verify
from tests.helpers.apicurio import Running, registry
from tests.helpers.support import Shop, until
from tests.typed import accounts as a

WAIT_S = 60.0
JSON = {TopicKind.PARKED, TopicKind.POSITIONS, TopicKind.VERSIONS}  # need no schema
COMMAND = a.Open(
    uuid.UUID(int=7),
    a.Iban("DE02"),
    Decimal("-12.50"),
    datetime(2026, 2, 28, 23, 59, 59, 999999, UTC),
    date(1960, 2, 29),
    time(12, 30),
    timedelta(days=1, microseconds=1),
    a.Tier.GOLD,
    a.Currency.EURO,
    "blue",
    vip=True,
    children=2**62,
    rating=0.5,
    portrait=b"\0\xff",
    names=["Ada"],
    limits=(a.Limit(Decimal("1.00")),),
    rates={"x": Decimal("0.01")},
    note=7,
)
# What a program that knows nothing of this one declares.
FOREIGN = {
    "type": "record",
    "name": "Command",
    "namespace": "accounts",
    "fields": [
        {"name": "id", "type": "string"},
        {"name": "correlation_id", "type": "string"},
        {"name": "causation_id", "type": ["null", "string"]},
        {"name": "issued_ms", "type": "long"},
        {"name": "body", "type": {"type": "record", "name": "Close", "fields": [{"name": "why", "type": "string"}]}},
    ],
}


@pytest.fixture(scope="module")
def apicurio() -> Iterator[Running]:
    with registry() as running:
        yield running


@pytest.fixture
def shop(kafka: str, tmp_path: Path) -> Iterator[Shop]:
    topology = load("tests.typed", tmp_path)
    for each in schema_files(topology.services.values(), tmp_path):
        each.path.write_text(each.text)
    Registry(tmp_path).register()
    shop = Shop(kafka, tmp_path, topology)
    yield shop
    shop.close()


def test_what_a_real_registry_says(apicurio: Running) -> None:
    schema = {"type": "record", "name": "A", "fields": [{"name": "x", "type": "long"}]}
    broken = {"type": "record", "name": "A", "fields": [{"name": "y", "type": "long"}]}
    ours = SchemaRegistry(apicurio.url, {})
    assert ours.find("a-value", schema) is None
    number = ours.register("a-value", schema)
    assert ours.register("b-value", schema) == number
    assert SchemaRegistry(apicurio.url, {}).find("a-value", schema) == number
    assert SchemaRegistry(apicurio.url, {}).schema(number) == schema
    assert ours.schema(number + 1000) is None
    theirs = SchemaRegistryClient({"url": apicurio.url, "timeout": 5})
    theirs.set_compatibility("a-value", "BACKWARD")
    with pytest.raises(SchemaError, match=r"asked to register a-value, says: .*ncompatible"):
        ours.register("a-value", broken)
    proto = theirs.register_schema("p-value", Schema('syntax = "proto3"; message M {}', "PROTOBUF"))
    with pytest.raises(SchemaError, match="is PROTOBUF"):
        ours.schema(proto)


def test_any_program_reads_what_services_write_and_sends_to_them(
    apicurio: Running, shop: Shop, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PIPELINE_REGISTRY", apicurio.url)
    theirs = SchemaRegistryClient({"url": apicurio.url, "timeout": 5})
    worker = shop.worker("--schemas", str(tmp_path))
    until("it serves", worker.addresses)
    assert {"accounts.event-value", "holders.row-value", "pipeline.Reply"} <= set(theirs.get_subjects())

    # When a client of ours and a program of another's send the same command …
    with Client(shop.bootstrap, shop.topology) as client:
        sent = client.send("accounts", "ours", COMMAND, wait=WAIT_S)
        assert isinstance(sent, Accepted)
        assert sent.events == (a.Opened(*a.values(COMMAND)),)
    mine = _without(json.loads(_latest(theirs)), "doc", {"last_seen", "due_ms"})
    _produce(shop.bootstrap, theirs, mine, _as_theirs(COMMAND))
    shop.settle()

    # … then both are decided, and that program can read all topics.
    events = {record.key(): _read(theirs, record) for record in shop.records("accounts.event")}
    assert events.keys() == {b"ours", b"theirs"}
    for event in events.values():
        assert event["body"]["balance"] == Decimal("-12.50")
        assert event["body"]["opened_at"] == COMMAND.opened_at
        assert (event["body"]["id"], event["body"]["tier"]) == (COMMAND.id, "GOLD")
    topics = [topic for plan in shop.plans for topic, kind in plan.own_topics() if kind not in JSON]
    read = {
        topic: [_read(theirs, record) for record in shop.records(topic) if not _is_ours(record)] for topic in topics
    }
    for topic in ("accounts.command", "accounts.state", "accounts.replies", "holders.row", "ledgers.row"):
        assert len(read[topic]) == 2, topic

    # A record of a schema that does not fit is parked, with what is wrong, and nothing else is amiss.
    _produce(shop.bootstrap, theirs, FOREIGN, {"why": "no such command"})
    (parked,) = until("it is parked", lambda: shop.records("accounts.parked"))
    assert b"cannot be read as accounts.command" in dict(parked.headers())["parked-cause"]
    (waiting,) = (_read(theirs, record) for record in shop.records("accounts.accounts.command.queue"))
    assert "cannot be read as accounts.command" in waiting["cause"]
    report = verify(shop.bootstrap, shop.topology)
    assert {finding.kind for finding in report.findings} <= {"parked"}

    # When the registry is gone, what is known goes on, and what has to ask says so.
    client = Client(shop.bootstrap, shop.topology)
    apicurio.stop()
    with client:
        assert isinstance(client.send("accounts", "later", COMMAND, wait=WAIT_S), Accepted)
    command = [sys.executable, "-m", "pipeline", "worker", shop.topology.name, "--schemas", str(tmp_path)]
    refused = subprocess.run(
        [*command, "--bootstrap", shop.bootstrap, "--home", str(tmp_path / "other")], capture_output=True, text=True
    )
    assert refused.returncode == 2
    (line,) = [line for line in refused.stderr.splitlines() if line.startswith("error: ")]
    assert f"the schema registry {apicurio.url}, asked to find " in line
    assert "does not answer: [Errno 111] Connection refused; start it, or correct --registry" in line


def _is_ours(record: Any) -> bool:
    """Whether it is a mark of the engine's, or the deletion of a key: neither has a schema."""
    return record.value() is None or is_barrier(record.value(), record.headers())


def _latest(client: SchemaRegistryClient) -> str:
    text = client.get_latest_version("accounts.command-value").schema.schema_str
    assert text is not None
    return text


def _without(schema: Any, attribute: str, fields: set[str]) -> Any:
    """A schema as somebody else would write it, with less in it."""
    if isinstance(schema, list):
        return [_without(part, attribute, fields) for part in schema if _name(part) not in fields]
    if isinstance(schema, dict):
        return {name: _without(part, attribute, fields) for name, part in schema.items() if name != attribute}
    return schema


def _name(part: Any) -> Any:
    return part.get("name") if isinstance(part, dict) else None


def _read(client: SchemaRegistryClient, record: Any) -> Any:
    """What a consumer with Confluent's deserializer gets."""
    return AvroDeserializer(client)(record.value(), SerializationContext(record.topic(), MessageField.VALUE))


def _produce(bootstrap: str, client: SchemaRegistryClient, schema: Any, body: Any) -> None:
    """Send as a producer with Confluent's serializer and a schema of its own."""
    issued_ms = int(datetime.now(UTC).timestamp() * 1000)
    value = {"id": "c-1", "correlation_id": "c-1", "causation_id": None, "issued_ms": issued_ms, "body": body}
    serializer = AvroSerializer(client, json.dumps(schema))
    producer = Producer({"bootstrap.servers": bootstrap, "partitioner": "murmur2_random"})
    context = SerializationContext("accounts.command", MessageField.VALUE)
    producer.produce("accounts.command", serializer(value, context), "theirs")
    assert producer.flush(WAIT_S) == 0


def _as_theirs(command: a.Open) -> dict[str, Any]:
    """A command as a program writes it that has fastavro's types only."""
    converted = {"notice": 86_400_000_001, "tier": "GOLD", "currency": "EURO"}
    limits = [{"amount": limit.amount, "within": 86_400_000_000} for limit in command.limits]
    fields = {name: getattr(command, name) for name in command.__dataclass_fields__}
    return fields | converted | {"limits": limits}
