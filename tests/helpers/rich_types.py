"""Random types of message classes that Avro has none of its own for, with their schema and their values."""

from __future__ import annotations

import itertools
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal
from enum import Enum, IntEnum, StrEnum
from functools import reduce
from operator import or_
from typing import Annotated, Any, Literal, NamedTuple, NewType
from uuid import UUID

from hypothesis import strategies as st

Pairs = st.SearchStrategy[tuple[Any, Any]]
SERIAL = itertools.count()


class Rich(NamedTuple):
    """An annotation with the schema that fits it, and its values beside what fastavro is to be given for them.

    `name`: of the schema's type, as fastavro has it where a value of a union has to name its branch.
    """

    name: str
    schema: Any
    annotation: Any
    values: Pairs


class Colour(Enum):
    RED = "r"
    BLUE = 2
    CRIMSON = "r"  # noqa: PIE796  # another name of RED


class Tone(StrEnum):
    LOW = "low"
    HIGH = "HIGH"


class Level(IntEnum):
    FIRST = 1
    SECOND = 2


def same(values: st.SearchStrategy[Any]) -> Pairs:
    return values.map(lambda value: (value, value))


@st.composite
def decimals(draw: st.DrawFn, kind: str = "bytes") -> Rich:
    """Values have as many digits after the point as the scale, or fewer."""
    precision = draw(st.integers(1, 40))
    scale = draw(st.integers(0, precision))
    schema: dict[str, Any] = {"type": kind, "logicalType": "decimal", "precision": precision, "scale": scale}
    if kind == "fixed":
        schema |= {"name": f"Fixed{next(SERIAL)}", "size": draw(st.integers(17, 20))}
    unscaled = st.integers(1 - 10**precision, 10**precision - 1) | st.sampled_from([0, -128, -129, 127, 128])
    unscaled = unscaled.filter(lambda n: abs(n) < 10**precision)
    values = st.builds(lambda n, short: decimal_of(n, scale, short=short), unscaled, st.booleans())
    return Rich(schema.get("name", kind), schema, Decimal, same(values))


def decimal_of(unscaled: int, scale: int, *, short: bool) -> Decimal:
    """`short`: without zeros at the end."""
    digits = tuple(map(int, str(abs(unscaled))))
    while short and scale and digits[-1] == 0 and len(digits) > 1:
        digits, scale = digits[:-1], scale - 1
    return Decimal((int(unscaled < 0), digits, -scale))


def logical(kind: str, logical_type: str, **more: Any) -> dict[str, Any]:
    return {"type": kind, "logicalType": logical_type, **more}


INSTANTS = st.datetimes(
    datetime.min + timedelta(days=1),
    datetime.max - timedelta(days=1),
    timezones=st.builds(timezone, st.timedeltas(timedelta(hours=-23), timedelta(hours=23))) | st.just(UTC),
)
SPANS = st.integers(-(2**63), 2**63 - 1).map(lambda n: (timedelta(microseconds=n), n))


def enum_schema(symbols: list[str]) -> tuple[str, dict[str, Any]]:
    name = f"Enum{next(SERIAL)}"
    return name, {"type": "enum", "name": name, "symbols": symbols}


@st.composite
def enums(draw: st.DrawFn) -> Rich:
    cls = draw(st.sampled_from([Colour, Tone, Level]))
    name, schema = enum_schema(draw(st.permutations([member.name for member in cls])))
    return Rich(name, schema, cls, st.sampled_from(list(cls)).map(lambda member: (member, member.name)))


@st.composite
def literals(draw: st.DrawFn) -> Rich:
    if draw(st.booleans()):
        return Rich("string", "string", Literal["", "a b", "é"], same(st.sampled_from(["", "a b", "é"])))
    name, schema = enum_schema(["b", "a"])
    return Rich(name, schema, Literal["a", "b"], same(st.sampled_from(["a", "b"])))


ANY_DECIMAL = decimals() | decimals("fixed")
MILLIS = INSTANTS.map(lambda at: at.replace(microsecond=at.microsecond // 1000 * 1000, tzinfo=UTC))
TIMES = st.builds(lambda at, fold: at.replace(fold=fold), st.times(), st.integers(0, 1))
LIST = Rich("array", {"type": "array", "items": "int"}, list[int], same(st.lists(st.integers(-5, 5), max_size=3)))
DATE = Rich("int", logical("int", "date"), date, same(st.dates()))
INSTANT = Rich("long", logical("long", "timestamp-micros"), datetime, same(INSTANTS))
IDENTITY = Rich("string", logical("string", "uuid"), UUID, same(st.uuids()))
ALONE = (
    st.sampled_from(
        [
            LIST,
            DATE,
            INSTANT,
            IDENTITY,
            Rich("long", logical("long", "timestamp-millis"), datetime, same(MILLIS)),
            Rich("long", logical("long", "time-micros"), time, same(TIMES)),
            Rich("long", logical("long", "duration-micros"), timedelta, SPANS),
            # numbers, text and bytes where the class has these
            Rich("long", logical("long", "timestamp-micros"), int, same(st.integers(-(2**63), 2**63 - 1))),
            Rich("string", logical("string", "uuid"), str, same(st.text("ab-"))),
            Rich("bytes", logical("bytes", "decimal", precision=4, scale=2), bytes, same(st.binary(max_size=3))),
        ]
    )
    | ANY_DECIMAL
    | enums()
    | literals()
)


@st.composite
def unions(draw: st.DrawFn) -> Rich:
    """Of several of them, in an order of its own in the class; no two are of one type in Avro, or in Python."""
    null = Rich("null", "null", type(None), same(st.none()))
    number = Rich("double", "double", float, same(st.floats(allow_nan=False, allow_infinity=False)))
    flag = Rich("boolean", "boolean", bool, same(st.booleans()))
    every = [null, number, flag, LIST, DATE, INSTANT, IDENTITY, draw(decimals()), draw(enums()), draw(enums())]
    of = {each.annotation: each for each in draw(st.permutations(every))[: draw(st.integers(1, 6))]}
    members = draw(st.permutations(list(of)))
    tagged = [each.values.map(lambda pair, name=each.name: (pair[0], (name, pair[1]))) for each in of.values()]
    return Rich("", [each.schema for each in of.values()], reduce(or_, members), st.one_of(tagged))


@st.composite
def rich_types(draw: st.DrawFn) -> Rich:
    """Any of these, perhaps under a name of its own."""
    rich = draw(ALONE | unions())
    wrap = draw(
        st.sampled_from([lambda hint: hint, lambda hint: NewType("Own", hint), lambda hint: Annotated[hint, "a name"]])
    )
    return rich._replace(annotation=wrap(rich.annotation))
