"""Python types that Avro has no type of its own for: what is written for their values, and how it is read back.

| Python                 | Avro                                                                        |
|------------------------|-----------------------------------------------------------------------------|
| Decimal                | bytes or fixed, logicalType decimal                                         |
| datetime, aware        | long, logicalType timestamp-micros or timestamp-millis; in UTC if read back |
| date                   | int, logicalType date                                                       |
| time, naive            | long, logicalType time-micros                                               |
| timedelta              | long, logicalType duration-micros, which other readers ignore               |
| UUID                   | string, logicalType uuid                                                    |
| Enum                   | enum of the members' names                                                  |
| Literal of texts       | enum of the same texts; or string, which may name them as "texts"           |
| list                   | array, as for a tuple                                                       |

All is whole numbers, never floats: what is written is read back exactly, or refused.
"""

from __future__ import annotations

import decimal
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from enum import Enum, Flag
from operator import attrgetter
from typing import Any, Literal, get_args, get_origin
from uuid import UUID

MICROSECOND = timedelta(microseconds=1)
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
EPOCH_DAY = date(1970, 1, 1).toordinal()
FIRST, LAST = ((t.replace(tzinfo=UTC) - EPOCH) // MICROSECOND for t in (datetime.min, datetime.max))
DAY = timedelta(days=1) // MICROSECOND


@dataclass(frozen=True, eq=False, slots=True)
class Conversion:
    """Both ways between the values of a Python type and those that Avro has.

    `type`: the values' very type. Both functions raise ValueError if a value cannot be converted; `to_avro` says what
    it "must" be. `inexact`: a value may be read back as another, or as one that tells itself otherwise.
    """

    type: type
    to_avro: Callable[[Any], Any]
    from_avro: Callable[[Any], Any]
    inexact: bool = False


@dataclass(frozen=True, eq=False, slots=True)
class Converted:
    """Stands in a bound schema for `inner`, whose values become those of another type."""

    inner: Any
    conversion: Conversion


LIST = Conversion(list, tuple, list)


class UnknownSymbol(ValueError):
    """A symbol of an enum, or a text of a Literal, that the class which reads it does not have."""

    def __init__(self, name: str, symbol: str) -> None:
        super().__init__(f"{name} has no {symbol!r:.100}, which the enum of the topic's owner has; add it to the class")


class UnknownText(ValueError):
    """A text that a Literal does not have, where the schema that it is read with does not say which there are."""


class _Members(dict[str, Any]):
    """What is read for each symbol."""

    def __init__(self, name: str, members: Mapping[str, Any]) -> None:
        super().__init__(members)
        self._name = name

    def __missing__(self, symbol: str) -> Any:
        raise UnknownSymbol(self._name, symbol)


def is_converted(kind: Any) -> bool:
    """Return whether the values of an annotation have to be converted, whatever the schema."""
    return get_origin(kind) is Literal or is_enum(kind) or (isinstance(kind, type) and kind in CONVERSIONS)


def is_enum(kind: Any) -> bool:
    """Return whether a type is an Enum."""
    return isinstance(kind, type) and issubclass(kind, Enum)


def conversion_for(kind: Any, definition: Any, *, follows: bool = False) -> Conversion:
    """Return the conversion between a Python type and a type of Avro, given with its logical type.

    `follows`: values are only read, and their writer's enum may have more symbols. Raises ValueError if they do not go
    together.
    """
    described = definition if isinstance(definition, dict) else {"type": definition}
    if get_origin(kind) is Literal:
        return _literal(get_args(kind), described, follows)
    if kind not in CONVERSIONS:
        return _enum(kind, described, follows)
    needs, make = CONVERSIONS[kind]
    avro, logical = described["type"], described.get("logicalType")
    if (avro, logical) not in needs:
        wanted = " or ".join(f"{avro!r} with logicalType {logical}" for avro, logical in needs)
        found = f"{avro!r} with logicalType {logical}" if logical else repr(avro)
        raise ValueError(f"{kind.__name__} needs {wanted}, not {found}")
    return make(described)


def is_convertible(kind: Any, definition: Any, *, follows: bool = False) -> bool:
    """Return whether there is a conversion between both."""
    try:
        conversion_for(kind, definition, follows=follows)
    except ValueError:
        return False
    return True


def _decimal(described: dict[str, Any]) -> Conversion:
    precision, scale = described.get("precision"), described.get("scale", 0)
    if type(precision) is not int or type(scale) is not int or not 0 <= scale <= precision or precision < 1:
        raise ValueError(f"a decimal needs precision > 0 and 0 <= scale <= precision, not {precision} and {scale}")
    size = described.get("size")
    limit = 10**precision
    if size is not None and limit > 1 << (8 * size - 1):
        raise ValueError(f"a fixed of {size} bytes is too small for a decimal of precision {precision}")
    exact = decimal.Context(precision, Emin=decimal.MIN_EMIN, Emax=decimal.MAX_EMAX, traps=[])
    exact.traps[decimal.InvalidOperation] = exact.traps[decimal.Inexact] = True
    unit = Decimal((0, (1,), -scale))

    def to_avro(value: Decimal) -> bytes:
        try:
            number = int(value.quantize(unit, context=exact).scaleb(scale, exact))
        except (
            decimal.Inexact,
            decimal.InvalidOperation,
            ValueError,
        ):  # the last: NaN and infinity are no whole number
            why = f"a finite number of at most {precision} digits, {scale} of them after the point"
            raise ValueError(f"must be {why}, not {value!s:.100}") from None
        return number.to_bytes(size or number.bit_length() // 8 + 1, "big", signed=True)

    def from_avro(data: bytes) -> Decimal:
        number = int.from_bytes(data, "big", signed=True)
        if not -limit < number < limit:  # noted before it is made a Decimal, which takes long for very long ones
            raise ValueError(f"a decimal of more than {precision} digits")
        return Decimal(number).scaleb(-scale, exact)

    return Conversion(Decimal, to_avro, from_avro, inexact=True)


def _datetime(described: dict[str, Any]) -> Conversion:
    unit = {"timestamp-micros": 1, "timestamp-millis": 1000}[described["logicalType"]]

    def to_avro(value: datetime) -> int:
        if value.utcoffset() is None:
            raise ValueError(f"must have a timezone, as datetime.now(UTC) has; {value} is naive")
        micros = (value - EPOCH) // MICROSECOND
        if not FIRST <= micros <= LAST:
            raise ValueError(f"must be in the years 1 to 9999 in UTC, which {value} is not")
        if micros % unit:
            raise ValueError(f"must be in whole milliseconds, as its timestamp-millis has no more, not {value}")
        return micros // unit

    return Conversion(datetime, to_avro, lambda n: EPOCH + timedelta(microseconds=n * unit), inexact=True)


def _date(_: dict[str, Any]) -> Conversion:
    return Conversion(date, lambda day: day.toordinal() - EPOCH_DAY, lambda n: date.fromordinal(n + EPOCH_DAY))


def _time(_: dict[str, Any]) -> Conversion:
    def to_avro(value: time) -> int:
        if value.tzinfo is not None:
            raise ValueError(f"must be a time without timezone, not {value}")
        return ((value.hour * 60 + value.minute) * 60 + value.second) * 1_000_000 + value.microsecond

    def from_avro(micros: int) -> time:
        if not 0 <= micros < DAY:
            raise ValueError(f"{micros} microseconds are no time of a day")
        return (datetime.min + timedelta(microseconds=micros)).time()

    return Conversion(time, to_avro, from_avro, inexact=True)  # without a fold


def _timedelta(_: dict[str, Any]) -> Conversion:
    return Conversion(timedelta, lambda value: value // MICROSECOND, lambda micros: timedelta(microseconds=micros))


def _uuid(_: dict[str, Any]) -> Conversion:
    return Conversion(UUID, str, UUID)


def _enum(cls: Any, described: dict[str, Any], follows: bool) -> Conversion:
    if issubclass(cls, Flag):
        raise ValueError(f"{cls.__name__} is a Flag, whose combinations no enum of Avro has")
    members = {member.name: member for member in cls}
    _check_symbols(cls.__name__, members, described, follows)
    return Conversion(cls, attrgetter("_name_"), _Members(cls.__name__, members).__getitem__)


def _literal(texts: tuple[Any, ...], described: dict[str, Any], follows: bool) -> Conversion:
    name = f"Literal[{', '.join(map(repr, texts))}]"
    if not all(type(text) is str for text in texts):
        raise ValueError(f"a Literal must be of texts, not of {', '.join(map(repr, texts))}")
    noted = described.get("texts")
    if described["type"] != "string":
        _check_symbols("a Literal", texts, described, follows)
    elif noted is not None:
        _check_same("a Literal", texts, "the texts", noted, follows)

    def checked(text: str) -> str:
        if text not in texts:
            raise ValueError(f"must be {' or '.join(map(repr, texts))}, not {text!r:.100}")
        return text

    def read(text: str) -> str:
        if text not in texts:
            raise UnknownText(f"{name} has no {text!r:.100}; add it to the class if newer code writes it")
        return text

    members = _Members(name, dict(zip(texts, texts, strict=True))).__getitem__
    return Conversion(str, checked, read if described["type"] == "string" and noted is None else members)


def _check_symbols(name: str, needed: Any, described: dict[str, Any], follows: bool) -> None:
    if described["type"] != "enum":
        raise ValueError(f"{name} needs an enum, not {described['type']!r}")
    _check_same(name, needed, f"the enum {described['name']!r}", described["symbols"], follows)


def _check_same(name: str, needed: Any, what: str, written: Any, follows: bool) -> None:
    if differing := sorted({*needed} - {*written} if follows else {*needed} ^ {*written}):
        raise ValueError(f"{name} and {what} differ in {', '.join(differing)}")


CONVERSIONS: dict[Any, tuple[tuple[tuple[str, str], ...], Callable[[dict[str, Any]], Conversion]]] = {
    Decimal: ((("bytes", "decimal"), ("fixed", "decimal")), _decimal),
    datetime: ((("long", "timestamp-micros"), ("long", "timestamp-millis")), _datetime),
    date: ((("int", "date"),), _date),
    time: ((("long", "time-micros"),), _time),
    timedelta: ((("long", "duration-micros"),), _timedelta),
    UUID: ((("string", "uuid"),), _uuid),
}
