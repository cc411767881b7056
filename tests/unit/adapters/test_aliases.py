"""Names for types, `type X = …` of Python 3.12 among them, and NamedTuples where a record may stand."""

import json
import sys
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Annotated, Any, NamedTuple, NewType, TypeVar

import pytest
from typing_extensions import TypeAliasType

from pipeline import Aggregate, Reaction, Service, Source
from pipeline.adapters.avro.codec import Codec
from pipeline.adapters.avro.registry import Registry
from pipeline.adapters.avro.schemas.generation import Request, generate
from pipeline.adapters.json.reading import from_json
from pipeline.adapters.json.writing import to_json
from pipeline.errors import SchemaError
from pipeline.model import fields
from pipeline.model.fields import Precision, Renamed, alternatives, opened
from pipeline.verify.sources.decode import Decoder
from tests.helpers.json_schemas import whole_schema

T, U = TypeVar("T"), TypeVar("U")
IS_THERE = sys.version_info >= (3, 12)


@pytest.fixture(autouse=True)
def aliases(monkeypatch: pytest.MonkeyPatch) -> None:
    """Before 3.12 there is no such statement; what stands for what it makes can be had."""
    monkeypatch.setattr("pipeline.model.fields.ALIAS", (TypeAliasType, *([fields.ALIAS] if IS_THERE else [])))


class Spot(NamedTuple):
    x: int
    y: float = 0.5


class Line(NamedTuple):
    start: Spot
    end: Spot | None = None


Money = TypeAliasType("Money", Annotated[Decimal, Precision(9, 2)])
Price = NewType("Price", Money)
Shape = TypeAliasType("Shape", Spot | Line | str)
Pair = TypeAliasType("Pair", dict[str, tuple[U, ...] | T], type_params=(T, U))


@dataclass(frozen=True)
class Drawing:
    price: Price
    shape: Shape | None
    shapes: tuple[Shape, ...] = ()
    many: Pair[bytes, int] | None = None
    old: Annotated[Money, Renamed("older")] = Decimal("1.50")


def test_what_is_behind_a_name() -> None:
    assert opened(Price) == (Decimal, (Precision(9, 2),))
    assert opened(Pair[bytes, int])[0] == dict[str, tuple[int, ...] | bytes]
    assert alternatives(Shape | None) == (Spot, Line, str, type(None))


def test_drawings_are_written_read_shown_and_verified_alike(tmp_path: Path) -> None:
    schema = generate(Request("drawings.row", Drawing, namespace="studio"))
    types = {field["name"]: field["type"] for field in schema["fields"]}
    assert types["price"] == {"type": "bytes", "logicalType": "decimal", "precision": 9, "scale": 2}
    assert [kind if isinstance(kind, str) else kind["name"] for kind in types["shape"]] == [
        "null",
        "Spot",
        "Line",
        "string",
    ]
    assert schema["fields"][4]["aliases"] == ["older"]
    (tmp_path / "drawings.row.avsc").write_text(json.dumps(schema))
    registry = Registry(tmp_path)
    registry.register()
    shapes = (Spot(1), Line(Spot(1, 2.0)), "free", Line(Spot(0), Spot(9)))
    for drawing in (
        Drawing(Price(Decimal("2.00")), None),
        *(Drawing(Price(Decimal("2.00")), shape, shapes, {"a": (1, 2), "b": b"\xff"}) for shape in shapes),
    ):
        for native in (True, False):
            codec = Codec(registry, "drawings.row", Drawing, native=native)
            read = codec.decode(codec.encode(drawing))
            assert read == drawing
            assert type(read.shape) is type(drawing.shape)
        assert Decoder(registry, "drawings.row", Drawing).value(codec.encode(drawing)) == drawing
        shown = json.loads(json.dumps(to_json(drawing)))
        again = from_json(Drawing, shown, "drawing")
        assert again == drawing
        assert type(again.shape) is type(drawing.shape)
    assert whole_schema(Drawing)["components"]["schemas"]["Drawing"]["properties"]["price"] == {
        "type": "string",
        "format": "decimal",
    }


def test_an_alias_that_contains_itself_is_refused() -> None:
    inner = NewType("Inner", str)
    forever: Any = tuple[inner, ...]  # type: ignore[valid-type]
    inner.__supertype__ = forever

    @dataclass(frozen=True)
    class Holder:
        it: forever

    with pytest.raises(SchemaError, match="a `type` contains itself, which only a class can"):
        generate(Request("holders.row", Holder))


def test_commands_may_be_an_alias() -> None:
    made: Any = TypeAliasType("Commands", Spot | Line)
    aggregate = Aggregate("a", made, made, "", lambda command, state: [], lambda state, event: state)
    follow = Reaction("r", Source("b.event", made), lambda key, event: [])
    assert Service("s", aggregates=[aggregate], reactions=[follow]).takers == {Spot: ["a"], Line: ["a"]}


@pytest.mark.skipif(not IS_THERE, reason="`type` is a statement from Python 3.12 on")
def test_the_statement_itself() -> None:
    names: dict[str, Any] = {"Spot": Spot, "Line": Line}
    exec("type Shape = Spot | Line\ntype Many[A, B] = dict[str, tuple[B, ...] | A]", names)
    assert alternatives(names["Shape"]) == (Spot, Line)
    assert opened(names["Many"][bytes, int])[0] == dict[str, tuple[int, ...] | bytes]
