"""Writes values as JSON: messages, rows, and what is in them. The only place that does; see `form` for the rules."""

from __future__ import annotations

import json
import math
from base64 import b64encode
from collections.abc import Callable
from datetime import timedelta
from enum import Enum
from functools import lru_cache
from typing import Any, get_args, get_origin

from pipeline.adapters.avro.binding import field_hints, is_message, kind_of
from pipeline.adapters.json.form import (
    NOT_FINITE,
    TEXTS,
    TYPE,
    VALUE,
    duration_text,
    is_wrapped,
    name_of,
    named_members,
)
from pipeline.model import StateMessage
from pipeline.model.fields import alternatives

Write = Callable[[Any], Any]
HINTS_MAX = 10_000  # whose writers are kept
TEXT_TYPES = tuple(TEXTS)


def json_text(value: Any, *, readable: bool = False, indent: int | None = None) -> str:
    """Return JSON as text, in ASCII unless people are to read it. Raises ValueError for a number that JSON lacks."""
    return json.dumps(value, ensure_ascii=not readable, allow_nan=False, indent=indent)


def to_json(value: Any, *, tagged: bool = False) -> Any:
    """Return a value for JSON. `tagged`: every record has its class's name as `type`, as in commands and events."""
    return _by_value(tagged)(value)


def row_json(value: Any) -> dict[str, Any]:
    """Return a table's value for JSON: the author's row, and for an aggregate's state its version and time."""
    if isinstance(value, StateMessage):
        return {**row_json(value.body), "version": value.version, "time_ms": value.time_ms}
    return {"row": to_json(value)}


@lru_cache(2)
def _by_value(tagged: bool) -> Write:
    """Return what writes a value by its own class: one that no hint describes."""

    def write(value: Any) -> Any:
        if is_message(type(value)):
            cls: Any = type(value)
            return _record(cls, tagged)(value)
        if isinstance(value, (tuple, list)):
            return [write(each) for each in value]
        if isinstance(value, dict):
            return {key: write(each) for key, each in value.items()}
        return scalar(value)

    return write


def scalar(value: Any) -> Any:
    """Return a value without parts for JSON."""
    if isinstance(value, bytes):
        return b64encode(value).decode()
    if isinstance(value, float) and not math.isfinite(value):  # from a record of another's, or of long ago
        return next(text for text, number in NOT_FINITE.items() if number == value or math.isnan(value))
    if isinstance(value, Enum):
        return value.name
    if isinstance(value, timedelta):
        return duration_text(value)
    if isinstance(value, TEXT_TYPES):
        return value.isoformat() if hasattr(value, "isoformat") else str(value)
    return value


@lru_cache(HINTS_MAX)
def _by_hint(hint: Any, tagged: bool) -> Write:
    """Return what writes a value of a field with that annotation."""
    named = named_members(hint)
    options = [option for option in alternatives(hint) if option is not type(None)]
    if len(options) > 1:
        return _member([(option, _by_hint(option, tagged), option in named) for option in options], tagged)
    origin, items = get_origin(options[0]) if options else None, get_args(options[0]) if options else ()
    plain = _by_value(tagged)
    if origin in (tuple, list):
        item = _by_hint(items[0], tagged)
        return lambda value: [item(each) for each in value] if type(value) is origin else plain(value)
    if origin is dict:
        item = _by_hint(items[1], tagged)
        return lambda value: (
            {key: item(each) for key, each in value.items()} if isinstance(value, dict) else plain(value)
        )
    return plain


def _member(options: list[tuple[Any, Write, bool]], tagged: bool) -> Write:
    """Return what writes a member of a union. `options`: each with its writer, and whether it has to be named."""
    plain = _by_value(tagged)

    def write(value: Any) -> Any:
        for option, written, is_named in options:
            if type(value) is kind_of(option):
                if not is_named:
                    return written(value)
                if is_message(option):
                    return written(value) if tagged else _named(option, written(value))
                return {TYPE: name_of(option), VALUE: written(value)}
        return plain(value)

    return write


@lru_cache(HINTS_MAX)
def _record(cls: Any, tagged: bool) -> Write:
    """Return what writes a record."""
    fields = [(name, _by_hint(hint, tagged)) for name, hint in field_hints(cls).items()]

    def write(value: Any) -> Any:
        shown = {name: write_field(getattr(value, name)) for name, write_field in fields}
        return _named(cls, shown) if tagged else shown

    return write


def _named(cls: Any, fields: dict[str, Any]) -> dict[str, Any]:
    """Return a record's fields with the name of its class."""
    return {TYPE: name_of(cls), VALUE: fields} if is_wrapped(cls) else {TYPE: name_of(cls), **fields}
