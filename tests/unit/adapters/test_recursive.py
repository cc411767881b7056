"""Records that contain themselves: schemas, both codecs, older versions, JSON, and an end to every depth."""

from __future__ import annotations

import dataclasses
import functools
import json
import operator
import re
from dataclasses import dataclass
from decimal import Decimal
from io import BytesIO
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import fastavro
import jsonschema_rs
import pytest
import sqlalchemy as sa
from hypothesis import given
from hypothesis import strategies as st

from pipeline import Aggregate, Service
from pipeline.adapters.avro.binding import named_types, recursive_records
from pipeline.adapters.avro.codec import Codec
from pipeline.adapters.avro.registry import Registry
from pipeline.adapters.avro.schemas.codegen import python_source
from pipeline.adapters.avro.schemas.generation import Request, generate
from pipeline.adapters.avro.source_code import DEPTH_MAX
from pipeline.adapters.avro.wire.resolution import Resolution
from pipeline.adapters.json.reading import from_json
from pipeline.adapters.json.writing import to_json
from pipeline.adapters.sql.columns import Shape
from pipeline.engine.state.table import TableSpec
from pipeline.errors import EncodeError, InvalidCommand, SchemaError, UndecodableRecord
from pipeline.model.fields import Precision
from pipeline.server.openapi import document
from pipeline.topology import Topology
from pipeline.verify.sources.decode import Decoder
from pipeline.verify.sources.stored import rounding
from tests.helpers.json_schemas import whole_schema


@dataclass(frozen=True, slots=True)
class Node:
    """A tree."""

    name: str
    price: Annotated[Decimal, Precision(9, 2)]
    children: tuple[Node, ...] = ()
    by_name: dict[str, Node | None] | None = None


class Link(NamedTuple):
    """Of a chain, by way of another class."""

    number: int
    knot: Knot | None = None


@dataclass(frozen=True, slots=True)
class Knot:
    link: Link | Knot | str


CHAIN = Link | Knot
TEXT = st.text(max_size=4)
PRICES = st.decimals(-1000, 1000, places=2)
NODES = st.recursive(
    st.builds(Node, TEXT, PRICES),
    lambda inner: st.builds(
        *(Node, TEXT, PRICES, st.lists(inner, max_size=3).map(tuple)),
        st.none() | st.dictionaries(TEXT, st.none() | inner, max_size=2),
    ),
    max_leaves=12,
)
LONGS = st.integers(-(2**63), 2**63 - 1)
CHAINS = st.recursive(
    LONGS.map(Link) | TEXT.map(Knot),
    lambda inner: inner.map(Knot) | st.tuples(LONGS, inner.map(Knot)).map(lambda parts: Link(*parts)),
    max_leaves=8,
)


def registered(directory: Path, root: Any, schema: Any = None) -> Registry:
    written = schema or generate(Request("trees.row", root, namespace="wood"))
    (directory / "trees.row.avsc").write_text(json.dumps(written))
    registry = Registry(directory)
    registry.register()
    return registry


@pytest.fixture(scope="module")
def trees(tmp_path_factory: pytest.TempPathFactory) -> Registry:
    return registered(tmp_path_factory.mktemp("trees"), Node)


@pytest.fixture(scope="module")
def chains(tmp_path_factory: pytest.TempPathFactory) -> Registry:
    return registered(tmp_path_factory.mktemp("chains"), CHAIN)


def deep(depth: int) -> Node:
    node = Node("leaf", Decimal(0))
    for _ in range(depth - 1):
        node = Node("", Decimal(0), (node,))
    return node


def test_a_schema_names_a_record_inside_itself() -> None:
    schema = generate(Request("trees.row", Node, namespace="wood"))
    children, by_name = (field["type"] for field in schema["fields"][2:])
    assert children == {"type": "array", "items": "Node"}
    assert by_name == ["null", {"type": "map", "values": ["null", "Node"]}]
    fastavro.parse_schema(schema)


@given(NODES)
def test_a_tree_is_written_and_read_back_as_fastavro_does(trees: Registry, tree: Node) -> None:
    codec = Codec(trees, "trees.row", Node)
    data = codec.encode(tree)
    assert codec.decode(data) == tree
    assert Decoder(trees, "trees.row", Node).value(data) == tree
    assert codec.fit is not None
    assert codec.fit(tree) == tree
    assert from_json(Node, json.loads(json.dumps(to_json(tree))), "tree") == tree
    parsed = fastavro.parse_schema(json.loads((trees.directory / "trees.row.avsc").read_text()))
    body = BytesIO(data[5:])
    read: Any = fastavro.schemaless_reader(body, parsed, None)
    assert not body.read()
    assert read["name"] == tree.name
    assert [child["price"] for child in read["children"]] == [child.price for child in tree.children]


