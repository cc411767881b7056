"""Values as JSON and back, for every type that the codec knows; and values as they are read back from Avro."""

from __future__ import annotations

import base64
import dataclasses
import json
import math
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from enum import Enum
from pathlib import Path
from typing import Any, NamedTuple, NoReturn
from uuid import UUID

import jsonschema_rs
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pipeline.adapters.avro.codec import Codec
from pipeline.adapters.avro.compile_native import is_native
from pipeline.adapters.avro.registry import Registry
from pipeline.adapters.json.reading import from_json, parsed
from pipeline.adapters.json.writing import json_text, row_json, to_json
from pipeline.errors import EncodeError, InvalidCommand
from pipeline.model import EventMessage, StateMessage
from tests.helpers import every_type
from tests.helpers.every_type import All, Label, Marked, Point, Put, PutNothing, Seen, Stored
from tests.helpers.json_schemas import whole_schema
from tests.unit.adapters.test_codec import records

IMPLEMENTATIONS = [False, True] if is_native() else [False]
FLOATS = st.floats(allow_nan=False, allow_infinity=False)
NARROW = st.floats(allow_nan=False, allow_infinity=False, width=32)
LONG = st.integers(-(2**63), 2**63 - 1)
TEXT = st.text(st.characters(codec="utf-8"), max_size=8) | st.sampled_from(["type", "value", "bytes", "", "AAAA"])
DATA = st.binary(max_size=8)
POINTS = st.builds(Point, FLOATS, TEXT)
LABELS = st.builds(Label, TEXT, LONG)
ALLS = st.builds(
    All,
    text=TEXT,
    data=DATA,
    code=st.binary(min_size=2, max_size=2),
    colour=st.sampled_from(["RED", "BLUE"]),
    flag=st.booleans(),
    small=st.integers(-(2**31), 2**31 - 1),
    large=LONG,
    narrow=NARROW,
    wide=FLOATS,
    at=LONG,
    day=st.integers(-(2**31), 2**31 - 1),
    price=DATA,
    ref=TEXT,
    maybe=st.none() | FLOATS,
    either=st.none() | TEXT | DATA | LONG,
    shape=st.none() | POINTS | LABELS,
    named=LABELS,
    points=st.lists(POINTS, max_size=2).map(tuple),
    weights=st.dictionaries(TEXT, NARROW, max_size=2),
    mixed=LABELS | st.dictionaries(TEXT, DATA, max_size=2),
)
EVENTS = st.builds(Stored, ALLS) | st.builds(Marked, TEXT)
slowly = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])


def strict(text: str) -> Any:
    """Parse JSON as readers do that are not Python's."""

    def refuse(name: str) -> NoReturn:
        raise AssertionError(f"{name} is no JSON")

    return json.loads(text, parse_constant=refuse)


# --- value -> JSON -> value -------------------------------------------------------------------------------------------


@slowly
@given(ALLS)
def test_a_row_comes_back_from_its_json_and_is_as_openapi_says(value: All) -> None:
    told = strict(json_text(row_json(StateMessage(3, 4, value))))
    assert (told["version"], told["time_ms"]) == (3, 4)
    assert from_json(All, told["row"], "row") == value
    jsonschema_rs.validate(whole_schema(All), told["row"])


@slowly
@given(EVENTS)
def test_an_event_comes_back_from_its_json_and_is_as_openapi_says(event: Stored | Marked) -> None:
    told = strict(json_text(to_json(event, tagged=True)))
    assert told["type"] == type(event).__name__
    assert from_json(Stored | Marked, told, "event") == event
    jsonschema_rs.validate(whole_schema(Stored | Marked, tagged=True), told)


@settings(deadline=None, suppress_health_check=[*HealthCheck], max_examples=200)
@given(st.data())
def test_values_of_random_schemas_come_back_from_their_json(data: st.DataObject) -> None:
    shape = data.draw(records())
    value, _ = data.draw(shape.values)
    for tagged in (False, True):
        told = strict(json_text(to_json(value, tagged=tagged)))
        assert from_json(shape.annotation, told, "value") == value
        jsonschema_rs.validate(whole_schema(shape.annotation, tagged=tagged), told)


