"""Schemas that are made from message classes: their types, docs and defaults, and that the codec takes them."""

from __future__ import annotations

import dataclasses
import itertools
import json
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from enum import Enum
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple, NewType
from uuid import UUID, uuid4

import jsonschema_rs
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.adapters.avro.codec import Codec
from pipeline.adapters.avro.registry import Registry
from pipeline.adapters.avro.schemas.files import schema_files
from pipeline.adapters.avro.schemas.generation import Request, generate
from pipeline.adapters.json.reading import from_json
from pipeline.adapters.json.writing import json_text, to_json
from pipeline.errors import SchemaError
from pipeline.model import CommandMessage, EventMessage, StateMessage
from pipeline.model.fields import Precision, Renamed, renamed
from pipeline.topology import load
from tests.helpers.json_schemas import whole_schema
from tests.helpers.rich_types import Colour, Tone

Sku = NewType("Sku", str)


class Spot(NamedTuple):
    """Where something lies."""

    shelf: int
    height: float = 0.5  # metres


@dataclass(frozen=True, slots=True)
class Goods:
    """All that is
    on a shelf."""

    sku: Sku  # what it is called
    spot: Spot
    others: tuple[Spot, ...] = ()
    labels: dict[str, str | None] = field(default_factory=dict)
    note: Annotated[str | None, "as written"] = None
    kind: bytes | str = "plain"
    """of its label"""


def row(cls: Any, earlier: Any = None) -> Any:
    return generate(Request("goods.row", cls, namespace="stock"), earlier)


def test_each_type_docs_and_defaults() -> None:
    spot = {
        "type": "record",
        "name": "Spot",
        "doc": "Where something lies.",
        "fields": [
            {"name": "shelf", "type": "long"},
            {"name": "height", "type": "double", "default": 0.5, "doc": "metres"},
        ],
    }
    assert row(Goods) == {
        "type": "record",
        "name": "Goods",
        "namespace": "stock",
        "doc": "All that is on a shelf.",
        "fields": [
            {"name": "sku", "type": "string", "doc": "what it is called"},
            {"name": "spot", "type": spot},
            {"name": "others", "type": {"type": "array", "items": "Spot"}, "default": []},
            {"name": "labels", "type": {"type": "map", "values": ["null", "string"]}, "default": {}},
            {"name": "note", "type": ["null", "string"], "default": None},
            {"name": "kind", "type": ["string", "bytes"], "default": "plain", "doc": "of its label"},
        ],
    }


def test_the_engine_adds_the_envelopes() -> None:
    for root, name in ((CommandMessage, "Command"), (EventMessage, "Event"), (StateMessage, "State")):
        schema = generate(Request("goods.x", root, Goods | Spot, namespace="stock"))
        assert (schema["name"], schema["namespace"]) == (name, "stock")
        fields = {each["name"]: each["type"] for each in schema["fields"]}
        assert [each["name"] if isinstance(each, dict) else each for each in fields["body"]] == ["Goods", "Spot"]
        assert fields.keys() == set(root._fields) - {"read"}
    reading = generate(Request("goods.event", EventMessage, Goods, reads=True, namespace="stock"))
    assert [each["name"] for each in reading["fields"]] == list(EventMessage._fields)
    no_longer = generate(Request("goods.event", EventMessage, Goods, namespace="stock"), reading)
    assert no_longer == reading


def test_what_a_file_says_and_the_class_does_not_stays() -> None:
    earlier = row(Goods) | {"namespace": "old.stock", "doc": "An older text."}
    earlier["fields"][0]["doc"] = "an older text"
    earlier["fields"][2]["doc"] = "only here"
    made = row(Goods, earlier)
    assert made["namespace"] == "old.stock"
    assert made["doc"] == "All that is on a shelf."
    assert [each.get("doc") for each in made["fields"][:3]] == ["what it is called", None, "only here"]
    assert row(Goods, made) == made


@renamed("Stuff", "Things")
@dataclass(frozen=True, slots=True)
class Rich:
    price: Annotated[Decimal, Precision(9, 2)] | None = Decimal("1.50")
    at: datetime = datetime(1970, 1, 1, 0, 0, 1, tzinfo=UTC)
    colour: Colour = Colour.RED
    other: Colour = Colour.BLUE
    family: Annotated[str, Renamed("surname", "name")] = ""


