"""Classes that are made from schemas: the schemas come out of them again, and both work together."""

import importlib.util
import json
import re
import sys
from collections.abc import Callable
from itertools import count
from pathlib import Path
from typing import Any

import hypothesis.strategies as st
import pytest
from click.testing import CliRunner
from hypothesis import given, settings

from pipeline.adapters.avro.binding import Binding
from pipeline.adapters.avro.registry import Registry
from pipeline.adapters.avro.schemas.codegen import python_source
from pipeline.adapters.avro.schemas.generation import Request, generate
from pipeline.cli import main
from pipeline.errors import SchemaError
from pipeline.model import EventMessage

ROOT = Path(__file__).parents[3]
SERIAL = count()
LONG = st.integers(-(2**63), 2**63 - 1)
TEXT = st.text(st.characters(codec="utf-8"), max_size=6)
MICROS = st.integers(-62_000_000_000_000_000, 250_000_000_000_000_000)
DOCS = st.none() | st.sampled_from(
    ["", "all of it", 'a "quoted" \\ one"', "# not a comment", "noqa: no", "z" * 130, "ä\x7f b"]
)


def logical(kind: str, name: str, **more: Any) -> dict[str, Any]:
    return {"type": kind, "logicalType": name, **more}


SIMPLE: list[tuple[Any, st.SearchStrategy[Any]]] = [  # types of Avro, each with its defaults
    ("null", st.none()),
    ("boolean", st.booleans()),
    ("long", LONG),
    ("double", st.floats(allow_nan=False, allow_infinity=False)),
    ("string", TEXT),
    ("bytes", st.binary(max_size=4).map(lambda data: data.decode("latin-1"))),
    (logical("bytes", "decimal", precision=4, scale=2), st.sampled_from(["\x00", "\x05", "\x01\x00", "\xff"])),
    (logical("long", "timestamp-micros"), MICROS),
    (logical("int", "date"), st.integers(-700_000, 2_900_000)),
    (logical("long", "time-micros"), st.integers(0, 86_400_000_000 - 1)),
    (logical("long", "duration-micros"), st.integers(-(10**15), 10**15)),
    (logical("string", "uuid"), st.uuids().map(str)),
    ({"type": "string", "texts": ["a", 'b "c"']}, st.sampled_from(["a", 'b "c"'])),
]


@st.composite
def types(draw: Any, fresh: Callable[[], str], depth: int = 2, *, nullable: bool = True) -> tuple[Any, Any]:
    """A type, and a strategy of its defaults; or None for one that has none here."""
    kinds = ["simple"] * 4 + (["array", "map", "record", "enum", "union"] if depth else ["enum"])
    match draw(st.sampled_from(kinds if nullable else kinds[:-1])):
        case "array":
            inner, _ = draw(types(fresh, depth - 1))
            return {"type": "array", "items": null_first(inner)}, st.just([])
        case "map":
            inner, _ = draw(types(fresh, depth - 1))
            return {"type": "map", "values": null_first(inner)}, st.just({})
        case "record":
            made = draw(records(fresh, depth - 1))
            return made, None
        case "enum":
            symbols = draw(st.lists(st.sampled_from("ABCDEF"), min_size=1, unique=True))
            return {"type": "enum", "name": fresh(), "symbols": symbols}, st.sampled_from(symbols)
        case "union":
            first = draw(st.sampled_from(SIMPLE))
            others = [each for each in SIMPLE if kind_of(each[0]) != kind_of(first[0])]
            more = draw(
                st.lists(st.sampled_from(others), min_size=1, max_size=3, unique_by=lambda each: kind_of(each[0]))
            )
            return [first[0], *(kind for kind, _ in more)], first[1]
    kind, values = draw(st.sampled_from(SIMPLE[0 if nullable else 1 :]))
    return kind, values


def null_first(schema: Any) -> Any:
    return sorted(schema, key=lambda branch: branch != "null") if isinstance(schema, list) else schema


def kind_of(schema: Any) -> str:
    return schema if isinstance(schema, str) else schema["type"]


@st.composite
def records(draw: Any, fresh: Callable[[], str], depth: int = 2) -> dict[str, Any]:
    name, fields = fresh(), []
    for n in range(draw(st.integers(0, 4))):
        kind, values = draw(types(fresh, depth))
        field: dict[str, Any] = {"name": f"f{n}", "type": kind}
        has_default = values is not None and draw(st.booleans())
        if isinstance(kind, list) and not has_default and "null" in kind[1:]:
            has_default = True  # a union without a default begins with null
        if has_default:
            field["default"] = draw(values)
        if doc := draw(DOCS):
            field["doc"] = doc
        if draw(st.booleans()) and n == 0:
            field["aliases"] = ["before", "long_before"]
        fields.append(field)
    if draw(st.booleans()):
        fields.append({"name": "inner", "type": {"type": "array", "items": name}})
    doc = draw(DOCS)
    made = {"type": "record", "name": name}
    made |= {"aliases": [f"Old{name}"]} if draw(st.booleans()) else {}
    return made | ({"doc": " ".join(doc.split())} if doc else {}) | {"fields": fields}


@st.composite
def schemas(draw: Any) -> dict[str, Any]:
    numbers = count()
    made: dict[str, Any] = draw(records(lambda: f"Thing{next(numbers)}"))
    return made


