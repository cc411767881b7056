"""The OpenAPI document of a worker: its pages, with the commands, events and rows of the topology that it runs."""

from __future__ import annotations

from importlib.metadata import version
from typing import Any

from pipeline.adapters.avro.binding import alternatives
from pipeline.client.commands import ID_BYTES_MAX
from pipeline.model import Aggregate
from pipeline.model.deadline import TIME_MS_MAX
from pipeline.model.saga.participant import participants
from pipeline.server.openapi.json_schema import LONG, Json, json_schema
from pipeline.server.openapi.parked import parked
from pipeline.server.openapi.parts import KEY, PROBLEM, UNAVAILABLE, fields, header, in_json, parameter, problems
from pipeline.server.openapi.sagas import saga_pages
from pipeline.server.openapi.tables import read_page, table_pages
from pipeline.topology import Topology


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
            "description": "token of where the command stands, such as users.command/3@77: for `at_least` of reads",
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
PARKED: Json = {
    "type": "object",
    "properties": {"outcome": {"const": "parked"}, "command_id": {"type": "string"}, "cause": {"type": "string"}},
    "required": ["outcome", "command_id", "cause"],
}
PENDING: Json = {
    "type": "object",
    "properties": {
        "command_id": {"type": "string"},
        "position": {"type": ["string", "null"]},
        "due_ms": {"type": ["integer", "null"], "description": "when it will be decided; null: as soon as it can be"},
        "parked": {
            "type": "string",
            "description": "why it is put aside, where it is: it is decided once it is redriven",
        },
        "detail": {"type": "string"},
    },
    "required": ["command_id"],
}


DATE_TIME: Json = {"type": "string", "format": "date-time"}
AT = parameter(
    "at",
    {"oneOf": [{"type": "integer", "minimum": 10**11, "maximum": TIME_MS_MAX}, DATE_TIME]},
    "The command is decided only then: milliseconds since the epoch, or ISO 8601, in UTC unless it says "
    "otherwise. A time that has passed: at once",
)