def test_types_beyond_avros_own_and_names_of_before() -> None:
    colour = {"type": "enum", "name": "Colour", "symbols": ["RED", "BLUE"]}
    assert row(Rich) == {
        "type": "record",
        "name": "Rich",
        "namespace": "stock",
        "aliases": ["Stuff", "Things"],
        "fields": [
            {
                "name": "price",
                "type": [{"type": "bytes", "logicalType": "decimal", "precision": 9, "scale": 2}, "null"],
                "default": "\x00\x96",
            },
            {"name": "at", "type": {"type": "long", "logicalType": "timestamp-micros"}, "default": 1_000_000},
            {"name": "colour", "type": colour, "default": "RED"},
            {"name": "other", "type": "Colour", "default": "BLUE"},
            {"name": "family", "type": "string", "default": "", "aliases": ["surname", "name"]},
        ],
    }
    with pytest.raises(SchemaError, match="a Decimal needs its precision"):
        row(dataclasses.make_dataclass("Bare", [("price", Decimal)]))


@renamed("Hue")
class Shade(Enum):
    DARK = 1
    LIGHT = 2


def test_an_enum_has_its_names_of_before_and_keeps_the_default_of_its_file() -> None:
    lamp = dataclasses.make_dataclass("Lamp", [("shade", Shade)])
    made = row(lamp)
    (field,) = made["fields"]
    assert field["type"] == {"type": "enum", "name": "Shade", "aliases": ["Hue"], "symbols": ["DARK", "LIGHT"]}
    field["type"]["default"] = "DARK"
    assert row(lamp, made) == made
    field["type"]["default"] = "GLARING"  # a symbol that it no longer has
    assert "default" not in row(lamp, made)["fields"][0]["type"]


def test_a_default_that_is_another_each_time_is_refused() -> None:
    noted = dataclasses.make_dataclass("Noted", [("id", UUID, dataclasses.field(default_factory=uuid4))])
    with pytest.raises(SchemaError, match=r"goods.row.Noted.id: its default_factory makes another value each time"):
        row(noted)


@pytest.mark.parametrize(
    "cls",
    [
        dataclasses.make_dataclass("Straße", [("x", int)]),
        dataclasses.make_dataclass("Road", [("länge", int)]),
        dataclasses.make_dataclass("Way", [("kind", Enum("Kind", "STRASSE STRAßE"))]),
    ],
)
def test_names_that_avro_has_not_are_refused(cls: type) -> None:
    with pytest.raises(
        SchemaError, match=r"Avro's names have only the letters a to z and A to Z, digits and _, not '.*ß|ä"
    ):
        row(cls)


def test_a_class_named_as_the_envelope_is_refused_as_that() -> None:
    state = dataclasses.make_dataclass("State", [("x", int)])
    with pytest.raises(SchemaError, match="State is the name of the record around all messages of this topic; rename"):
        generate(Request("goods.state", StateMessage, state, namespace="stock"))


def test_what_has_no_avro_type_is_named() -> None:
    @dataclass
    class Inner:
        when: complex

    @dataclass
    class Outer:
        inner: tuple[Inner, ...]

    Outer.__annotations__["inner"] = tuple[Inner, ...]
    Inner.__annotations__["when"] = complex
    with pytest.raises(SchemaError, match=r"no Avro type for goods.row.Outer.inner\[\].Inner.when: <class 'complex'>"):
        row(Outer)


def test_two_classes_of_one_name_are_refused() -> None:
    twin = dataclasses.make_dataclass("Spot", [("x", int)])
    with pytest.raises(SchemaError, match="have one name; rename one of them"):
        row(dataclasses.make_dataclass("Both", [("a", Spot), ("b", twin)]))


def test_the_shops_schemas_are_as_its_classes_have_them() -> None:
    shop = load("topologies")
    for each in schema_files(shop.services.values(), shop.schemas):
        assert not each.differs, each.difference()


# --- any classes ------------------------------------------------------------------------------------------------------