def module(source: str, directory: Path) -> Any:
    name = f"generated_{next(SERIAL)}"
    path = directory / f"{name}.py"
    path.write_text(source)
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    made = importlib.util.module_from_spec(spec)
    sys.modules[name] = made
    spec.loader.exec_module(made)
    return made


def without_unsayable(schema: Any) -> Any:
    """The schema less the docs that look like remarks for tools."""
    if isinstance(schema, list):
        return [without_unsayable(each) for each in schema]
    if isinstance(schema, dict):
        return {name: without_unsayable(part) for name, part in schema.items() if (name, part) != ("doc", "noqa: no")}
    return schema


@settings(max_examples=200)
@given(schema=schemas())
def test_a_schema_comes_out_of_its_classes_again(tmp_path_factory: pytest.TempPathFactory, schema: Any) -> None:
    made = module(python_source({"things.row": schema}), tmp_path_factory.getbasetemp())
    root = getattr(made, schema["name"])
    again = generate(Request("things.row", root))
    assert without_unsayable(again) == without_unsayable(schema)
    Binding("things.row", schema, root)


SHOPS = ["orders.event", "orders.command", "users.state", "payments.state", "customers.by_key"]


@pytest.mark.parametrize("topic", SHOPS)
def test_the_shops_schemas_come_out_again(topic: str, tmp_path: Path) -> None:
    schema = json.loads((ROOT / "schemas" / f"{topic}.avsc").read_text())
    made = module(python_source({topic: schema}), tmp_path)
    body = schema if isinstance(schema, list) else next(f["type"] for f in schema["fields"] if f["name"] == "body")
    union = "".join(part.capitalize() for part in re.split(r"[._]", topic))
    hint = getattr(made, union if isinstance(body, list) else body["name"])
    assert generate(Request(topic, hint, namespace="shop.reports" if body is schema else "")) == body
    if topic == "orders.event":
        Binding(topic, schema, EventMessage, hint, strict="read")


def test_what_generate_does_not_write_is_in_comments(tmp_path: Path) -> None:
    fixed = {"type": "fixed", "name": "Digest", "size": 4}
    fields = [
        {"name": "a", "type": "int", "default": 1, "order": "ignore"},
        {"name": "b", "type": {"type": "array", "items": ["string", "null"]}},
        {"name": "c", "type": {"type": "array", "items": fixed}},
        {"name": "d", "type": logical("long", "timestamp-millis")},
        {"name": "e", "type": {"type": "enum", "name": "Mood", "symbols": ["GOOD"], "default": "GOOD"}},
    ]
    schema = {"type": "record", "name": "Row", "fields": fields}
    source = python_source({"things.row": schema})
    notes = re.findall(r"# Avro: (.*)", source)
    assert notes == [
        'default: "GOOD"',
        "int",
        'order: "ignore"',
        "null is not the first branch",
        json.dumps(fixed),
        json.dumps(logical("long", "timestamp-millis")),
    ]
    Binding("things.row", schema, module(source, tmp_path).Row)


@pytest.mark.parametrize(
    ("schema", "says"),
    [
        ({"type": "record", "name": "date", "fields": []}, "the record 'date': Python has another meaning"),
        ({"type": "record", "name": "Row", "fields": [{"name": "class", "type": "long"}]}, r"Row\.class: Python has"),
        ({"type": "enum", "name": "E", "symbols": ["A", "None", "mro"]}, "no members named None, mro"),
        (
            [{"type": "record", "name": "A", "fields": [{"name": "x", "type": ["int", "long"]}]}],
            "two branches .* are int",
        ),
        (
            {"type": "record", "name": "A", "fields": [{"name": "x", "type": "long", "default": "1"}]},
            '"1" is not of its',
        ),
    ],
)
def test_what_has_no_class_is_refused(schema: Any, says: str) -> None:
    with pytest.raises(SchemaError, match=says):
        python_source({"things.row": schema})


def test_topics_share_classes_that_are_the_same(tmp_path: Path) -> None:
    def of(kind: str) -> Any:
        line = {"type": "record", "name": "Line", "fields": [{"name": "x", "type": kind}]}
        return {"type": "record", "name": f"Row{kind}", "fields": [{"name": "line", "type": line}]}

    same = of("long") | {"name": "Other"}
    assert python_source({"a.row": of("long"), "b.row": same}).count("class Line:") == 1
    with pytest.raises(
        SchemaError, match=r"b.avsc: no class for the record 'Line': a.row.avsc has another|write them to"
    ):
        python_source({"a.row": of("long"), "b.row": of("string")})


def test_the_command_writes_them(tmp_path: Path) -> None:
    out = tmp_path / "followed.py"
    arguments = ["schemas", "codegen", "orders.event", "--schemas", str(ROOT / "schemas"), "--out", str(out)]
    result = CliRunner().invoke(main, arguments)
    assert result.exit_code == 0, result.output
    made = module(out.read_text(), tmp_path)
    assert made.Line("TEA", 1, 2) == made.Line(code="TEA", quantity=1, price=2)
    assert made.OrderPlaced.__dataclass_fields__["checkout"].default == "saga"
    missing = CliRunner().invoke(main, ["schemas", "codegen", "nothing.event", "--schemas", str(ROOT / "schemas")])
    assert missing.exit_code == 2
    assert "each topic needs one" in missing.output
    assert Registry(ROOT / "schemas").read("orders.event")
