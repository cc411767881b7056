"""What JSON says of a value by itself, and where it has to say more: the rules that writing and reading share.

Records are objects, tuples lists, bytes base64; decimals, dates, times and UUIDs are text. If several members of a
union have the same form, a value of one is an object that names the member as `type`: a record with its fields beside
that; any other value, and a record that has a field `type` of its own, in `value`.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import date, datetime, time
from decimal import Decimal
from typing import Any, get_origin
from uuid import UUID

from pipeline.adapters.avro.binding import alternatives, field_hints, is_message

TYPE, VALUE = "type", "value"
TEXTS: dict[type, Callable[[str], Any]] = {  # types whose values are text in JSON, and what reads it
    Decimal: Decimal,
    datetime: datetime.fromisoformat,
    date: date.fromisoformat,
    time: time.fromisoformat,
    UUID: UUID,
}
NOT_FINITE = {"NaN": float("nan"), "Infinity": float("inf"), "-Infinity": float("-inf")}  # JSON has no such numbers


def name_of(option: Any) -> str:
    """Return what a member of a union is called."""
    origin = get_origin(option) or option
    return {tuple: "list", dict: "map"}.get(origin) or str(getattr(origin, "__name__", origin))


def named_members(hint: Any) -> tuple[Any, ...]:
    """Return the members of a union whose values have to be named in JSON."""
    options = [option for option in alternatives(hint) if option is not type(None)]
    objects = [option for option in options if is_message(option) or get_origin(option) is dict]
    texts = [option for option in options if option in (str, bytes, *TEXTS)]
    named = objects if len(objects) > 1 else []
    return (*named, *([option for option in texts if option is not str] if len(texts) > 1 else []))


def is_wrapped(option: Any) -> bool:
    """Return whether a named value is in `value`, and not beside its name."""
    return not is_message(option) or TYPE in field_hints(option)
