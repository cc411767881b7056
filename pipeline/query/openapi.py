"""The OpenAPI document of a worker: its pages, with the commands, events and rows of the topology that it runs."""

from __future__ import annotations

import dataclasses
from importlib.metadata import version
from typing import Any, get_args, get_origin

from pipeline.adapters.avro.binding import alternatives, field_hints
from pipeline.client.commands import ID_BYTES_MAX, KEY_BYTES_MAX
from pipeline.model import Aggregate
from pipeline.topology import Topology

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


def _commands(aggregate: Aggregate[Any, Any, Any]) -> Json:
    return {"oneOf": [json_schema(cls, tagged=True) for cls in alternatives(aggregate.command)]}


def _accepted(aggregate: Aggregate[Any, Any, Any]) -> Json:
    events = {"oneOf": [json_schema(cls, tagged=True) for cls in alternatives(aggregate.event)]}
    properties = {
        "outcome": {"const": "accepted"},
        "version": {**LONG, "description": "of the aggregate, after the command"},
        "events": {"type": "array", "items": events},
        "position": {
            "type": "string",
            "description": "token of where the command stands: <topic>/<partition>/<offset>",
        },
        "complete": {"type": "boolean", "description": "false where the events were too large to be told here"},
    }
    return {"type": "object", "properties": properties, "required": list(properties)}


REJECTED: Json = {
    "type": "object",
    "properties": {
        "outcome": {"const": "rejected"},
        "reason": {"type": "string"},
        "details": {"type": "object", "additionalProperties": {"type": "string"}},
    },
    "required": ["outcome", "reason", "details"],
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
PENDING: Json = {
    "type": "object",
    "properties": {
        "command_id": {"type": "string"},
        "position": {"type": ["string", "null"]},
        "detail": {"type": "string"},
    },
    "required": ["command_id"],
}


def _json(description: str, schema: Json, **more: Any) -> Json:
    return {"description": description, "content": {"application/json": {"schema": schema}}, **more}


def _problems(**why: str) -> Json:
    content = {"application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}}
    return {status.removeprefix("s"): {"description": text, "content": content} for status, text in why.items()}


UNAVAILABLE = "no worker or broker can answer just now; Retry-After says when to ask again"


def _header(name: str, description: str, **schema: Any) -> Json:
    return {"name": name, "in": "header", "description": description, "schema": {"type": "string", **schema}}


def _send(aggregate: Aggregate[Any, Any, Any]) -> Json:
    return {
        "summary": f"Send a command to {aggregate.name}",
        "operationId": f"send_{aggregate.name}",
        "parameters": [
            KEY,
            _header(
                "Prefer", "`wait=5`: seconds to wait for the outcome; `respond-async`: none", pattern="^wait=[0-9]$"
            ),
            _header(
                "Idempotency-Key",
                "the command's id: the same for the same request, however often it is sent",
                pattern="^[A-Za-z0-9_-]+$",
                maxLength=ID_BYTES_MAX,
            ),
            _header("If-Match", "the version that the aggregate must be at", pattern='^"?[0-9]{1,18}"?$'),
        ],
        "requestBody": {"required": True, "content": {"application/json": {"schema": _commands(aggregate)}}},
        "responses": {
            "200": _json("decided", _accepted(aggregate)),
            "202": _json("not decided yet, or not within the wait", PENDING),
            **_problems(
                s400="a header cannot be used",
                s409="rejected: by the aggregate, for another version, or for an id that stands for something else",
                s413="the body is too large",
                s422="the command does not fit its schema",
                s503=UNAVAILABLE,
            ),
        },
    }


def _outcome(aggregate: Aggregate[Any, Any, Any]) -> Json:
    command_id = {"name": "id", "in": "path", "required": True, "schema": {"type": "string", "minLength": 1}}
    return {
        "summary": f"What became of a command to {aggregate.name}",
        "operationId": f"outcome_{aggregate.name}",
        "parameters": [KEY, command_id],
        "responses": {
            "200": _json("decided", {"oneOf": [_accepted(aggregate), REJECTED]}),
            **_problems(s404="nothing is known of it, or not yet", s422="the key is not UTF-8", s503=UNAVAILABLE),
        },
    }


def _row(table: str, row: Any, *, versioned: bool) -> Json:
    properties: Json = {"key": {"type": "string"}, "row": json_schema(row)}
    if versioned:
        properties |= {"version": LONG, "time_ms": LONG}
    return {
        "summary": f"A row of {table}",
        "operationId": f"row_{table}",
        "parameters": [KEY],
        "responses": {
            "200": _json("the row", {"type": "object", "properties": properties, "required": list(properties)}),
            **_problems(s400="a parameter cannot be used", s404="no such row", s503=UNAVAILABLE),
        },
    }


def document(topology: Topology) -> Json:
    """The document, as JSON holds it."""
    paths: Json = {}
    for service in topology.services.values():
        for aggregate in service.aggregates:
            paths[f"/v1/commands/{aggregate.name}/{{key}}"] = {"post": _send(aggregate)}
            paths[f"/v1/commands/{aggregate.name}/{{key}}/{{id}}"] = {"get": _outcome(aggregate)}
            row = _row(aggregate.name, type(aggregate.initial), versioned=True)
            paths[f"/v1/tables/{aggregate.name}/{{key}}"] = {"get": row}
        others = [(table.name, table.initial) for table in service.projections]
        others += [(table.name, table.initial) for table in service.replicas]
        for name, initial in others:
            paths[f"/v1/tables/{name}/{{key}}"] = {"get": _row(name, type(initial), versioned=False)}
    anything: Json = {"type": "object"}
    paths["/v1/tables"] = {"get": {"summary": "All tables", "responses": {"200": _json("by service", anything)}}}
    paths["/v1/status"] = {"get": {"summary": "This worker", "responses": {"200": _json("by service", anything)}}}
    return {
        "openapi": "3.1.0",
        "info": {"title": topology.name, "version": version("kafka-pipeline")},
        "paths": paths,
        "components": {"schemas": {"Problem": PROBLEM}},
    }
