"""The pages of tables in the OpenAPI document."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from pipeline.client.commands import KEY_BYTES_MAX
from pipeline.server.openapi.json_schema import LONG, Json, json_schema
from pipeline.server.openapi.parts import KEY, UNAVAILABLE, fields, header, in_json, parameter, problems


def _reading(*, derived: bool, held: bool) -> list[Json]:
    """How a table may be read. `held`: something of it may be held for transactions."""
    levels = ["owner", "eventual", "fresh" if derived else "linearizable"]
    pending = [
        parameter("pending", {"enum": ["show", "hide"]}, "what is held for transactions: shown as such, or left out")
    ]
    return [
        *(pending if held else []),
        parameter(
            "consistency", {"enum": levels}, "what the answer promises; docs/consistency.md says which to choose"
        ),
        parameter("at_least", {"type": "string", "pattern": TOKEN}, "a position token that the answer has to contain"),
        parameter("wait", {"type": "integer", "minimum": 0, "maximum": 60}, "seconds that it may take to get there"),
        parameter("max_age", {"type": "integer", "minimum": 0}, "seconds that an eventual answer may be old"),
    ]


TOKEN = r"^[a-z]{1,9}\.(command|event)/[0-9]{1,2}@[0-9]{1,9}$"
ANSWERED: Json = {
    "ETag": {"schema": {"type": "string"}, "description": "changes with the answer; for If-None-Match"},
    "X-Pipeline-Position": {"schema": {"type": "string"}, "description": "the token of where the table was"},
    "X-Pipeline-Row-Position": {
        "schema": {"type": "string"},
        "description": "of one row: how far the table's row topic is in it",
    },
    "X-Pipeline-Version": {"schema": {"type": "string"}, "description": "of an aggregate"},
}
PENDING: Json = {
    "type": "array",
    "items": {"type": "string"},
    "description": "the transactions that something is held for",
}
WATCHED = (
    "`id`: the event's position, to go on from by `Last-Event-ID`; `data`: the row as JSON, with `position`, "
    "`row` null where there is none. Comments keep the connection. `event: end` says in `reason` why it ends: slow, "
    "lost, broken or closing"
)
KNOWN = header("If-None-Match", "an ETag; 304 where the answer is still that", pattern='^"[0-9a-f]{1,16}"$')


def _table_row(row: Any, *, versioned: bool, held: bool) -> Json:
    properties: Json = {"key": {"type": "string"}, "row": json_schema(row)}
    properties |= {"version": LONG, "time_ms": LONG} if versioned else {}
    return fields(properties | ({"pending": PENDING} if held else {}))


def _read(summary: str, operation: str, parameters: list[Json], answer: Json, **more: str) -> Json:
    return {
        "summary": summary,
        "operationId": operation,
        "parameters": parameters,
        "responses": {
            "200": in_json("what is there", answer, headers=ANSWERED),
            "304": {"description": "as it was"},
            **problems(
                s400="a parameter cannot be used, or the table cannot give that consistency",
                s422="the token is of topics that the table is not made from",
                s503=UNAVAILABLE,
                s504="the table has not got there in time; `behind` says who is how far from there",
                **more,
            ),
        },
    }


def _or_wait(asked: Json) -> Json:
    """Of one row what is held can be waited for, too."""
    if asked["name"] != "pending":
        return asked
    schema = {"enum": ["show", "hide", "wait"]}
    return {**asked, "schema": schema, "description": "what is held for transactions: shown, left out, or waited for"}


def read_page(aggregates: list[str]) -> Json:
    """The page that reads several aggregates as one."""
    key = {**fields({"table": {"enum": aggregates}, "key": KEY["schema"]}), "additionalProperties": False}
    keys = {"type": "array", "items": key, "minItems": 1, "maxItems": 1000}
    row = fields({"table": {"type": "string"}, "key": {"type": "string"}, "row": {}, "version": LONG, "time_ms": LONG})
    rows = {"type": "array", "items": {"oneOf": [row, {"type": "null"}]}}
    body = {**fields({"keys": keys}), "additionalProperties": False}
    position = {"X-Pipeline-Position": ANSWERED["X-Pipeline-Position"]}
    told = {
        "summary": "Rows of several aggregates as they were at one moment",
        "operationId": "read",
        "parameters": [parameter("wait", {"type": "integer", "minimum": 0, "maximum": 60}, "seconds that it may take")],
        "requestBody": {"required": True, "content": {"application/json": {"schema": body}}},
        "responses": {
            "200": in_json(
                "in the order of the keys; null where there is none", fields({"rows": rows}), headers=position
            ),
            **problems(
                s400="the keys cannot be used, or a table is no aggregate's",
                s404="no such table",
                s415="the body is not application/json",
                s422="the body is not JSON",
                s503="no worker can answer just now, or something is held; Retry-After says when to ask again",
                s504="a worker has not folded in time what was stored before",
            ),
        },
    }
    return {"/v1/read": {"post": told}}


def _watch(name: str) -> Json:
    return {
        "summary": f"Each new row under a key of {name}, for ever",
        "operationId": f"watch_{name}",
        "parameters": [
            KEY,
            parameter("since", {"type": "string", "pattern": TOKEN}, "only what comes after that position"),
            parameter("wait", {"type": "integer", "minimum": 0, "maximum": 60}, "seconds until the table is there"),
            header("Last-Event-ID", "in place of `since`, as browsers send it"),
        ],
        "responses": {
            "200": {"description": WATCHED, "content": {"text/event-stream": {"schema": {"type": "string"}}}},
            **problems(
                s400="a parameter cannot be used",
                s404="no such table",
                s422="the token is of topics that the table is not made from, or the key is not UTF-8",
                s503=UNAVAILABLE,
                s504="the table has not got in time to where `since` is",
            ),
        },
    }


def table_pages(
    name: str, row: Any, indexes: Iterable[str], *, versioned: bool, held: bool = False, watchable: bool = True
) -> Json:
    """The pages of a table."""
    row_told, how = _table_row(row, versioned=versioned, held=held), _reading(derived=not versioned, held=held)
    text: Json = {"type": "string", "maxLength": 100}
    ranges = [
        parameter("prefix", text, "keys that begin so"),
        parameter("from", text, "keys from this one on"),
        parameter("to", text, "keys before this one"),
        parameter("after", text, "keys after this one: `next` of the page before"),
        parameter("limit", {"type": "integer", "minimum": 1, "maximum": 10_000, "default": 100}, "rows of a page"),
    ]
    if indexed := sorted(indexes):
        ranges.append(parameter("index", {"enum": indexed}, "with `value`: rows to which it gives that value"))
        ranges.append(parameter("value", {"type": "string"}, "of `index`"))
    page = fields({"rows": {"type": "array", "items": row_told}, "next": {"type": ["string", "null"]}})
    several = fields({"rows": {"type": "array", "items": {"oneOf": [row_told, {"type": "null"}]}}})
    key: Json = {"type": "string", "minLength": 1, "maxLength": KEY_BYTES_MAX}
    keys: Json = {**fields({"keys": {"type": "array", "items": key, "maxItems": 1000}}), "additionalProperties": False}
    one = _read(f"A row of {name}", f"row_{name}", [KEY, KNOWN, *map(_or_wait, how)], row_told, s404="no such row")
    post = _read(f"Rows of {name} by their keys", f"get_{name}", how, several, s415="not JSON", s404="no such table")
    post["requestBody"] = {"required": True, "content": {"application/json": {"schema": keys}}}
    post["responses"]["422"]["description"] += ", or the body is not JSON"
    paths: Json = {
        f"/v1/tables/{name}": {"get": _read(f"Rows of {name}", f"rows_{name}", [KNOWN, *ranges, *how], page)},
        f"/v1/tables/{name}/{{key}}": {"get": one},
        f"/v1/tables/{name}/get": {"post": post},
    }
    if watchable:
        paths[f"/v1/tables/{name}/{{key}}/watch"] = {"get": _watch(name)}
    if versioned:
        paths[f"/v1/aggregates/{name}/{{key}}"] = {"get": {**one, "operationId": f"aggregate_{name}"}}
    return paths
