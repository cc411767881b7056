"""The published schemas, the manifest and the message classes agree, and fastavro agrees with the compiled codec."""

import json
import subprocess
from io import BytesIO
from pathlib import Path
from typing import Any

import fastavro
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.adapters.avro.codec import Codec, codecs
from pipeline.adapters.avro.registry import Registry
from pipeline.adapters.avro.wire.identity import schema_id
from pipeline.engine.plan import ServicePlan
from pipeline.errors import EncodeError, SchemaError
from pipeline.model import CommandMessage, EventMessage, StateMessage, TopicKind, reservation
from pipeline.topology import Topology
from tests.unit.adapters.test_codec import IMPLEMENTATIONS
from topologies import checkout_2pc, checkout_saga, inventory, orders, payments, reports, users

SCHEMAS = Path(__file__).parents[3] / "schemas"
REGISTRY = Registry(SCHEMAS)
SAGAS = (checkout_saga.checkout_saga, checkout_2pc.checkout_2pc)
OWN = {
    **{f"{m.service.name}.command": (CommandMessage, m.Command) for m in (users, inventory, orders, payments)},
    **{f"{m.service.name}.event": (EventMessage, m.Event) for m in (users, inventory, orders, payments)},
    **{f"{s.name}.command": (CommandMessage, s.aggregate.command) for s in SAGAS},
    **{f"{s.name}.event": (EventMessage, s.aggregate.event) for s in SAGAS},
    **{f"{s.name}.state": (StateMessage, type(s.initial)) for s in SAGAS},
    "users.state": (StateMessage, users.User),
    "orders.event": (EventMessage, orders.Event | orders.OrderPlacedV1),  # with what is kept for old records
    "user_emails.command": (CommandMessage, reservation.ReservationCommand),
    "user_emails.event": (EventMessage, reservation.ReservationEvent),
    "user_emails.state": (StateMessage, reservation.Reservation),
    "inventory.state": (StateMessage, inventory.Stock),
    "orders.state": (StateMessage, orders.Document),
    "payments.state": (StateMessage, payments.Account),
    "revenue.by_key": (reports.Amount, None),
    "revenue.row": (reports.Revenue, None),
    "refunds.by_key": (reports.Amount, None),
    "refunds.row": (reports.Refunds, None),
    "units_sold.by_key": (reports.Units, None),
    "units_sold.row": (reports.UnitsSold, None),
    "largest_orders.by_key": (reports.LargeOrder, None),
    "largest_orders.row": (reports.LargestOrders, None),
    "products.row": (reports.Product, None),
    "customers.by_key": (reports.CustomerMessage, None),
    "customers.row": (reports.Customer, None),
    "customer_countries.replica": (orders.CustomerCountry, None),
}

K = TopicKind
ENGINES = (K.PARKED, K.POSITIONS, K.REPLIES, K.DEADLINES, K.QUEUE)  # no author writes their schemas


def test_every_schema_is_registered_as_it_stands() -> None:
    for topic in REGISTRY.topics():
        REGISTRY.current(topic)


def test_every_schema_has_its_classes() -> None:
    assert REGISTRY.topics() == sorted(OWN)
    for topic, (root, body) in OWN.items():
        Codec(REGISTRY, topic, root, body)


def test_the_wired_services_use_every_schema(shop_topology: Topology) -> None:
    used = set()
    for service in shop_topology.services.values():
        plan = ServicePlan(service, codecs(SCHEMAS))
        used |= {topic for topic, kind in plan.own_topics() if kind not in ENGINES}
        used |= {f"{replica.name}.replica" for replica in service.replicas}
    assert used == set(OWN)


def plain(value: Any, *, tagged: bool) -> Any:
    """A message as fastavro wants it: dicts, with the record's name where it stands in a union."""
    if isinstance(value, tuple) and not hasattr(value, "_fields"):
        return [plain(item, tagged=False) for item in value]
    names = getattr(value, "_fields", None) or getattr(type(value), "__dataclass_fields__", None)
    if names is None:
        return value
    record = {name: plain(getattr(value, name), tagged=name == "body") for name in names}
    return (type(value).__name__, record) if tagged else record


longs = st.integers(-(2**63), 2**63 - 1)
texts = st.text(st.characters(codec="utf-8"), max_size=20)


def message(topic: str) -> st.SearchStrategy[Any]:
    root, body = OWN[topic]
    st.register_type_strategy(int, longs)
    st.register_type_strategy(str, texts)
    if body is None:
        return st.from_type(root)
    read = {"read": st.none() | texts if topic == "orders.event" else st.none()} if root is EventMessage else {}
    first: dict[type, Any] = {
        CommandMessage: (texts, texts, st.none() | texts, longs),
        EventMessage: (longs, texts, texts, longs),
    }
    return st.builds(root, *first.get(root, (longs, longs)), st.from_type(body), **read)