@dataclasses.dataclass(frozen=True)
class Later:
    """What message classes may hold one day, and what is never in one union today."""

    price: Decimal
    at: datetime
    day: date
    time: time
    ref: UUID
    either: Decimal | bytes | None


@given(
    st.builds(
        Later,
        st.decimals(allow_nan=False, allow_infinity=False),
        st.datetimes(timezones=st.just(UTC)),
        st.dates(),
        st.times(),
        st.uuids(),
        st.none() | st.decimals(allow_nan=False, allow_infinity=False) | st.binary(),
    )
)
def test_decimals_dates_and_ids_are_text(value: Later) -> None:
    told = strict(json_text(to_json(value)))
    assert told["price"] == str(value.price)
    assert told["day"] == value.day.isoformat()
    assert from_json(Later, told, "later") == value


class Colour(Enum):
    RED = "red"


def test_an_enum_is_its_members_name() -> None:
    assert (to_json(Colour.RED), from_json(Colour, "RED", "x")) == ("RED", Colour.RED)
    with pytest.raises(InvalidCommand, match="x must be one of RED, not str 'red'"):
        from_json(Colour, "red", "x")


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (timedelta(), "PT0S"),
        (timedelta(days=2), "P2D"),
        (timedelta(seconds=90, microseconds=500_000), "PT90.5S"),
        (-timedelta(days=1, microseconds=1), "-P1DT0.000001S"),
        (timedelta.max, "P999999999DT86399.999999S"),
    ],
)
def test_a_duration_is_as_in_iso_8601(value: timedelta, text: str) -> None:
    assert to_json(value) == text
    assert from_json(timedelta, text, "x") == value
    assert from_json(timedelta, "P1DT2H3M4S", "x") == timedelta(1, 4, minutes=3, hours=2)
    for wrong in ("P", "PT", "1S", "PT1", "P1Y", "P9999999999D"):
        with pytest.raises(InvalidCommand, match="x must be a duration in ISO 8601"):
            from_json(timedelta, wrong, "x")


@pytest.mark.parametrize("number", [math.nan, math.inf, -math.inf])
def test_a_number_that_json_does_not_have_is_text(number: float) -> None:
    told = strict(json_text(to_json(Point(number))))
    assert isinstance(told["x"], str)
    assert repr(from_json(Point, told, "point").x) == repr(number)
    with pytest.raises(ValueError, match="JSON"):
        json_text(number)


def test_what_is_alike_in_a_union_is_named() -> None:
    assert to_json(All(either="AAAA"))["either"] == "AAAA"
    assert to_json(All(either=b"\0\0\0"))["either"] == {"type": "bytes", "value": "AAAA"}
    assert to_json(All(shape=Label("x")))["shape"] == {"type": "Label", "text": "x", "at": 0}
    assert to_json(All(shape=Point(1.0, "t")))["shape"] == {"type": "Point", "value": {"x": 1.0, "type": "t"}}
    assert to_json(All(mixed={"a": b""}))["mixed"] == {"type": "map", "value": {"a": ""}}


def test_records_that_lie_in_a_message_say_their_class_and_those_in_a_row_do_not() -> None:
    assert to_json(Stored(All(named=Label("x"))), tagged=True)["all"]["named"] == {
        "type": "Label",
        "text": "x",
        "at": 0,
    }
    assert to_json(Stored(All(named=Label("x"))))["all"]["named"] == {"text": "x", "at": 0}


@pytest.mark.parametrize(
    ("hint", "value", "says"),
    [
        (Label, {"type": "Point", "text": "x"}, r"it.type must be Label, not 'Point'"),
        (Label, ["x", 1], "it must be an object with the fields of Label, not list"),
        (Label, {"at": 1}, "it lacks the field 'text'"),
        (Label, {"text": "x", "of": 1}, "it has no field 'of'; it has text, at"),
        (Stored | Marked, {"type": "Marked"}, "it must be an object with `type` and `value`"),
        (Decimal, "x", 'it must be a decimal as text, such as "10.50", not'),
        (bytes, "é", "it must be bytes in base64"),
    ],
)
def test_what_does_not_fit_is_named(hint: Any, value: Any, says: str) -> None:
    with pytest.raises(InvalidCommand, match=says):
        from_json(hint, value, "it")


