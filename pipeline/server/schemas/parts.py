"""Parts that many schemas share."""

from __future__ import annotations

from typing import Any

from pipeline.server.operator_input import TEXT_MAX
from pipeline.server.schemas.components import Named
from pipeline.server.schemas.json_schema import LONG, Json

Schema = Json | Named
TEXT: Json = {"type": "string"}
TEXTS: Json = {"type": "array", "items": TEXT}
MAYBE: Json = {"type": ["string", "null"]}
DATE_TIME: Json = {"type": "string", "format": "date-time"}
COUNT: Json = {"type": "integer", "minimum": 0, "maximum": 2**63 - 1}
WAIT: Json = {"type": "integer", "minimum": 0, "maximum": 60}
WHO: Json = {"type": "string", "minLength": 1, "maxLength": TEXT_MAX, "pattern": "^[ -~]+$"}
TOKEN = r"^[a-z]{1,9}\.(command|event)/[0-9]{1,2}@[0-9]{1,9}$"
PROBLEM: Json = {
    "type": "object",
    "description": "RFC 9457",
    "properties": {"type": TEXT, "title": TEXT, "status": {"type": "integer"}, "detail": TEXT, "error": TEXT},
    "required": ["type", "title", "status", "detail", "error"],
}


def text(description: str) -> Json:
    """Return the schema of a text with a description."""
    return {**TEXT, "description": description}


def fields(properties: Json, **more: Any) -> Json:
    """Return the schema of an object with all of these properties."""
    return {"type": "object", "properties": properties, "required": list(properties), **more}


def only(properties: Json) -> Json:
    """Return the schema of an object with exactly these properties."""
    return fields(properties, additionalProperties=False)


def several(item: Schema, **more: Any) -> Json:
    """Return the schema of an array."""
    return {"type": "array", "items": item, **more}


def in_json(description: str, schema: Schema, **more: Any) -> Json:
    """Return a response in JSON."""
    return {"description": description, "content": {"application/json": {"schema": schema}}, **more}


VERSION: Json = {**LONG, "description": "the aggregate's version after the command"}
