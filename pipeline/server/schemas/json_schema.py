"""The JSON schema of types and message classes."""

from __future__ import annotations

import dataclasses
from typing import Any, get_args, get_origin

from pipeline.adapters.avro.binding import alternatives, field_hints

Json = dict[str, Any]
LONG: Json = {"type": "integer", "minimum": -(2**63), "maximum": 2**63 - 1}
PRIMITIVES: dict[Any, Json] = {
    str: {"type": "string"},
    int: LONG,
    float: {"type": "number"},
    bool: {"type": "boolean"},
    bytes: {"type": "string", "contentEncoding": "base64"},
    type(None): {"type": "null"},
}


def json_schema(hint: Any, *, tagged: bool = False) -> Json:
    """Return the JSON schema of a type or message class. `tagged`: records have their class's name as `type`."""
    options = alternatives(hint)
    if len(options) > 1:
        records = sum(dataclasses.is_dataclass(option) for option in options)
        return {"oneOf": [json_schema(option, tagged=tagged or records > 1) for option in options]}
    (option,) = options
    if option in PRIMITIVES:
        return PRIMITIVES[option]
    if get_origin(option) is tuple:
        return {"type": "array", "items": json_schema(get_args(option)[0])}
    if get_origin(option) is dict:
        return {"type": "object", "additionalProperties": json_schema(get_args(option)[1])}
    return _record(option, tagged=tagged)


def _record(cls: Any, *, tagged: bool) -> Json:
    properties = {"type": {"const": cls.__name__}} if tagged else {}
    properties |= {name: json_schema(hint) for name, hint in field_hints(cls).items()}
    schema = {"type": "object", "properties": properties, "additionalProperties": False}
    without_default = {
        field.name
        for field in dataclasses.fields(cls)
        if field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING
    }
    required = [name for name in properties if name == "type" or name in without_default]
    return {"title": cls.__name__, **schema, **({"required": required} if required else {})}