@dataclasses.dataclass(frozen=True)
class Span:
    first: int
    last: int
    length: int = dataclasses.field(init=False)

    def __post_init__(self) -> None:
        if self.last < self.first:
            raise ValueError("it ends before it begins")
        object.__setattr__(self, "length", self.last - self.first)


def test_a_class_with_conditions_of_its_own_refuses_what_does_not_meet_them() -> None:
    assert (
        from_json(Span, to_json(Span(1, 3)), "span") == from_json(Span, {"first": 1, "last": 3}, "span") == Span(1, 3)
    )
    jsonschema_rs.validate(whole_schema(Span), to_json(Span(1, 3)))
    with pytest.raises(InvalidCommand, match="span is no Span: ValueError: it ends before it begins"):
        from_json(Span, {"first": 3, "last": 1}, "span")


anything = st.recursive(
    st.none() | st.booleans() | st.integers() | FLOATS | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=8,
)


@slowly
@given(st.sampled_from([All, Stored | Marked, Label, Point, Put | PutNothing]), anything)
def test_whatever_comes_is_read_or_refused(hint: Any, value: Any) -> None:
    try:
        found = from_json(hint, value, "it")
    except InvalidCommand:
        return
    assert from_json(hint, strict(json_text(to_json(found, tagged=True))), "it") == found


def test_what_is_parsed_is_strict() -> None:
    for text in ("NaN", "[Infinity]", "-Infinity", b"\xff", "{", "[" * 100_000):
        with pytest.raises(InvalidCommand, match="not JSON"):
            parsed(text)


# --- as it is read back -----------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def schemas(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return every_type.topology(tmp_path_factory.mktemp("every_type") / "schemas").schemas


def codec_of(schemas: Path, *, native: bool) -> Codec:
    return Codec(Registry(schemas), "alls.state", StateMessage, All, native=native)


@pytest.mark.parametrize("native", IMPLEMENTATIONS)
@settings(deadline=None, suppress_health_check=[*HealthCheck])
@given(value=ALLS, wide=FLOATS.filter(lambda number: abs(number) < 3e38) | st.integers(-(2**70), 2**70))
def test_a_value_fits_as_it_is_read_back(schemas: Path, native: bool, value: All, wide: Any) -> None:
    codec = codec_of(schemas, native=native)
    assert codec.fit is not None
    unlike = dataclasses.replace(value, narrow=wide, wide=wide, weights={"a": wide})
    fitted = codec.fit(unlike)
    assert repr(fitted) == repr(codec.decode(codec.encode(StateMessage(1, 2, unlike))).body)
    assert codec.fit(fitted) == fitted


@pytest.mark.parametrize("native", IMPLEMENTATIONS)
def test_a_value_that_fits_already_is_itself(schemas: Path, native: bool) -> None:
    codec = codec_of(schemas, native=native)
    assert codec.fit is not None
    value = All(narrow=0.5, points=(Point(0.1),), weights={"a": 2.0})
    assert codec.fit(value) == value
    assert not native or codec.fit(value) is value


@pytest.mark.parametrize("native", IMPLEMENTATIONS)
@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"narrow": math.nan}, ".narrow must be a finite number, not nan"),
        ({"wide": math.inf}, ".wide must be a finite number, not inf"),
        ({"wide": Decimal("NaN")}, ".wide must be a finite number, not nan"),
        ({"narrow": 1e39}, ".narrow must fit a float of 32 bits, .* which 1e\\+39 does not"),
        ({"wide": 10**400}, ".wide must fit a float of 64 bits"),
        ({"maybe": math.nan}, ".maybe must be a finite number"),
        ({"shape": Point(-math.inf)}, ".shape.x must be a finite number, not -inf"),
        ({"points": (Point(), Point(math.nan))}, r"\.points\[1\].x must be a finite number"),
        ({"weights": {"a": math.nan}}, r"\.weights\['a'\] must be a finite number"),
    ],
)
def test_a_number_that_is_not_finite_is_refused_by_name(
    schemas: Path, native: bool, changes: dict[str, Any], says: str
) -> None:
    codec = codec_of(schemas, native=native)
    assert codec.fit is not None
    value = dataclasses.replace(All(), **changes)
    for write in (codec.fit, lambda value: codec.encode(StateMessage(1, 2, value))):
        with pytest.raises(EncodeError, match=says):
            write(value)


