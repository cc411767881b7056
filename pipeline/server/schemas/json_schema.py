"""The JSON schema of types and message classes; adapters.json.form has the rules by which their values are written."""

from __future__ import annotations

from datetime import date, datetime, time, timedelta
from decimal import Decimal
from typing import Any, Literal, NamedTuple, get_args, get_origin
from uuid import UUID

from pipeline.adapters.avro.binding import field_hints, given_fields, is_message
from pipeline.adapters.avro.conversions import is_enum
from pipeline.adapters.json.form import TYPE, VALUE, is_wrapped, name_of, named_members
from pipeline.model.fields import alternatives

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


class Shape(NamedTuple):
    """A message class in JSON. `says_its_name`: as `type`. In a schema it stands for a reference to its own schema."""

    cls: Any
    says_its_name: bool


def json_schema(hint: Any, *, tagged: bool = False) -> Json:
    """Return the JSON schema of a type, with a Shape in place of each reference to that of a message class.

    `tagged`: a record says its name, as commands and events do.
    """
    options = alternatives(hint)
    if len(options) > 1:
        named = named_members(hint)
        members = [json_schema(each, tagged=tagged or each in named) for each in options]
        return {"anyOf" if {int, float} <= {*options} else "oneOf": members}  # an integer is a number, too
    (option,) = options
    if is_message(option):
        return {"$ref": Shape(option, tagged)}
    schema = _plain(option)
    return _wrapped(option, schema) if tagged else schema


def record(shape: Shape, *, tagged: bool) -> Json:
    """Return the schema of a message class. `tagged`: it may be inside commands and events, and say its name there."""
    cls, says_its_name = shape
    fields = {name: json_schema(hint) for name, hint in field_hints(cls).items()}
    required = [name for name, is_needed in given_fields(cls).items() if is_needed]
    plain = _object(fields, required)
    if is_wrapped(cls):
        wrapped = _wrapped(cls, plain)
        return wrapped if says_its_name else {"oneOf": [plain, wrapped]} if tagged else plain
    if not tagged and not says_its_name:
        return plain
    return _object({TYPE: {"const": name_of(cls)}, **fields}, [TYPE, *required] if says_its_name else required)


def _plain(option: Any) -> Json:
    if get_origin(option) in (tuple, list):
        return {"type": "array", "items": json_schema(get_args(option)[0])}
    if get_origin(option) is dict:
        return {"type": "object", "additionalProperties": json_schema(get_args(option)[1])}
    if get_origin(option) is Literal:
        return {"enum": list(get_args(option))}
    if is_enum(option):
        return {"enum": [member.name for member in option]}
    return PRIMITIVES[option]


def _object(properties: Json, required: list[str]) -> Json:
    schema = {"type": "object", "properties": properties, "additionalProperties": False}
    return {**schema, **({"required": required} if required else {})}


def _wrapped(option: Any, schema: Json) -> Json:
    properties = {TYPE: {"const": name_of(option)}, VALUE: schema}
    return {"type": "object", "properties": properties, "required": [TYPE, VALUE], "additionalProperties": False}
