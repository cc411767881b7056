"""Pieces that OpenAPI documents are put together from."""

from __future__ import annotations

from typing import Any

from pipeline.client.commands import KEY_BYTES_MAX
from pipeline.server.openapi.json_schema import Json

KEY: Json = {
    "name": "key",
    "in": "path",
    "required": True,
    "schema": {"type": "string", "minLength": 1, "maxLength": KEY_BYTES_MAX},
    "description": f"id of the aggregate, or key of the row; at most {KEY_BYTES_MAX} bytes of UTF-8",
}
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
