"""Both compiled codecs against fastavro over random schemas and values, and against hostile bytes and wrong values."""

import dataclasses
import itertools
import json
import math
import os
import random
from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from typing import Any, NamedTuple

import fastavro
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from pipeline.adapters.avro.binding import Binding
from pipeline.adapters.avro.codec import MISFITS, Codec
from pipeline.adapters.avro.compile_decode import compile_decode
from pipeline.adapters.avro.compile_encode import compile_encode
from pipeline.adapters.avro.compile_native import compile_native, is_native
from pipeline.adapters.avro.registry import Registry
from pipeline.errors import EncodeError, SchemaError, UndecodableRecord
from pipeline.model import CommandMessage
from tests.helpers.rich_types import rich_types
from topologies import inventory, users

SCHEMAS = Path(__file__).parents[3] / "schemas"
SERIAL = itertools.count()  # no two types of a schema may share a name
EXAMPLES = int(os.environ.get("PIPELINE_TEST_EXAMPLES", "300"))  # `make fuzz` asks for more
HEAD = b"head"
HUGE = bytes.fromhex("ffffffffffffffffff01")  # -2**63
IMPLEMENTATIONS = [
    pytest.param(False, id="python"),
    pytest.param(True, id="native", marks=pytest.mark.skipif(not is_native(), reason="the extension is not built")),
]
TEXT = st.text(st.characters(codec="utf-8"), max_size=12)
SIMPLE: dict[str, tuple[Any, st.SearchStrategy[Any]]] = {
    "string": (str, TEXT),
    "bytes": (bytes, st.binary(max_size=12)),
    "long": (int, st.integers(-(2**63), 2**63 - 1)),
    "int": (int, st.integers(-(2**31), 2**31 - 1)),
    "double": (float, st.floats(allow_nan=False, allow_infinity=False)),
    "float": (float, st.floats(width=32, allow_nan=False, allow_infinity=False)),
    "boolean": (bool, st.booleans()),
}


class Shape(NamedTuple):
    """A schema with the annotation that fits it, and how to draw a value together with its plain twin for fastavro."""

    schema: Any
    annotation: Any
    values: st.SearchStrategy[tuple[Any, Any]]


@st.composite
def shapes(draw: st.DrawFn, depth: int = 0, *, rich: bool = False) -> Shape:
    """`rich`: also such as Avro has no type of its own for."""
    kinds = [*SIMPLE, "enum", "fixed"] + (["array", "map", "option", "record", "union"] if depth < 3 else [])
    kinds += ["rich"] * 6 if rich else []
    kind = draw(st.sampled_from(kinds))
    name = f"N{next(SERIAL)}"
    if kind == "rich":
        return Shape(*draw(rich_types())[1:])
    if kind in SIMPLE:
        annotation, values = SIMPLE[kind]
        return Shape(kind, annotation, values.map(lambda v: (v, v)))
    if kind == "enum":
        symbols = ["A", "B", "C"]
        return Shape(
            {"type": "enum", "name": name, "symbols": symbols}, str, st.sampled_from(symbols).map(lambda v: (v, v))
        )
    if kind == "fixed":
        return Shape(
            {"type": "fixed", "name": name, "size": 3}, bytes, st.binary(min_size=3, max_size=3).map(lambda v: (v, v))
        )
    if kind == "record":
        return draw(records(depth + 1, rich=rich))
    if kind == "union":
        return union(draw(records(depth + 1, rich=rich)), draw(records(depth + 1, rich=rich)))
    inner = draw(shapes(depth + 1, rich=rich))
    if kind == "array":
        of = draw(st.sampled_from([tuple, list])) if rich else tuple
        hint = list[inner.annotation] if of is list else tuple[inner.annotation, ...]  # type: ignore[name-defined]
        many = st.lists(inner.values, max_size=3)
        both = many.map(lambda pairs: (of(v for v, _ in pairs), [p for _, p in pairs]))
        return Shape({"type": "array", "items": inner.schema}, hint, both)
    if kind == "map":
        named = st.dictionaries(TEXT, inner.values, max_size=3)
        both = named.map(lambda d: ({k: v for k, (v, _) in d.items()}, {k: p for k, (_, p) in d.items()}))
        return Shape({"type": "map", "values": inner.schema}, dict[str, inner.annotation], both)
    if isinstance(inner.schema, list):
        return inner  # a union in a union is not Avro
    tag = inner.schema["name"] if isinstance(inner.schema, dict) and inner.schema["type"] == "record" else None
    some = inner.values.map(lambda pair: (pair[0], (tag, pair[1]) if tag else pair[1]))
    return Shape(["null", inner.schema], inner.annotation | None, st.just((None, None)) | some)