@given(CHAINS)
def test_records_that_contain_each_other_and_named_tuples(chains: Registry, chain: Link | Knot) -> None:
    codec = Codec(chains, "trees.row", CHAIN)
    data = codec.encode(chain)
    read = codec.decode(data)
    assert read == chain
    assert type(read) is type(chain)
    assert Decoder(chains, "trees.row", CHAIN).value(data) == chain
    assert from_json(CHAIN, json.loads(json.dumps(to_json(chain, tagged=True))), "chain") == chain


def test_there_is_an_end_to_every_depth(trees: Registry) -> None:
    codec = Codec(trees, "trees.row", Node)
    at_most = deep(DEPTH_MAX)
    data = codec.encode(at_most)
    assert codec.decode(data) == at_most
    assert from_json(Node, to_json(at_most), "tree") == at_most
    for depth in (DEPTH_MAX + 1, 100_000):
        with pytest.raises(EncodeError, match="Node cannot be written: nested more than 64 deep"):
            codec.encode(deep(depth))
    empty = b"\0\2\0"  # name, price
    for depth in (DEPTH_MAX + 1, 100_000):
        nested = data[:5] + (empty + b"\2") * (depth - 1) + empty + b"\0\0" + b"\0\0" * (depth - 1)
        for decode in (codec.decode, Decoder(trees, "trees.row", Node).value):
            with pytest.raises(UndecodableRecord, match="nested"):
                decode(nested)


def test_json_that_is_nested_too_deep_is_refused() -> None:
    value: Any = {"name": "", "price": "0"}
    for _ in range(100_000):
        value = {"name": "", "price": "0", "children": [value]}
    with pytest.raises(InvalidCommand, match="nested too deep"):
        from_json(Node, value, "tree")
    while value.get("children"):  # Python frees it by recursion
        value = value["children"].pop()


def test_older_records_are_read(tmp_path: Path) -> None:
    old = generate(Request("trees.row", Node, namespace="wood"))
    new = json.loads(json.dumps(old))
    new["fields"].insert(0, {"name": "size", "type": "long", "default": 7})
    new["fields"][1] = {"name": "label", "type": "string", "aliases": ["name"]}
    tree = Node("root", Decimal("1.50"), (Node("a", Decimal(2), (Node("b", Decimal(3)),)), Node("c", Decimal(4))))
    data = Codec(registered(tmp_path, Node, old), "trees.row", Node).encode(tree)

    @dataclass(frozen=True)
    class Node2:
        size: int
        label: str
        price: Annotated[Decimal, Precision(9, 2)]
        children: tuple[Node2, ...] = ()
        by_name: dict[str, Node2 | None] | None = None

    Node2.__name__ = "Node"
    Node2.__annotations__ |= {"children": tuple[Node2, ...], "by_name": dict[str, Node2 | None] | None}
    read = Codec(registered(tmp_path, Node2, new), "trees.row", Node2).decode(data)
    assert (read.size, read.label) == (7, "root")
    assert [(child.size, child.label, child.price) for child in read.children] == [
        (7, "a", Decimal(2)),
        (7, "c", Decimal(4)),
    ]
    assert read.children[0].children[0].label == "b"
    assert Resolution(old, new).findings == []
    assert [str(found.place) for found in Resolution(new | {"fields": new["fields"][1:]}, new).findings] == []
    without_default = json.loads(json.dumps(new))
    del without_default["fields"][0]["default"]
    assert [str(found.place) for found in Resolution(old, without_default).findings] == ["Node.size"]


def test_older_records_that_are_nested_without_end_are_refused(tmp_path: Path) -> None:
    old = generate(Request("trees.row", Node, namespace="wood"))
    new = old | {"fields": [*old["fields"], {"name": "size", "type": "long", "default": 7}]}
    resolution = Resolution(old, new)
    nested = (b"\0\2\0" + b"\2") * 100_000 + b"\0\2\0" + b"\0\0" + b"\0\0" * 100_000
    with pytest.raises(ValueError, match="nested too deep"):
        resolution.rewrite(nested, 0)


def test_a_follower_may_leave_the_recursion_out(trees: Registry) -> None:
    data = Codec(trees, "trees.row", Node).encode(deep(30))
    follower = dataclass(frozen=True)(type("Node", (), {"__annotations__": {"name": str}}))
    codec = Codec(trees, "trees.row", follower, strict=False)
    assert codec.decode(data) == follower("")
    with pytest.raises(UndecodableRecord, match="nested"):
        codec.decode(data[:5] + (b"\0\2\0" + b"\2") * 100_000)