def _send(aggregate: Aggregate[Any, Any, Any]) -> Json:
    return {
        "summary": f"Send a command to {aggregate.name}",
        "operationId": f"send_{aggregate.name}",
        "parameters": [
            KEY,
            *([AT] if aggregate.deadlines else []),
            header(
                "Prefer",
                "`wait=5`: seconds to wait for the outcome; `respond-async`: none",
                pattern="^(wait=[0-9]{1,2}|respond-async)$",
            ),
            header(
                "Idempotency-Key",
                "the command's id: the same for the same request, however often it is sent",
                pattern="^[A-Za-z0-9_-]+$",
                maxLength=ID_BYTES_MAX,
            ),
            header(
                "X-Issued-At", "when the request was first sent, milliseconds since the epoch", pattern="^[0-9]{13}$"
            ),
            header("If-Match", "the version that the aggregate must be at", pattern='^"?[0-9]{1,18}"?$'),
        ],
        "requestBody": {"required": True, "content": {"application/json": {"schema": _commands(aggregate)}}},
        "responses": {
            "200": in_json("decided", _accepted(aggregate)),
            "202": in_json("stored; not decided yet, or not within the wait, or to be decided at its time", PENDING),
            **problems(
                s400="a header or parameter cannot be used",
                s409="rejected: by the aggregate, for another version, or for an id that stands for something else",
                s413="the body is too large",
                s415="the body is not application/json",
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
            "200": in_json("decided", {"oneOf": [_accepted(aggregate), REJECTED]}),
            "202": in_json(
                "not decided yet: scheduled, or put aside until it is redriven", {"anyOf": [PARKED, PENDING]}
            ),
            **problems(s404="nothing is known of it, or not yet", s422="the key is not UTF-8", s503=UNAVAILABLE),
        },
    }


MOMENT: Json = {
    "name": "as_of",
    "in": "query",
    "description": "A version, as a number below 100,000,000,000; or a time: any other number is milliseconds since "
    "the epoch, anything else ISO 8601, in UTC unless it says otherwise. Now where it is left out",
    "schema": {"oneOf": [{**LONG, "minimum": 0}, DATE_TIME]},
}
REACHED: Json = {
    "last": {**LONG, "description": "the last version that the history holds"},
    "current": {**LONG, "description": "the version that the table was at when it was asked"},
}


def _past(aggregate: Aggregate[Any, Any, Any], what: str, operation: str, parameters: list[Json], told: Json) -> Json:
    who: Json = {"aggregate": {"const": aggregate.name}, "key": {"type": "string"}}
    return {
        "summary": f"{what} of {aggregate.name}",
        "operationId": f"{operation}_{aggregate.name}",
        "parameters": [KEY, *parameters],
        "responses": {
            "200": in_json("as far as the history goes", fields({**who, **told, **REACHED})),
            **problems(
                s400="a parameter cannot be used",
                s404="nothing has happened to that key, or not yet so much",
                s410="the event log does not go back so far any more",
                s503="no worker can answer just now, or the history is being built; Retry-After says when to ask again",
            ),
        },
    }


def _history(aggregate: Aggregate[Any, Any, Any]) -> Json:
    event = {"oneOf": [json_schema(cls, tagged=True) for cls in alternatives(aggregate.event)]}
    texts: Json = {"command_id": {"type": "string"}, "correlation_id": {"type": "string"}}
    read: Json = {"type": ["string", "null"], "description": "token of what the decision has read of copies"}
    copies: Json = {"read": read} if aggregate.reads else {}
    told = fields({"version": LONG, "time_ms": LONG, **texts, "event": event, **copies})
    page: Json = {
        "events": {"type": "array", "items": told},
        "next": {"type": ["integer", "null"], "description": "`after` of the next page; null where there is none"},
        "first": {**LONG, "description": "the first version that the event log holds; 1 unless its beginning is gone"},
    }
    after: Json = {"name": "after", "in": "query", "schema": {**LONG, "minimum": 0, "default": 0}}
    limit: Json = {"name": "limit", "in": "query", "schema": {**LONG, "minimum": 1, "maximum": 1000, "default": 100}}
    return _past(aggregate, "What has happened to one", "history", [after, limit], page)


def _state_then(aggregate: Aggregate[Any, Any, Any]) -> Json:
    time_ms: Json = {"type": ["integer", "null"], "description": "of the last event in it; null before the first"}
    state: Json = {"row": json_schema(type(aggregate.initial)), "version": LONG, "time_ms": time_ms}
    return _past(aggregate, "The state that one had", "state", [MOMENT], state)


def _deadlines(aggregate: Aggregate[Any, Any, Any]) -> Json:
    told: Json = {
        "kind": {"enum": ["deadline", "scheduled"]},
        "name": {"type": "string", "description": "of the deadline; a scheduled command's id"},
        "due_ms": {"type": ["integer", "null"], "description": "null: it has been sent, and is about to be decided"},
        "command_id": {"type": "string"},
        "correlation_id": {"type": "string"},
        "command": _commands(aggregate),
    }
    found: Json = {"aggregate": {"const": aggregate.name}, "key": {"type": "string"}}
    found |= {"deadlines": {"type": "array", "items": fields(told)}, "complete": {"type": "boolean"}}
    return {
        "summary": f"What is still to come for one of {aggregate.name}",
        "operationId": f"deadlines_{aggregate.name}",
        "parameters": [KEY],
        "responses": {
            "200": in_json("in order of time, a thousand at most", fields(found)),
            **problems(s400="the key is not UTF-8", s503=UNAVAILABLE),
        },
    }


def document(topology: Topology) -> Json:
    """The document, as JSON holds it."""
    paths: Json = {}
    for service in topology.services.values():
        for aggregate in service.owned:
            if aggregate in service.addressed:
                paths[f"/v1/commands/{aggregate.name}/{{key}}"] = {"post": _send(aggregate)}
                paths[f"/v1/commands/{aggregate.name}/{{key}}/{{id}}"] = {"get": _outcome(aggregate)}
            held = any(participants(aggregate))
            paths |= table_pages(aggregate.name, type(aggregate.initial), (), versioned=True, held=held)
            if aggregate.deadlines:
                paths[f"/v1/deadlines/{aggregate.name}/{{key}}"] = {"get": _deadlines(aggregate)}
            if aggregate.history:
                paths[f"/v1/history/{aggregate.name}/{{key}}"] = {"get": _history(aggregate)}
                paths[f"/v1/history/{aggregate.name}/{{key}}/state"] = {"get": _state_then(aggregate)}
        for projection in service.projections:
            paths |= table_pages(projection.name, type(projection.initial), projection.indexes, versioned=False)
        for replica in service.replicas:
            paths |= table_pages(replica.name, type(replica.initial), (), versioned=False, watchable=False)
    paths |= (
        parked(topology)
        | saga_pages(topology)
        | read_page([a.name for s in topology.services.values() for a in s.owned])
    )
    anything: Json = {"type": "object"}
    paths["/v1/tables"] = {"get": {"summary": "All tables", "responses": {"200": in_json("by service", anything)}}}
    paths["/v1/status"] = {"get": {"summary": "This worker", "responses": {"200": in_json("by service", anything)}}}
    return {
        "openapi": "3.1.0",
        "info": {"title": topology.name, "version": version("kafka-pipeline")},
        "paths": paths,
        "components": {"schemas": {"Problem": PROBLEM}},
    }