LEAVES: dict[Any, st.SearchStrategy[Any]] = {
    bool: st.booleans(),
    int: st.integers(-(2**63), 2**63 - 1),
    float: st.floats(allow_nan=False, allow_infinity=False),
    str: st.text(st.characters(codec="utf-8"), max_size=10),
    bytes: st.binary(max_size=10),
    Sku: st.text(st.characters(codec="utf-8"), max_size=10),
    Annotated[Decimal, Precision(9, 3)]: st.decimals(-999_999, 999_999, places=3),
    datetime: st.datetimes(timezones=st.just(UTC)),
    date: st.dates(),
    time: st.times(),
    timedelta: st.timedeltas(timedelta(-1_000_000), timedelta(1_000_000)),
    UUID: st.uuids(),
    Colour: st.sampled_from(Colour),
    Tone: st.sampled_from(Tone),
    Literal["a", "b c"]: st.sampled_from(["a", "b c"]),
}
numbers = itertools.count()


def typed(children: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    """Pairs of a type, and a strategy of its values."""
    arrays = children.map(lambda each: (tuple[each[0], ...], st.lists(each[1], max_size=3).map(tuple)))
    lists = children.map(lambda each: (list[each[0]], st.lists(each[1], max_size=3)))  # type: ignore[name-defined]
    maps = children.map(lambda each: (dict[str, each[0]], st.dictionaries(LEAVES[str], each[1], max_size=3)))  # type: ignore[name-defined]
    optional = children.filter(lambda each: not is_optional(each[0])).map(
        lambda each: (each[0] | None, st.none() | each[1])
    )
    return arrays | lists | maps | optional | st.lists(children, min_size=1, max_size=4).map(record)


def is_optional(annotation: Any) -> bool:
    return type(None) in getattr(annotation, "__args__", ())


def record(fields: list[Any]) -> Any:
    cls = dataclasses.make_dataclass(
        f"Made{next(numbers)}", [(f"f{n}", each[0]) for n, each in enumerate(fields)], frozen=True, slots=True
    )
    return cls, st.builds(cls, *(each[1] for each in fields))


ANY = st.recursive(st.sampled_from(list(LEAVES.items())), typed, max_leaves=8)


@settings(max_examples=150, deadline=None)
@given(st.lists(ANY, min_size=1, max_size=4).map(record), st.booleans(), st.data())
def test_the_codec_takes_what_is_made_of_any_classes(
    tmp_path_factory: pytest.TempPathFactory, made: Any, native: bool, data: st.DataObject
) -> None:
    cls, values = made
    directory = tmp_path_factory.mktemp("schemas")
    (directory / "any.row.avsc").write_text(json.dumps(row(cls)))
    Registry(directory).register()
    codec = Codec(Registry(directory), "any.row", cls, native=native)
    value = data.draw(values)
    assert codec.decode(codec.encode(value)) == value
    told = json.loads(json_text(to_json(value)))
    assert from_json(cls, told, "value") == value
    jsonschema_rs.validator_for(whole_schema(cls), validate_formats=True).validate(told)


# --- files ------------------------------------------------------------------------------------------------------------


def test_an_own_service_from_nothing(tmp_path: Path) -> None:
    (tmp_path / "own_accounts.py").write_text(OWN)
    topology = load(str(tmp_path / "own_accounts.py"))
    files = schema_files(topology.services.values(), tmp_path / "schemas")
    assert [each.path.name for each in files] == [f"accounts.{kind}.avsc" for kind in ("command", "event", "state")] + [
        "balances.row.avsc"
    ]
    assert all(each.differs for each in files)


OWN = """
from dataclasses import dataclass
from pipeline import Aggregate, Projection, Service, Source

@dataclass(frozen=True, slots=True)
class Deposit:
    amount: int  # cents

@dataclass(frozen=True, slots=True)
class Deposited:
    amount: int

@dataclass(frozen=True, slots=True)
class Account:
    balance: int = 0

def decide(state, command):
    return [Deposited(command.amount)]

def evolve(state, event):
    return Account(state.balance + event.amount)

accounts = Aggregate("accounts", Deposit, Deposited, Account(), decide, evolve)
balances = Projection("balances", (Source("accounts.event", Deposited),), Account(), evolve)
service = Service("accounts", (accounts,), projections=(balances,))
"""
