"""The JSON schema of types and message classes; adapters.json.form has the rules by which their values are written."""

from __future__ import annotations

from datetime import date, datetime, time, timedelta
from decimal import Decimal
from functools import cache
from typing import Any, Literal, get_args, get_origin
from uuid import UUID

from pipeline.adapters.avro.binding import field_hints, given_fields, is_message
from pipeline.adapters.avro.conversions import is_enum
from pipeline.adapters.json.form import TYPE, VALUE, is_wrapped, name_of, named_members
from pipeline.model.fields import alternatives

Json = dict[str, Any]
DEFS = "$defs"
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

    Records in what is tagged may leave out their class's name, unless they are members of a union. Those that contain
    themselves are among the schema's `$defs`.
    """
    writer = _Writer(tagged)
    schema = writer.schema(hint, is_named=tagged)
    return {**schema, DEFS: writer.defs} if writer.defs else schema


class _Writer:
    """Makes the schema of one type. `defs`: of the records in it that contain themselves."""

    def __init__(self, tagged: bool) -> None:
        self._tagged = tagged
        self.defs: dict[str, Json] = {}

    def schema(self, hint: Any, *, is_named: bool = False) -> Json:
        """Return the schema of a type. `is_named`: the value must say what it is."""
        options = alternatives(hint)
        if len(options) > 1:
            named = named_members(hint)
            members = [self.schema(each, is_named=is_named or each in named) for each in options]
            return {"anyOf" if {int, float} <= {*options} else "oneOf": members}  # an integer is a number, too
        (option,) = options
        if is_message(option):
            return self._referred(option, is_named) if contains_itself(option) else self._record(option, is_named)
        schema = self._plain(option)
        return _wrapped(option, schema) if is_named else schema

    def _plain(self, option: Any) -> Json:
        if get_origin(option) in (tuple, list):
            return {"type": "array", "items": self.schema(get_args(option)[0])}
        if get_origin(option) is dict:
            return {"type": "object", "additionalProperties": self.schema(get_args(option)[1])}
        if get_origin(option) is Literal:
            return {"enum": list(get_args(option))}
        if is_enum(option):
            return {"enum": [member.name for member in option]}
        return PRIMITIVES[option]

    def _referred(self, cls: Any, is_named: bool) -> Json:
        name = f"{cls.__name__}_named" if is_named else cls.__name__
        if name not in self.defs:
            self.defs[name] = {}  # here, as a field may contain it
            self.defs[name] = self._record(cls, is_named)
        return {"$ref": f"#/{DEFS}/{name}"}

    def _record(self, cls: Any, is_named: bool) -> Json:
        fields = {name: self.schema(hint) for name, hint in field_hints(cls).items()}
        required = [name for name, is_needed in given_fields(cls).items() if is_needed]
        plain = _object(cls, fields, required)
        if is_wrapped(cls):
            wrapped = _wrapped(cls, plain)
            return wrapped if is_named else {"oneOf": [plain, wrapped]} if self._tagged else plain
        if not self._tagged and not is_named:
            return plain
        return _object(cls, {TYPE: {"const": name_of(cls)}, **fields}, [TYPE, *required] if is_named else required)


@cache
def contains_itself(cls: Any) -> bool:
    """Return whether a value of a message class may have another of it somewhere inside."""
    waiting, seen = list(field_hints(cls).values()), set()
    while waiting:
        for option in alternatives(waiting.pop()):
            if option is cls:
                return True
            if not is_message(option):
                waiting += [part for part in get_args(option) if part is not Ellipsis]
            elif option not in seen:
                seen.add(option)
                waiting += field_hints(option).values()
    return False


def _object(cls: Any, properties: Json, required: list[str]) -> Json:
    schema = {"title": cls.__name__, "type": "object", "properties": properties, "additionalProperties": False}
    return {**schema, **({"required": required} if required else {})}


def _wrapped(option: Any, schema: Json) -> Json:
    properties = {TYPE: {"const": name_of(option)}, VALUE: schema}
    return {"type": "object", "properties": properties, "required": [TYPE, VALUE], "additionalProperties": False}