def test_a_class_made_in_a_function_may_name_itself_and_no_other(tmp_path: Path) -> None:
    @dataclass(frozen=True)
    class Leaf:
        leaves: tuple[Leaf, ...]

    @dataclass(frozen=True)
    class Twig:
        leaf: Leaf

    assert generate(Request("trees.row", Leaf))["fields"][0]["type"] == {"type": "array", "items": "Leaf"}
    with pytest.raises(SchemaError, match=r"Twig cannot be read: name 'Leaf' is not defined; define at the top"):
        generate(Request("trees.row", Twig))


def test_the_schema_of_its_json_refers_to_itself() -> None:
    tree = Node("root", Decimal("1.50"), (Node("leaf", Decimal(2)),), {"a": Node("b", Decimal(3)), "c": None})
    for value, hint, tagged in ((tree, Node, False), (tree, Node, True), (Knot(Knot(Link(1))), CHAIN, True)):
        checked = jsonschema_rs.validator_for(whole_schema(hint, tagged=tagged))
        written = to_json(value, tagged=tagged)
        assert checked.is_valid(written)
        assert not checked.is_valid(
            json.loads(json.dumps(written).replace('"leaf"', "5").replace('"number": 1', '"n": 1'))
        )
    assert whole_schema(Node)["$ref"] == "#/components/schemas/Node"


def test_the_openapi_document_has_such_a_schema_once(tmp_path: Path) -> None:
    def told(name: str, cls: Any) -> Service:
        made = Aggregate(name, cls, cls, cls("", Decimal(0)), lambda command, state: [], lambda state, event: state)
        return Service(name, aggregates=[made])

    @dataclass(frozen=True)
    class Other:
        name: str
        price: Annotated[Decimal, Precision(9, 2)]
        inner: tuple[Other, ...] = ()

    Other.__name__ = "Node"
    Other.__annotations__["inner"] = tuple[Other, ...]
    services = {name: told(name, cls) for name, cls in (("trees", Node), ("shrubs", Other))}
    found = document(Topology("wood", services, tmp_path))
    schemas = found["components"]["schemas"]
    nodes = {name for name in schemas if "Node" in name}
    assert nodes == {"trees_Node", "trees_Node_plain", "shrubs_Node", "shrubs_Node_plain"}
    text = json.dumps(found)
    used = set(re.findall(r'"#/components/schemas/(\w+)"', text))
    assert used == schemas.keys()
    children = schemas["trees_Node"]["properties"]["children"]
    assert children["items"] == {"$ref": "#/components/schemas/trees_Node_plain"}


@given(NODES)
def test_such_rows_stand_in_columns(trees: Registry, tree: Node) -> None:
    codec = Codec(trees, "trees.row", Node)
    shape = Shape(TableSpec("trees", "trees.row", codec), trees, sa.MetaData())
    data = codec.encode(tree)
    columns = shape.columns(data)
    assert columns["price"] == tree.price
    columns |= {name: json.loads(json.dumps(columns[name])) for name in ("children", "by_name")}
    assert codec.decode(shape.data(columns)) == tree
    assert [child["price"] for child in columns["children"]] == [to_json(child.price) for child in tree.children]


def test_a_dozen_records_of_which_each_may_contain_all_take_no_longer(tmp_path: Path) -> None:
    made: dict[str, Any] = {"Plain": dataclasses.make_dataclass("Plain", [("number", int)], frozen=True)}
    names = [f"Term{n}" for n in range(12)]
    anything = " | ".join([*names, "Plain"])
    for name in names:
        fields = [(f"part{n}", f"tuple[{anything}, ...]", ()) for n in range(3)]
        made[name] = dataclasses.make_dataclass(name, fields, frozen=True)
        made[name].__module__ = __name__
    globals().update(made)
    hint: Any = functools.reduce(operator.or_, made.values())
    registry = registered(tmp_path, hint)
    first, plain = made["Term0"], made["Plain"](1)
    term = first((first((plain, made["Term11"]())), plain), (made["Term5"]((plain,)),))
    codec = Codec(registry, "trees.row", hint)
    data = codec.encode(term)
    assert codec.decode(data) == Decoder(registry, "trees.row", hint).value(data) == term
    schema = registry.read("trees.row")
    assert Resolution(schema, schema).rewrite(data, 5) == data[5:]
    assert recursive_records(schema, named_types(schema)) == set(names)
    assert rounding(schema, named_types(schema)) is None or rounding(schema, named_types(schema))(term) == term
    assert set(whole_schema(hint)["components"]["schemas"]) == {f"{name}_named" for name in made}
    assert all(f"class {name}:" in python_source({"trees.row": schema}) for name in made)
