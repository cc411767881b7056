"""Pieces that OpenAPI documents are put together from."""

from __future__ import annotations

import dataclasses
from typing import Any, get_args, get_origin

from pipeline.adapters.avro.binding import alternatives, field_hints
from pipeline.client.commands import KEY_BYTES_MAX

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
KEY: Json = {
    "name": "key",
    "in": "path",
    "required": True,
    "schema": {"type": "string", "minLength": 1, "maxLength": KEY_BYTES_MAX},
    "description": f"id of the aggregate, or key of the row; at most {KEY_BYTES_MAX} bytes of UTF-8",
}


def json_schema(hint: Any, *, tagged: bool = False) -> Json:
    """The JSON schema of a type or message class. `tagged`: records carry their class's name as `type`."""
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


PROBLEM: Json = {
    "type": "object",
    "description": "RFC 9457",
    "properties": {
        "type": {"type": "string"},
        "title": {"type": "string"},
        "status": {"type": "integer"},
        "detail": {"type": "string"},
        "error": {"type": "string"},
    },
    "required": ["type", "title", "status", "detail", "error"],
}


def fields(properties: Json) -> Json:
    """An object with all of these."""
    return {"type": "object", "properties": properties, "required": list(properties)}


def parameter(name: str, schema: Json, description: str) -> Json:
    """A parameter of the query."""
    return {"name": name, "in": "query", "schema": schema, "description": description}


def in_json(description: str, schema: Json, **more: Any) -> Json:
    """An answer in JSON."""
    return {"description": description, "content": {"application/json": {"schema": schema}}, **more}


def problems(**why: str) -> Json:
    """Problem documents: `s404="…"` says when 404 is answered."""
    content = {"application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}}
    return {status.removeprefix("s"): {"description": text, "content": content} for status, text in why.items()}


UNAVAILABLE = "no worker or broker can answer just now; Retry-After says when to ask again"


def header(name: str, description: str, **schema: Any) -> Json:
    """A header of the request, a text."""
    return {"name": name, "in": "header", "description": description, "schema": {"type": "string", **schema}}
