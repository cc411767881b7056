"""The pages of sagas in the OpenAPI document."""

from __future__ import annotations

from typing import Any

from pipeline.model import Saga
from pipeline.model.saga.saga import ACTIONS, STATUSES
from pipeline.server.openapi.json_schema import LONG, Json, json_schema
from pipeline.server.openapi.parts import KEY, UNAVAILABLE, fields, header, in_json, parameter, problems
from pipeline.server.operator_input import TEXT_MAX
from pipeline.topology import Topology

TEXT: Json = {"type": "string"}
TEXTS: Json = {"type": "array", "items": TEXT}
WHO: Json = {"type": "string", "minLength": 1, "maxLength": TEXT_MAX, "pattern": "^[ -~]+$"}
WHERE: Json = {
    "saga": TEXT,
    "key": TEXT,
    "status": {"enum": list(STATUSES)},
    "step": {"type": "string", "description": "what is under way; empty where nothing is"},
    "attempt": {"type": "integer"},
    "waits_for": {**TEXTS, "description": "what it has asked others and was not answered"},
    "reason": {"type": "string", "description": "why it is undone, or tried again"},
    "blocks": {**TEXTS, "description": "what others may find locked meanwhile"},
    "since": {"type": "string", "description": "when something last happened to it"},
}
STATE = parameter("state", {"enum": list(STATUSES)}, "several with commas between; all that are in flight by default")
LIMIT = parameter("limit", {"type": "integer", "minimum": 1, "maximum": 1000, "default": 100}, "at most so many")
AFTER = parameter("after", {"type": "string", "pattern": "^$"}, "`next` of the page before")


def _listed(of: str, operation: str) -> Json:
    page = {"sagas": {"type": "array", "items": fields(WHERE)}, "next": {"type": ["string", "null"]}}
    return {
        "summary": f"Where the instances of {of} stand",
        "operationId": operation,
        "parameters": [STATE, LIMIT, AFTER],
        "responses": {
            "200": in_json("by saga and key", fields({**page, "unavailable": TEXTS})),
            **problems(s400="a parameter cannot be used", s503=UNAVAILABLE),
        },
    }


def _shown(saga: Saga[Any]) -> Json:
    told = {**WHERE, "version": LONG, "state": json_schema(type(saga.initial))}
    return {
        "summary": f"Where an instance of {saga.name} stands",
        "operationId": f"saga_{saga.name}",
        "parameters": [KEY],
        "responses": {
            "200": in_json("with its state", fields(told)),
            **problems(s400="the key is not UTF-8", s404="none of that key has begun", s503=UNAVAILABLE),
        },
    }


def _acted(saga: Saga[Any], action: str) -> Json:
    outcome = {"outcome": {"const": "accepted"}, "version": LONG, "events": {"type": "array"}}
    return {
        "summary": f"{action}: what a person asks of an instance of {saga.name}",
        "operationId": f"{action}_{saga.name}",
        "parameters": [
            KEY,
            header("Prefer", "`wait=5`: seconds to wait for the outcome", pattern="^wait=[0-9]{1,2}$"),
            header("If-Match", "the version that the instance must be at", pattern='^"?[0-9]{1,18}"?$'),
        ],
        "requestBody": {
            "required": True,
            "content": {
                "application/json": {"schema": {**fields({"by": WHO, "why": WHO}), "additionalProperties": False}}
            },
        },
        "responses": {
            "200": in_json("done; it stands in the instance's event log", fields(outcome)),
            "202": in_json("stored; not decided within the wait", fields({"command_id": TEXT})),
            **problems(
                s400="the body or a header cannot be used",
                s409="refused: `reason` says why",
                s413="the body is too large",
                s415="the body is not application/json",
                s422="the body is not JSON, or the key is not UTF-8",
                s503=UNAVAILABLE,
            ),
        },
    }


def saga_pages(topology: Topology) -> Json:
    """The pages, by path; none where there are no sagas."""
    paths: Json = {"/v1/sagas": {"get": _listed("all sagas", "sagas")}} if topology.sagas else {}
    for name, saga in topology.sagas.items():
        paths[f"/v1/sagas/{name}"] = {"get": _listed(name, f"sagas_{name}")}
        paths[f"/v1/sagas/{name}/{{key}}"] = {"get": _shown(saga)}
        for action in ACTIONS:
            if action in saga.actions:
                paths[f"/v1/sagas/{name}/{{key}}/{action}"] = {"post": _acted(saga, action)}
    return paths
