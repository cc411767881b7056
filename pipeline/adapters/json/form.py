"""What JSON says of a value by itself, and where it has to say more: the rules that writing and reading share.

Records are objects, tuples and lists are lists, bytes base64; decimals, dates, times, durations and UUIDs are text, and
members of an Enum their names. If several members of a union have the same form, a value of one is an object that names
the member as `type`: a record with its fields beside that; any other value, and a record that has a field `type` of its
own, in `value`.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from typing import Any, Literal, get_origin
from uuid import UUID

from pipeline.adapters.avro.binding import field_hints, is_message
from pipeline.adapters.avro.conversions import is_enum
from pipeline.model.fields import alternatives

TYPE, VALUE = "type", "value"
DURATION = re.compile(
    r"(?P<sign>-)?P(?:(?P<days>\d+)D)?(?:T(?=\d)(?:(?P<hours>\d+)H)?(?:(?P<minutes>\d+)M)?"
    r"(?:(?P<seconds>\d+)(?:\.(?P<fraction>\d{1,6}))?S)?)?"
)


def duration_text(value: timedelta) -> str:
    """Return a duration as ISO 8601 has it, in days and seconds, such as P1DT0.5S."""
    sign, value = ("-", -value) if value < timedelta() else ("", value)
    fraction = f".{value.microseconds:06}".rstrip("0") if value.microseconds else ""
    time = f"T{value.seconds}{fraction}S" if value.seconds or fraction or not value.days else ""
    return f"{sign}P{f'{value.days}D' if value.days else ''}{time}"


def read_duration(text: str) -> timedelta:
    """Return the duration of a text of ISO 8601, in days and parts of them. Raises ValueError."""
    found = DURATION.fullmatch(text)
    if found is None or not any(found[part] for part in ("days", "hours", "minutes", "seconds")):
        raise ValueError(f"{text!r:.100} is no duration")
    days, hours, minutes, seconds = (int(found[part] or 0) for part in ("days", "hours", "minutes", "seconds"))
    micros = int((found["fraction"] or "0").ljust(6, "0"))
    try:
        value = timedelta(days, seconds, micros, minutes=minutes, hours=hours)
    except OverflowError as error:
        raise ValueError(str(error)) from None
    return -value if found["sign"] else value


def read_moment(text: str) -> datetime:
    """Return the time of a text of ISO 8601 with its zone. Raises ValueError."""
    value = datetime.fromisoformat(text)
    if value.tzinfo is None:
        raise ValueError(f"{text!r:.100} does not say its zone")
    return value


TEXTS: dict[type, Callable[[str], Any]] = {  # types whose values are text in JSON, and what reads it
    Decimal: Decimal,
    datetime: read_moment,
    date: date.fromisoformat,
    time: time.fromisoformat,
    timedelta: read_duration,
    UUID: UUID,
}
FORMS: dict[type, str] = {  # what such a text looks like, for errors
    Decimal: 'a decimal as text, such as "10.50"',
    datetime: 'a time in ISO 8601 with its zone, such as "2026-12-01T10:00:00Z"',
    date: 'a date as text, such as "2026-12-01"',
    time: 'a time of day as text, such as "10:00:00"',
    timedelta: 'a duration in ISO 8601, such as "PT15M"',
    UUID: "a UUID as text",
}
NOT_FINITE = {"NaN": float("nan"), "Infinity": float("inf"), "-Infinity": float("-inf")}  # JSON has no such numbers


def name_of(option: Any) -> str:
    """Return what a member of a union is called."""
    origin = get_origin(option) or option
    return {tuple: "list", dict: "map", Literal: "str"}.get(origin) or str(getattr(origin, "__name__", origin))


def named_members(hint: Any) -> tuple[Any, ...]:
    """Return the members of a union whose values have to be named in JSON."""
    options = [option for option in alternatives(hint) if option is not type(None)]
    objects = [option for option in options if is_message(option) or get_origin(option) is dict]
    texts = [option for option in options if is_text(option)]
    named = objects if len(objects) > 1 else []
    return (*named, *([option for option in texts if option is not str] if len(texts) > 1 else []))


def is_text(option: Any) -> bool:
    """Return whether the values of a type are text in JSON."""
    return option in (str, bytes, *TEXTS) or get_origin(option) is Literal or is_enum(option)


def is_wrapped(option: Any) -> bool:
    """Return whether a named value is in `value`, and not beside its name."""
    return not is_message(option) or TYPE in field_hints(option)
