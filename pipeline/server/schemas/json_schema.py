"""The JSON schema of types and message classes; adapters.json.form has the rules by which their values are written."""

from __future__ import annotations

from datetime import date, datetime, time, timedelta
from decimal import Decimal
from typing import Any, Literal, get_args, get_origin
from uuid import UUID

from pipeline.adapters.avro.binding import alternatives, field_hints, given_fields, is_message
from pipeline.adapters.avro.conversions import is_enum
from pipeline.adapters.json.form import TYPE, VALUE, is_wrapped, name_of, named_members

Json = dict[str, Any]
LONG: Json = {"type": "integer", "minimum": -(2**63), "maximum": 2**63 - 1}
PRIMITIVES: dict[Any, Json] = {
    str: {"type": "string"},
    int: LONG,
    float: {"type": "number"},
    bool: {"type": "boolean"},
    bytes: {"type": "string", "contentEncoding": "base64"},
    type(None): {"type": "null"},
    Decimal: {"type": "string", "format": "decimal"},
    datetime: {"type": "string", "format": "date-time"},
    date: {"type": "string", "format": "date"},
    time: {"type": "string", "format": "time-local"},
    timedelta: {"type": "string", "pattern": "^-?P"},
    UUID: {"type": "string", "format": "uuid"},
}


def json_schema(hint: Any, *, tagged: bool = False) -> Json:
    """Return the JSON schema of a type or message class. `tagged`: of what is written so, as commands and events are.

    Records in what is tagged may leave out their class's name, unless they are members of a union.
    """
    return _schema(hint, tagged=tagged, is_named=tagged)


def _schema(hint: Any, *, tagged: bool, is_named: bool = False) -> Json:
    """Return the schema of a type. `is_named`: the value must say what it is."""
    options = alternatives(hint)
    if len(options) > 1:
        named = named_members(hint)
        members = [_schema(each, tagged=tagged, is_named=is_named or each in named) for each in options]
        return {"anyOf" if {int, float} <= {*options} else "oneOf": members}  # an integer is a number, too
    (option,) = options
    if is_message(option):
        return _record(option, tagged=tagged, is_named=is_named)
    schema = _plain(option, tagged=tagged)
    return _wrapped(option, schema) if is_named else schema


def _plain(option: Any, *, tagged: bool) -> Json:
    if get_origin(option) in (tuple, list):
        return {"type": "array", "items": _schema(get_args(option)[0], tagged=tagged)}
    if get_origin(option) is dict:
        return {"type": "object", "additionalProperties": _schema(get_args(option)[1], tagged=tagged)}
    if get_origin(option) is Literal:
        return {"enum": list(get_args(option))}
    if is_enum(option):
        return {"enum": [member.name for member in option]}
    return PRIMITIVES[option]


def _record(cls: Any, *, tagged: bool, is_named: bool) -> Json:
    fields = {name: _schema(hint, tagged=tagged) for name, hint in field_hints(cls).items()}
    required = [name for name, is_needed in given_fields(cls).items() if is_needed]
    plain = _object(cls, fields, required)
    if is_wrapped(cls):
        wrapped = _wrapped(cls, plain)
        return wrapped if is_named else {"oneOf": [plain, wrapped]} if tagged else plain
    if not tagged and not is_named:
        return plain
    return _object(cls, {TYPE: {"const": name_of(cls)}, **fields}, [TYPE, *required] if is_named else required)


def _object(cls: Any, properties: Json, required: list[str]) -> Json:
    schema = {"title": cls.__name__, "type": "object", "properties": properties, "additionalProperties": False}
    return {**schema, **({"required": required} if required else {})}


def _wrapped(option: Any, schema: Json) -> Json:
    properties = {TYPE: {"const": name_of(option)}, VALUE: schema}
    return {"type": "object", "properties": properties, "required": [TYPE, VALUE], "additionalProperties": False}
