"""The pages of parked records in the OpenAPI document."""

from __future__ import annotations

from typing import Any

from pipeline.topology import Topology

Json = dict[str, Any]
COUNT: Json = {"type": "integer", "minimum": 0, "maximum": 2**63 - 1}
TEXT: Json = {"type": "string"}
TEXTS: Json = {"type": "array", "items": TEXT}
MAYBE: Json = {"type": ["string", "null"]}
WHO: Json = {"type": "string", "minLength": 1, "maxLength": 200, "pattern": "^[ -~]+$"}
FIRST: Json = {
    "offset": COUNT,
    "reason": {"enum": ["error", "behind", "reserving"]},
    "cause": TEXT,
    "since_ms": COUNT,
    "without_value": {
        "type": "boolean",
        "description": "its value was too large to be queued, and stands at its source",
    },
}
NAMED: Json = {"service": TEXT, "topic": TEXT, "partition": COUNT, "key": MAYBE, "key_base64": TEXT}
RECORD: Json = {
    **FIRST,
    "time_ms": {"type": "integer"},
    "traceback": TEXT,
    "done": {"type": "array", "items": TEXT, "description": "the nodes that have folded it already"},
    "headers": {"type": "array"},
    "value_base64": MAYBE,
    "record": {"type": ["object", "null"], "description": "null where it cannot be read"},
}


def _object(properties: Json, **more: Any) -> Json:
    return {"type": "object", "properties": properties, "required": list(properties), **more}


def _responses(answer: Json, what: str) -> Json:
    problem = {"application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}}
    why = {
        "400": "the request cannot be used",
        "404": "nothing waits there",
        "422": "the body is no JSON",
        "503": "no worker can answer just now; Retry-After says when to ask again",
    }
    said: Json = {status: {"description": text, "content": problem} for status, text in why.items()}
    return {"200": {"description": what, "content": {"application/json": {"schema": answer}}}} | said


def _query(name: str, description: str, **schema: Any) -> Json:
    return {"name": name, "in": "query", "description": description, "schema": schema}


LIMIT = _query("limit", "at most so many", type="integer", minimum=1, maximum=1000, default=100)
ACTED = _object(
    {
        "done": {**COUNT, "description": "records that were taken out of the queue"},
        "left": {**COUNT, "description": "records of the key that wait still"},
        "cause": {**MAYBE, "description": "why it stopped, where a record raised again"},
    }
)


def _act(action: str, where: str, number: Json, extra: Json, description: str) -> Json:
    body = {
        "type": "object",
        "properties": {"key": TEXT, "by": WHO, "why": WHO, **extra},
        "required": ["key", "by", "why", *(["offset"] if "offset" in extra else [])],
    }
    return {
        "summary": f"{action} what waits under a key of {where}",
        "description": description,
        "operationId": f"{action}_{where}",
        "parameters": [number],
        "requestBody": {"required": True, "content": {"application/json": {"schema": body}}},
        "responses": _responses(ACTED, "it is committed"),
    }


def parked(topology: Topology) -> Json:
    """The pages, by path."""
    keys = {"type": "array", "items": _object({**NAMED, "waiting": COUNT, **FIRST})}
    page = _object({"parked": keys, "next": MAYBE, "unavailable": TEXTS})
    after = _query("after", "`next` of the page before", type="string", pattern="^$")
    paths: Json = {
        "/v1/parked": {
            "get": {
                "summary": "The keys that have parked records, each with its first",
                "operationId": "parked",
                "parameters": [LIMIT, after],
                "responses": _responses(page, "by service, topic, partition, key"),
            }
        }
    }
    number: Json = {"name": "partition", "in": "path", "required": True, "schema": COUNT}
    limit: Json = {"limit": {"type": "integer", "minimum": 1, "maximum": 1000}}
    for service in topology.services.values():
        for topic in service.source_topics():
            where, path = f"{service.name}_{topic}", f"/v1/parked/{service.name}/{topic}/{{partition}}"
            told = _object({**NAMED, "records": {"type": "array", "items": _object(RECORD)}})
            shown = _query("key", "whose records to show; `key_base64` where it is no text", type="string", minLength=1)
            paths[path] = {
                "get": {
                    "summary": f"The parked records of a key of {where}; without a key, the keys",
                    "operationId": f"parked_{where}",
                    "parameters": [number, LIMIT, shown],
                    "responses": _responses({"anyOf": [told, _object({"parked": keys})]}, "in order"),
                }
            }
            redriven = "Folds them in order, until one raises again."
            paths[f"{path}/redrive"] = {"post": _act("redrive", where, number, limit, redriven)}
            thrown = "Throws the first away, that of `offset`; with `all`: true up to `limit` of them."
            paths[f"{path}/discard"] = {"post": _act("discard", where, number, {"offset": COUNT, **limit}, thrown)}
    return paths
