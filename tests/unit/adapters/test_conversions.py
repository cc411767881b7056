"""Types of message classes that Avro has none of its own for: what both codecs write, read, refuse and tell."""

import dataclasses
import gc
import re
import sys
from datetime import UTC, date, datetime, time, timedelta, timezone, tzinfo
from decimal import Decimal, localcontext
from enum import Enum, Flag
from pathlib import Path
from typing import Annotated, Any, Literal, NewType
from uuid import UUID

import fastavro
import pytest
from hypothesis import strategies as st

from pipeline.adapters.avro.binding import Binding
from pipeline.adapters.avro.codec import Codec
from pipeline.adapters.avro.compile_native import is_native
from pipeline.adapters.avro.fitting import fitting
from pipeline.adapters.avro.registry import Registry
from pipeline.errors import EncodeError, SchemaError, UndecodableRecord
from tests.helpers.every_type import record, register
from tests.helpers.rich_types import Colour, Level, Tone, enum_schema, logical
from tests.unit.adapters.test_codec import HEAD, IMPLEMENTATIONS, MISFITS, compiled, records, thoroughly
from tests.unit.adapters.test_codec_edges import holding, varint

both = pytest.mark.parametrize("native", IMPLEMENTATIONS)
MICROS, MILLIS = logical("long", "timestamp-micros"), logical("long", "timestamp-millis")
DATE, TIME = logical("int", "date"), logical("long", "time-micros")
SPAN, IDENTITY = logical("long", "duration-micros"), logical("string", "uuid")
COLOUR = {"type": "enum", "name": "Shade", "symbols": ["BLUE", "RED"]}
WORDS = {"type": "enum", "name": "Words", "symbols": ["a", "b"]}
EAST = timezone(timedelta(hours=2))


def money(precision: int = 6, scale: int = 2, **more: Any) -> dict[str, Any]:
    return logical(more.pop("type", "bytes"), "decimal", precision=precision, scale=scale, **more)


FIXED = money(type="fixed", name="Money", size=4)