@pytest.mark.parametrize("native", IMPLEMENTATIONS)
@pytest.mark.parametrize("topic", sorted(OWN))
def test_bytes_and_values_are_fastavros(topic: str, native: bool) -> None:
    root, body = OWN[topic]
    codec = Codec(REGISTRY, topic, root, body, native=native)
    number, schema = REGISTRY.current(topic)
    parsed = fastavro.parse_schema(schema)
    record_bodied = topic.endswith(".state")

    @settings(max_examples=60, deadline=None)
    @given(message(topic))
    def check(value: Any) -> None:
        as_dict = plain(value, tagged=isinstance(schema, list))
        if record_bodied:
            as_dict["body"] = as_dict["body"][1]
        elif body is not None:
            name, record = as_dict["body"]
            as_dict["body"] = (f"{schema['namespace']}.{name}", record)
        elif isinstance(schema, list):
            as_dict = (f"shop.reports.{as_dict[0]}", as_dict[1])
        out = BytesIO()
        fastavro.schemaless_writer(out, parsed, as_dict)
        data = codec.encode(value)
        assert data == b"\0" + number.to_bytes(4, "big") + out.getvalue()
        assert codec.decode(data) == value

    check()


@pytest.mark.parametrize("native", IMPLEMENTATIONS)
def test_a_changed_schema_must_be_registered_and_old_records_stay_readable(tmp_path: Path, native: bool) -> None:
    schema: dict[str, Any] = {"type": "record", "name": "Amount", "fields": [{"name": "thousandths", "type": "long"}]}
    path = tmp_path / "a.row.avsc"
    path.write_text(json.dumps(schema))
    assert Registry(tmp_path).register() == ["a.row"]
    assert Registry(tmp_path).register() == []
    old = Codec(Registry(tmp_path), "a.row", reports.Amount).encode(reports.Amount(7))

    schema["fields"].append({"name": "orders", "type": "long", "default": 1})
    schema["name"] = "Revenue"
    schema["aliases"] = ["Amount"]
    path.write_text(json.dumps(schema))
    with pytest.raises(SchemaError, match="pipeline schemas register"):
        Registry(tmp_path).current("a.row")
    assert Registry(tmp_path).register() == ["a.row"]
    new = Codec(Registry(tmp_path), "a.row", reports.Revenue, native=native)
    assert new.id == schema_id(schema)
    assert new.decode(old) == reports.Revenue(7, 1)


def test_events_say_what_was_read_only_where_copies_are_read() -> None:
    read = EventMessage(1, "c", "c", 0, orders.OrderRefused("t", "r"), "users.event/0@1")
    codec = Codec(REGISTRY, "orders.event", EventMessage, orders.Event | orders.OrderPlacedV1, strict="read")
    assert codec.decode(codec.encode(read)) == read
    with pytest.raises(SchemaError, match=r"record 'Event' has no field read"):
        Codec(REGISTRY, "payments.event", EventMessage, payments.Event, strict="read")
    for native in IMPLEMENTATIONS:
        plain = Codec(REGISTRY, "payments.event", EventMessage, payments.Event, native=native)
        charged = EventMessage(1, "c", "c", 0, payments.Refunded("o", 5))
        assert plain.decode(plain.encode(charged)) == charged
        with pytest.raises(EncodeError, match="expected None"):
            plain.encode(charged._replace(read="users.event/0@1"))


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("{", "not a manifest"),
        (
            '{"schemas": [{"id": 1, "topic": "a", "schema": "int"}, {"id": 1, "topic": "b", "schema": "long"}]}',
            "id 1 to two schemas, one of b",
        ),
    ],
)
def test_a_broken_manifest_is_named(tmp_path: Path, content: str, says: str) -> None:
    (tmp_path / "manifest.json").write_text(content)
    with pytest.raises(SchemaError, match=says):
        Registry(tmp_path)


def test_versions_of_different_topics_that_two_branches_register_merge(tmp_path: Path) -> None:
    def registered(name: str, **changed: int) -> Path:
        folder = tmp_path / name
        folder.mkdir()
        if (base := tmp_path / "base" / "manifest.json").exists():
            (folder / "manifest.json").write_text(base.read_text())
        for topic in ("a.row", "b.row", "c.row"):
            fields = [{"name": f"field{n}", "type": "int", "default": 0} for n in range(changed.get(topic[0], 1))]
            record = {"type": "record", "name": topic[0].upper(), "fields": fields}
            (folder / f"{topic}.avsc").write_text(json.dumps(record))
        Registry(folder).register()
        return folder / "manifest.json"

    base, one, two = registered("base"), registered("one", b=2), registered("two", c=2)
    merged = subprocess.run(["git", "merge-file", "-p", one, base, two], capture_output=True, check=True, text=True)
    one.write_text(merged.stdout)
    assert [len(Registry(one.parent).versions([topic])) for topic in ("a.row", "b.row", "c.row")] == [1, 2, 2]