def union(a: Shape, b: Shape) -> Shape:
    tagged = [s.values.map(lambda pair, n=s.schema["name"]: (pair[0], (n, pair[1]))) for s in (a, b)]
    return Shape([a.schema, b.schema], a.annotation | b.annotation, tagged[0] | tagged[1])


@st.composite
def records(draw: st.DrawFn, depth: int = 0, *, rich: bool = False) -> Shape:
    name = f"R{next(SERIAL)}"
    fields = [(f"f{n}", draw(shapes(depth + 1, rich=rich))) for n in range(draw(st.integers(0, 4)))]
    frozen, slots = draw(st.booleans()), draw(st.booleans())
    cls = dataclasses.make_dataclass(name, [(f, s.annotation) for f, s in fields], frozen=frozen, slots=slots)
    schema = {"type": "record", "name": name, "fields": [{"name": f, "type": s.schema} for f, s in fields]}
    pairs = st.tuples(*[s.values for _, s in fields]).map(
        lambda pairs: (cls(*[v for v, _ in pairs]), {f: p for (f, _), (_, p) in zip(fields, pairs, strict=True)})
    )
    return Shape(schema, cls, pairs)


class Compiled(NamedTuple):
    """One implementation of a codec; records begin with HEAD."""

    decode: Callable[[bytes], Any]
    encode: Callable[[Any], bytes]


def compiled(binding: Binding, *, native: bool) -> Compiled:
    if not native:
        read = compile_decode(binding)
        return Compiled(lambda data: read(data, len(HEAD)), compile_encode(binding, HEAD, MISFITS, lambda _, e: e))
    program = compile_native(binding, HEAD, MISFITS, pytest.fail, lambda _, e: e, lambda _, e: e)
    assert program is not None
    return Compiled(program.decode, program.encode)


def both(binding: Binding) -> list[Compiled]:
    """Python, and the extension where it is built."""
    return [compiled(binding, native=native) for native in ([False, True] if is_native() else [False])]


def outcome(function: Callable[[Any], Any], argument: Any) -> str:
    """What can be compared of a call: NaN is not equal to itself, but reads the same."""
    try:
        return repr(function(argument))
    except MISFITS:
        return "misfit"


def thoroughly(test: Callable[..., None]) -> Callable[..., None]:
    checks = [HealthCheck.too_slow, HealthCheck.data_too_large]
    return settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=checks)(given(st.data())(test))


@thoroughly
def test_random_schemas_give_fastavros_bytes_and_come_back(data: st.DataObject) -> None:
    shape = data.draw(records(rich=data.draw(st.booleans())))
    implementations = both(Binding("t", shape.schema, shape.annotation))
    parsed = fastavro.parse_schema(json.loads(json.dumps(shape.schema)))
    for _ in range(3):
        value, plain = data.draw(shape.values)
        out = BytesIO()
        try:
            fastavro.schemaless_writer(out, parsed, plain)
        except ValueError as error:  # it does not look for named branches in the arrays of a union
            assume("do not match" not in str(error))
            raise
        for decode, encode in implementations:
            assert encode(value) == HEAD + out.getvalue()
            assert decode(HEAD + out.getvalue()) == value


@thoroughly
def test_hostile_bytes_give_a_misfit_or_a_value_and_the_same_one_from_both(data: st.DataObject) -> None:
    shape = data.draw(records(rich=data.draw(st.booleans())))
    implementations = both(Binding("t", shape.schema, shape.annotation))
    value, _ = data.draw(shape.values)
    body = implementations[0].encode(value).removeprefix(HEAD)
    chance = random.Random(data.draw(st.integers(0, 2**32)))
    for _ in range(20):
        broken = mutated(body, chance)
        assert len({outcome(decode, HEAD + broken) for decode, _ in implementations}) == 1, broken