@both
@pytest.mark.parametrize(
    ("schema", "hint", "value", "body", "again"),
    [
        (money(), Decimal, Decimal("1.5"), b"\x04\x00\x96", "1.50"),
        (money(), Decimal, Decimal("-1.28"), b"\x04\xff\x80", "-1.28"),
        (money(), Decimal, Decimal("-0"), b"\x02\x00", "0.00"),
        (money(), Decimal, Decimal("1.5000"), b"\x04\x00\x96", "1.50"),
        (money(), Decimal, Decimal("1E+3"), b"\x06\x01\x86\xa0", "1000.00"),
        (money(), Decimal, Decimal("0E+999999999"), b"\x02\x00", "0.00"),
        (money(), Decimal, Decimal("9999.99"), b"\x06\x0f\x42\x3f", "9999.99"),
        (money(2, 2), Decimal, Decimal("-0.99"), b"\x02\x9d", "-0.99"),
        (money(40, 0), Decimal, Decimal(-(10**40) + 1), None, str(-(10**40) + 1)),
        (FIXED, Decimal, Decimal("-1.5"), b"\xff\xff\xff\x6a", "-1.50"),
        (MICROS, datetime, datetime(1970, 1, 1, 2, 0, 0, 1, EAST), b"\x02", "1970-01-01 00:00:00.000001+00:00"),
        (MICROS, datetime, datetime.min.replace(tzinfo=UTC), None, "0001-01-01 00:00:00+00:00"),
        (MICROS, datetime, datetime.max.replace(tzinfo=UTC), None, "9999-12-31 23:59:59.999999+00:00"),
        (
            MILLIS,
            datetime,
            datetime(1969, 12, 31, 23, 59, 59, 999000, UTC),
            b"\x01",
            "1969-12-31 23:59:59.999000+00:00",
        ),
        (DATE, date, date(1969, 12, 31), b"\x01", "1969-12-31"),
        (DATE, date, date.min, None, "0001-01-01"),
        (DATE, date, date.max, None, "9999-12-31"),
        (TIME, time, time.max, None, "23:59:59.999999"),
        (TIME, time, time(0, 0, 0, 5), b"\x0a", "00:00:00.000005"),
        (SPAN, timedelta, timedelta(microseconds=-1), b"\x01", "-1 day, 23:59:59.999999"),
        (SPAN, timedelta, timedelta(microseconds=2**63 - 1), b"\xfe" + b"\xff" * 8 + b"\x01", None),
        (SPAN, timedelta, timedelta(microseconds=-(2**63)), b"\xff" * 9 + b"\x01", None),
        (IDENTITY, UUID, UUID(int=0), b"\x4800000000-0000-0000-0000-000000000000", None),
        (COLOUR, Colour, Colour.CRIMSON, b"\x02", "Colour.RED"),
        (enum_schema(["LOW", "HIGH"])[1], Tone, Tone.HIGH, b"\x02", "HIGH"),
        (enum_schema(["SECOND", "FIRST"])[1], Level, Level.FIRST, b"\x02", "1"),
        (WORDS, Literal["b", "a"], "b", b"\x02", "b"),
        ("string", Literal["not a name"], "not a name", b"\x14not a name", None),
        ({"type": "array", "items": "long"}, list[int], [1, 2], b"\x04\x02\x04\x00", "[1, 2]"),
        ({"type": "array", "items": DATE}, tuple[date, ...], (date(1970, 1, 2),), b"\x02\x02\x00", None),
        ({"type": "map", "values": DATE}, dict[str, date], {"a": date(1970, 1, 2)}, b"\x02\x02a\x02\x00", None),
        (
            {"type": "array", "items": {"type": "array", "items": FIXED}},
            tuple[list[Decimal], ...],
            ([], []),
            None,
            None,
        ),
        (MICROS, int, 2**62, None, str(2**62)),  # not in the range of a datetime
        (IDENTITY, str, "no id", b"\x0ano id", None),
        (money(), bytes, b"\xff\xff\xff\xff", b"\x08\xff\xff\xff\xff", None),
        ({"type": MICROS}, datetime, datetime(1970, 1, 1, tzinfo=UTC), b"\x00", None),
    ],
)
def test_a_value_is_written_and_read_back(
    native: bool, schema: Any, hint: Any, value: Any, body: bytes | None, again: str | None
) -> None:
    cls, codec = holding(hint, schema, native=native)
    data = codec.encode(cls(value))
    assert body is None or data == HEAD + body
    read = codec.decode(data).x
    assert read == value
    assert str(read) == (str(value) if again is None else again)
    assert type(read) is type(value)


@both
def test_a_decimal_of_thousands_of_digits_is_exact_whatever_the_context(native: bool) -> None:
    cls, codec = holding(Decimal, money(6000, 3000), native=native)
    value = Decimal((1, (9,) * 6000, -3000))
    with localcontext() as context:
        context.prec = 3
        assert codec.decode(codec.encode(cls(value))) == cls(value)
    with pytest.raises(MISFITS):
        codec.encode(cls(Decimal((1, (9,) * 6001, -3000))))


class Strange(tzinfo):
    def utcoffset(self, _: datetime | None) -> timedelta:
        raise KeyError("no such place")


class Later(datetime):
    pass