@pytest.mark.parametrize("native", IMPLEMENTATIONS)
def test_schemas_without_floats_fit_as_they_are(schemas: Path, tmp_path: Path, native: bool) -> None:
    registered = every_type.register(tmp_path, {"x.row": every_type.record("Label", text="string", at="long")})
    assert Codec(Registry(registered), "x.row", Label, native=native).fit is None
    events = Codec(Registry(schemas), "alls.event", EventMessage, Stored | Marked, native=native)
    assert events.fit is not None
    assert events.fit(Marked("x")) == Marked("x")


def test_a_record_of_an_older_schema_keeps_what_logical_types_do_not_know(tmp_path: Path) -> None:
    """Not a uuid, a time in the year 300000, a decimal with a leading zero: numbers, text and bytes all the same."""
    kinds: dict[str, Any] = {
        "ref": {"type": "string", "logicalType": "uuid"},
        "at": {"type": "long", "logicalType": "timestamp-millis"},
        "price": {"type": "bytes", "logicalType": "decimal", "precision": 12, "scale": 2},
    }
    every_type.register(tmp_path, {"x.row": every_type.record("Row", **kinds)})
    old = Codec(Registry(tmp_path), "x.row", Row).encode(Row("no uuid", 2**53, b"\0\0\x05"))
    schema = every_type.record("Row", **kinds)
    schema["fields"].append({"name": "more", "type": "long", "default": 7})
    every_type.register(tmp_path, {"x.row": schema})
    assert Codec(Registry(tmp_path), "x.row", More).decode(old) == More("no uuid", 2**53, b"\0\0\x05", 7)


class Row(NamedTuple):
    ref: str
    at: int
    price: bytes


@dataclasses.dataclass
class More:
    ref: str
    at: int
    price: bytes
    more: int


More.__name__ = "Row"


@pytest.mark.parametrize(
    ("hint", "schema"),
    [
        (None | str, ["string", "null"]),
        (str | int, ["long", "string"]),
        (Label | str, ["string", every_type.record("Label", text="string", at="long")]),
        (tuple[int, ...] | str | None, ["null", "string", {"type": "array", "items": "long"}]),
    ],
)
def test_members_of_a_union_may_stand_in_another_order(tmp_path: Path, hint: Any, schema: Any) -> None:
    every_type.register(tmp_path, {"x.row": every_type.record("Holder", x=schema)})
    holder = dataclasses.make_dataclass("Holder", [("x", hint)])
    codec = Codec(Registry(tmp_path), "x.row", holder)
    assert codec.decode(codec.encode(holder("text"))) == holder("text")


def test_bytes_are_base64_everywhere() -> None:
    told = row_json(Seen(0.5, All(data=b"\xff\0PNG", code=b"ab", price=b"\x04\xe2")))["row"]
    assert told["narrow"] == 0.5
    assert {name: told["all"][name] for name in ("data", "code", "price")} == {
        name: base64.b64encode(data).decode()
        for name, data in (("data", b"\xff\0PNG"), ("code", b"ab"), ("price", b"\x04\xe2"))
    }


@pytest.mark.parametrize("number", ["1e999", "-1e400", "1" + 400 * "0"])
def test_a_json_number_beyond_floats_is_refused_by_the_field(number: str) -> None:
    with pytest.raises(InvalidCommand, match=r"^Point.x is out of the range of a float$"):
        from_json(Point, parsed(f'{{"x": {number}}}'), "Point")
    with pytest.raises(InvalidCommand, match=r"All.maybe is out of the range of a float"):
        from_json(float | None, parsed(number), "All.maybe")