def mutated(body: bytes, chance: random.Random) -> bytes:
    """Bytes that are nearly such a record, or not at all."""
    if chance.random() < 0.2:
        return chance.randbytes(chance.randrange(40))
    broken = bytearray(body)
    for _ in range(chance.randrange(3)):
        at = chance.randrange(len(broken) + 1)
        broken[at : at + chance.randrange(2)] = chance.choice([b"", b"\x00", b"\x01", b"\x80", b"\xff", HUGE])
    return bytes(broken[: chance.randrange(len(broken) + 1)] if chance.random() < 0.2 else broken)


@pytest.fixture(params=IMPLEMENTATIONS)
def codec(request: pytest.FixtureRequest) -> Codec:
    return Codec(Registry(SCHEMAS), "inventory.command", CommandMessage, inventory.Command, native=request.param)


TAKE = CommandMessage("id", "corr", None, 1, inventory.TakeStock("o1", 5))


def test_every_truncation_and_every_extension_is_noticed(codec: Codec) -> None:
    data = codec.encode(TAKE)
    for end in range(len(data)):
        with pytest.raises(UndecodableRecord):
            codec.decode(data[:end])
    with pytest.raises(UndecodableRecord, match="does not end"):
        codec.decode(data + b"\0")


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (None, "no value"),
        (b"", "wire format"),
        (b"hello world", "wire format"),
        (b"\0\0\0\x27\x0fabc", "unknown schema id 9999"),
        (b"\0\x77\x35\x94\x01abc", "schema id 2000000001 is that of reply, not of inventory.command"),
    ],
)
def test_what_is_no_command_is_explained(codec: Codec, data: bytes | None, says: str) -> None:
    with pytest.raises(UndecodableRecord, match=says):
        codec.decode(data)


@pytest.mark.parametrize(
    ("value", "says"),
    [
        (TAKE._replace(id=5), r"CommandMessage.id must be str, not int 5"),
        (TAKE._replace(body=inventory.TakeStock("o", 1.5)), r"TakeStock.quantity must be int, not float"),  # type: ignore[arg-type]
        (TAKE._replace(body=inventory.TakeStock("o", math.nan)), r"TakeStock.quantity must be int, not float"),  # type: ignore[arg-type]
        (TAKE._replace(body=inventory.TakeStock("o", 2**63)), "must fit 64 bits"),
        (TAKE._replace(body=users.User("a", "b")), r"body must be .* not User"),
        (TAKE._replace(correlation_id="\ud800"), "surrogates not allowed"),
        (inventory.TakeStock("o", 1), "must be CommandMessage"),
    ],
)
def test_a_wrong_value_names_its_field(codec: Codec, value: object, says: str) -> None:
    with pytest.raises(EncodeError, match=says):
        codec.encode(value)


@dataclasses.dataclass(frozen=True, slots=True)
class Amount:
    thousandths: int


@dataclasses.dataclass(frozen=True, slots=True)
class Wrong:
    thousandths: int


def amount(*fields: tuple[str, str], name: str = "Amount") -> dict[str, Any]:
    return {"type": "record", "name": name, "fields": [{"name": field, "type": kind} for field, kind in fields]}


@pytest.mark.parametrize(
    ("schema", "root", "says"),
    [
        (amount(), Amount, "has no field thousandths"),
        (amount(("thousandths", "string")), Amount, "'string' needs str"),
        (amount(("thousandths", "long")), Wrong, "dataclass of that name"),
        (amount(("thousandths", "long"), ("more", "long")), Amount, "class Amount has no field more"),
        ([amount(name="Other")], Amount, "'Other' has no class"),
    ],
)
def test_classes_that_do_not_fit_are_refused(schema: Any, root: type, says: str) -> None:
    with pytest.raises(SchemaError, match=f"{says}.*; change one of them; .*: pipeline schemas generate TOPOLOGY"):
        Binding("t", schema, root)


def test_the_schema_of_another_is_not_to_be_made_from_classes() -> None:
    with pytest.raises(SchemaError, match=r"has no field thousandths; change one of them$"):
        Binding("t", amount(), Amount, strict="fields")