@both
@pytest.mark.parametrize(
    ("schema", "hint", "value", "says"),
    [
        (
            money(),
            Decimal,
            Decimal("1.005"),
            "must be a finite number of at most 6 digits, 2 of them after the point, not",
        ),
        (money(), Decimal, Decimal("10000"), "must be a finite number of at most 6 digits, 2 of them"),
        (money(), Decimal, Decimal("NaN"), "must be a finite number of at most 6 digits"),
        (money(), Decimal, Decimal("sNaN"), "must be a finite number of at most 6 digits"),
        (money(), Decimal, Decimal("-Infinity"), "must be a finite number of at most 6 digits"),
        (money(), Decimal, Decimal("1E+999999999999999999"), "must be a finite number of at most 6 digits"),
        (money(), Decimal, Decimal("1E-999999999999999999"), "must be a finite number of at most 6 digits"),
        (FIXED, Decimal, Decimal("10000"), "must be a finite number of at most 6 digits"),
        (money(), Decimal, 1, "must be Decimal, not int 1"),
        (money(), Decimal, 1.5, "must be Decimal, not float 1.5"),
        (["null", money()], Decimal | None, Decimal("NaN"), "must be a finite number of at most 6 digits"),
        (
            MICROS,
            datetime,
            datetime(2026, 1, 1),
            "must have a timezone, as datetime.now(UTC) has; 2026-01-01 00:00:00 is",
        ),
        (MICROS, datetime, datetime.max.replace(tzinfo=timezone(timedelta(hours=-1))), "must be in the"),
        (MICROS, datetime, datetime.min.replace(tzinfo=EAST), "must be in the years 1 to 9999 in UTC"),
        (MICROS, datetime, datetime(2026, 1, 1, tzinfo=Strange()), "'no such place'"),
        (MICROS, datetime, date(2026, 1, 1), "must be datetime, not date"),
        (MICROS, datetime, Later.now(UTC), "must be datetime, not Later"),
        (MICROS, int, datetime.now(UTC), "must be int, not datetime"),
        (MILLIS, datetime, datetime(2026, 1, 1, 0, 0, 0, 1, UTC), "must be in whole milliseconds"),
        (DATE, date, datetime.now(UTC), "must be date, not datetime"),
        (DATE, date, None, "must be date, not NoneType None"),
        (TIME, time, time(1, tzinfo=UTC), "must be a time without timezone, not 01:00:00+00:00"),
        (SPAN, timedelta, timedelta.max, "must fit 64 bits"),
        (SPAN, timedelta, 5, "must be timedelta, not int 5"),
        (IDENTITY, UUID, str(UUID(int=0)), "must be UUID, not str"),
        (COLOUR, Colour, "RED", "must be Colour, not str 'RED'"),
        (WORDS, Literal["a", "b"], "c", "must be 'a' or 'b', not 'c'"),
        (WORDS, Literal["a", "b"], None, "must be 'a' or 'b', not NoneType None"),
        ("string", Literal["a b"], "a", "must be 'a b', not 'a'"),
        ({"type": "array", "items": "long"}, list[int], (1,), "must be list, not tuple (1,)"),
        ({"type": "array", "items": "long"}, tuple[int, ...], [1], "must be tuple, not list [1]"),
        ({"type": "array", "items": DATE}, list[date], [date.min, 5], "[1] must be date, not int 5"),
        ({"type": "map", "values": TIME}, dict[str, time], {"a": None}, "['a'] must be time, not NoneType"),
        (["null", DATE, MICROS], date | datetime | None, datetime(2026, 1, 1), "must have a timezone"),
        (["null", DATE, MICROS], date | datetime | None, 5, "must be date or datetime or NoneType, not int 5"),
    ],
)
def test_what_does_not_fit_is_refused_by_the_field(
    tmp_path: Path, native: bool, schema: Any, hint: Any, value: object, says: str
) -> None:
    cls = dataclasses.make_dataclass("Holder", [("x", hint)], frozen=True, slots=True)
    register(tmp_path, {"x.row": record("Holder", x=schema)})
    codec = Codec(Registry(tmp_path), "x.row", cls, native=native)
    with pytest.raises(EncodeError, match=re.escape("x.row: Holder.x") + ".*" + re.escape(says)):
        codec.encode(cls(value))
    if codec.fit is not None:
        with pytest.raises(EncodeError, match=re.escape(says)):
            codec.fit(cls(value))


@both
@pytest.mark.parametrize(
    ("schema", "hint", "body"),
    [
        (money(), Decimal, b"\x06\x0f\x42\x40"),  # 10000.00
        (money(), Decimal, b"\x06\xf0\xbd\xc0"),
        (money(), Decimal, varint(2**20) + b"\x7f" * 2**20),
        (FIXED, Decimal, b"\x7f\0\0\0"),
        (MICROS, datetime, varint(2**62)),
        (MICROS, datetime, varint(-(2**63))),
        (MILLIS, datetime, varint(2**63 - 1)),
        (DATE, date, varint(2**31 - 1)),
        (DATE, date, varint(2**63 - 1)),
        (DATE, date, varint(-719_163)),
        (TIME, time, varint(-1)),
        (TIME, time, varint(86_400_000_000)),
        (IDENTITY, UUID, b"\x04no"),
        (COLOUR, Colour, b"\x04"),
        ("string", Literal["a b"], b"\x02c"),
        ({"type": "array", "items": DATE}, list[date], b"\x02" + varint(2**31 - 1) + b"\x00"),
        ({"type": "array", "items": {"type": "array", "items": "int"}}, tuple[list[int], ...], varint(2**60)),
    ],
)
def test_bytes_that_are_no_such_value_are_refused(
    tmp_path: Path, native: bool, schema: Any, hint: Any, body: bytes
) -> None:
    cls = dataclasses.make_dataclass("Holder", [("x", hint)])
    register(tmp_path, {"x.row": record("Holder", x=schema)})
    codec = Codec(Registry(tmp_path), "x.row", cls, native=native)
    with pytest.raises(UndecodableRecord, match=rf"not a x\.row record of schema id {codec.id}"):
        codec.decode(b"\0" + codec.id.to_bytes(4, "big") + body)


@both
def test_a_decimal_may_have_more_bytes_than_it_needs(native: bool) -> None:
    cls, codec = holding(Decimal, money(), native=native)
    assert codec.decode(HEAD + b"\x0a\xff\xff\xff\xff\x80") == cls(Decimal("-1.28"))


UserId = NewType("UserId", UUID)
Price = NewType("Price", Annotated[Decimal, "in euros"])


class Flags(Flag):
    A = 1
    B = 2


class Empty(Enum):
    pass


@pytest.mark.parametrize(
    ("schema", "hint", "says"),
    [
        (
            "string",
            Decimal,
            "Decimal needs 'bytes' with logicalType decimal or 'fixed' with logicalType decimal, not 'string'",
        ),
        ("bytes", Price, "Decimal needs .*, not 'bytes'"),
        (DATE, Decimal, "not 'int' with logicalType date"),
        (money(2, 3), Decimal, "0 <= scale <= precision, not 2 and 3"),
        (logical("bytes", "decimal"), Decimal, "precision > 0 .* not None and 0"),
        (money(8, 2, type="fixed", name="F", size=3), Decimal, "a fixed of 3 bytes is too small .* precision 8"),
        ("long", datetime, "datetime needs 'long' with logicalType timestamp-micros or .*, not 'long'"),
        (logical("long", "local-timestamp-micros"), datetime, "not 'long' with logicalType local-timestamp-micros"),
        (MICROS, date, "date needs 'int' with logicalType date, not 'long' with"),
        (logical("int", "time-millis"), time, "time needs 'long' with logicalType time-micros"),
        ("string", UserId, "UUID needs 'string' with logicalType uuid, not 'string'"),
        (["null", "string"], UserId | None, "UUID needs"),
        ("string", Colour, "Colour needs an enum, not 'string'"),
        (WORDS, Colour, "Colour and the enum 'Words' differ in BLUE, RED, a, b"),
        (WORDS, Flags, "Flags is a Flag"),
        (WORDS, Literal["a"], "a Literal and the enum 'Words' differ in b"),
        ("long", Literal["a"], "a Literal needs an enum, not 'long'"),
        ("long", Literal[1, 2], "a Literal must be of texts, not of 1, 2"),
        ({"type": "array", "items": "long"}, list[str], "'long' needs str, not <class 'str'>|'long' needs int"),
        ({"type": "array", "items": "long"}, list, "an array needs tuple"),
        ({"type": "array", "items": "long"}, set[int], "an array needs tuple"),
        (["string", WORDS], str | Literal["a", "b"], "a value of <class 'str'> may be of either of two branches"),
        (DATE, str, "'int' needs int, not <class 'str'>"),
    ],
)
def test_a_class_and_a_schema_that_do_not_go_together_are_refused(schema: Any, hint: Any, says: str) -> None:
    cls = dataclasses.make_dataclass("Holder", [("x", hint)])
    with pytest.raises(SchemaError, match=rf"t\.avsc and its message classes differ at t\.Holder\.x.*: .*({says})"):
        Binding("t", record("Holder", x=schema), cls)


@both
def test_one_record_and_one_enum_in_several_places(native: bool) -> None:
    """The fields of a record are those of its class; an enum is in each place what the class has there."""
    inner = dataclasses.make_dataclass("Inner", [("day", date), ("shade", Colour), ("text", str)])
    cls = dataclasses.make_dataclass(
        "Outer", [("a", inner), ("b", tuple[inner, ...]), ("c", Colour | None), ("d", str)]
    )
    outer = record(
        "Outer", a=record("Inner", day=DATE, shade=COLOUR, text="Shade"), b={"type": "array", "items": "Inner"}
    )
    outer["fields"] += [{"name": "c", "type": ["null", "Shade"]}, {"name": "d", "type": "Shade"}]
    codec = compiled(Binding("t", outer, cls), native=native)
    one = inner(date.max, Colour.RED, "BLUE")
    value = cls(one, (one, one), Colour.BLUE, "RED")
    assert codec.decode(codec.encode(value)) == value
    assert fastavro.parse_schema(outer)


@both
def test_a_follower_steps_over_what_it_does_not_ask_for(native: bool) -> None:
    schema = record("Holder", a=money(), b=COLOUR, c={"type": "array", "items": MICROS}, d=MICROS)
    cls = dataclasses.make_dataclass("Holder", [("d", datetime)])
    codec = compiled(Binding("t", schema, cls, strict=False), native=native)
    assert codec.decode(HEAD + b"\x02\x01" + b"\x02" + b"\x02\x08\x00" + b"\x02").d.microsecond == 1


@thoroughly
def test_a_value_fits_as_it_is_read_back(data: st.DataObject) -> None:
    shape = data.draw(records(rich=True))
    binding = Binding("t", shape.schema, shape.annotation)
    for native in [False, True] if is_native() else [False]:
        codec = compiled(binding, native=native)
        fit = fitting(binding, shape.annotation, MISFITS, native=native)
        for _ in range(3):
            value, _ = data.draw(shape.values)
            read = codec.decode(codec.encode(value))
            assert repr(value if fit is None else fit(value)) == repr(read)
            assert read == value


@both
@pytest.mark.parametrize(
    ("schema", "hint", "value", "fitted"),
    [
        (money(), Decimal, Decimal("1.5"), "Decimal('1.50')"),
        ({"type": "array", "items": FIXED}, list[Decimal], [Decimal("-0")], "[Decimal('0.00')]"),
        (
            ["null", MICROS],
            datetime | None,
            datetime(2026, 1, 1, 2, tzinfo=EAST),
            repr(datetime(2026, 1, 1, tzinfo=UTC)),
        ),
        (TIME, time, time(1, fold=1), "datetime.time(1, 0)"),
    ],
)
def test_what_tells_itself_otherwise_when_it_is_read_back_is_fitted(
    native: bool, schema: Any, hint: Any, value: Any, fitted: str
) -> None:
    cls = dataclasses.make_dataclass("Holder", [("x", hint)])
    fit = fitting(Binding("t", record("Holder", x=schema), cls), cls, MISFITS, native=native)
    assert fit is not None
    assert repr(fit(cls(value)).x) == fitted


@pytest.mark.skipif(not is_native(), reason="the extension is not built")
def test_no_reference_is_kept_or_lost() -> None:
    cls, codec = holding(list[Decimal | Colour], {"type": "array", "items": [money(), COLOUR]}, native=True)
    value, wrong = cls([Decimal("1.5"), Colour.RED]), cls([Decimal("1.555"), 5])
    data = codec.encode(value)

    def work() -> None:
        for _ in range(100):
            assert codec.decode(codec.encode(value)) == value
            for end in range(len(data)):
                with pytest.raises(MISFITS):
                    codec.decode(data[:end])
            with pytest.raises(MISFITS):
                codec.encode(wrong)

    watched = [value.x, wrong.x, Colour.RED, Decimal, Colour, cls, codec]
    work()
    gc.collect()
    counts = [sys.getrefcount(one) for one in watched]
    work()
    gc.collect()
    assert all(abs(sys.getrefcount(one) - count) < 10 for one, count in zip(watched, counts, strict=True))
