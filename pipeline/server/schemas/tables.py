"""Schemas of table rows and parked records."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from pipeline.model.records.keys import KEY_BYTES_MAX
from pipeline.server.schemas.components import Named
from pipeline.server.schemas.json_schema import LONG, Json, json_schema
from pipeline.server.schemas.parts import COUNT, MAYBE, TEXT, TEXTS, WHO, Schema, fields, in_json, only, several


class Table(NamedTuple):
    """The traits of a table. `is_derived`: not an aggregate's. `can_hold`: may hold something for transactions."""

    name: str
    row: Any
    indexes: Sequence[str] = ()
    is_derived: bool = True
    can_hold: bool = False
    can_be_watched: bool = True


KEY: Json = {"type": "string", "minLength": 1, "maxLength": KEY_BYTES_MAX}
POSITION: Json = {"X-Pipeline-Position": {"schema": TEXT, "description": "the token of the table's position"}}
ANSWERED: Json = {
    "ETag": {"schema": TEXT, "description": "changes with the body; for If-None-Match"},
    **POSITION,
    "X-Pipeline-Row-Position": {"schema": TEXT, "description": "the row is current up to here in the row topic"},
    "X-Pipeline-Version": {"schema": TEXT, "description": "an aggregate's version"},
}
WATCHED = (
    "`id`: the event's position, for `Last-Event-ID`; `data`: the row as JSON, with `position`, "
    "`row` null if deleted. Comments keep the connection. `event: end` says in `reason` why it ends: slow, "
    "lost, broken or closing"
)
KEYS = only({"keys": several(KEY, maxItems=1000)})


def _row(of: Table) -> Named:
    held = {**TEXTS, "description": "the transactions for which something is held"}
    properties: Json = {"key": TEXT, "row": json_schema(of.row)}
    properties |= {} if of.is_derived else {"version": LONG, "time_ms": LONG}
    return Named(f"{of.name}_row", fields(properties | ({"pending": held} if of.can_hold else {})))


def _read(schema: Schema) -> Json:
    return {"200": in_json("as stored", schema, headers=ANSWERED), "304": {"description": "unchanged"}}


def row(of: Table) -> Json:
    """Return the responses with one row."""
    return _read(_row(of))


def rows(of: Table) -> Json:
    """Return the responses with a page of rows."""
    return _read(fields({"rows": several(_row(of)), "next": MAYBE}))


def rows_of(of: Table) -> Json:
    """Return the responses with rows in the order of keys."""
    return _read(fields({"rows": several({"oneOf": [_row(of), {"type": "null"}]})}))


def watched(_: Table) -> Json:
    """Return the responses with each new row."""
    return {"200": {"description": WATCHED, "content": {"text/event-stream": {"schema": TEXT}}}}


def snapshot_keys(aggregates: list[str]) -> Json:
    """Return the schema of the keys to read as one."""
    return only({"keys": several(only({"table": {"enum": aggregates}, "key": KEY}), minItems=1, maxItems=1000)})


def snapshot(_: list[str]) -> Json:
    """Return the responses with rows as they were at one moment."""
    one = fields({"table": TEXT, "key": TEXT, "row": {}, "version": LONG, "time_ms": LONG})
    found = fields({"rows": several({"oneOf": [one, {"type": "null"}]})})
    return {"200": in_json("in the order of the keys; null for a key without a row", found, headers=POSITION)}


def by_service(_: Any) -> Json:
    """Return the responses with any value, by service."""
    return {"200": in_json("by service", {"type": "object"})}


# --- parked records ---------------------------------------------------------------------------------------------------

FIRST: Json = {
    "offset": COUNT,
    "reason": {"enum": ["error", "behind", "reserving", "misplaced"]},
    "cause": TEXT,
    "since_ms": COUNT,
    "without_value": {
        "type": "boolean",
        "description": "its value was too large for the queue; it is only in the source topic",
    },
}
NAMED: Json = {"service": TEXT, "topic": TEXT, "partition": COUNT, "key": MAYBE, "key_base64": TEXT}
RECORD: Json = {
    **FIRST,
    "time_ms": {"type": "integer"},
    "traceback": TEXT,
    "done": {**TEXTS, "description": "the steps that have folded it already"},
    "headers": several({}),
    "value_base64": MAYBE,
    "record": {"type": ["object", "null"], "description": "null if it cannot be decoded"},
}
PARKED_KEYS = several(fields({**NAMED, "waiting": COUNT, **FIRST}))
UP_TO: Json = {"limit": {"type": "integer", "minimum": 1, "maximum": 1000}}


BY_WHOM: Json = {"type": "object", "properties": {"by": WHO, "why": WHO}, "required": ["by", "why"]}


def all_parked(_: Any) -> Json:
    """Return the responses with the keys that have parked records."""
    page = fields({"parked": PARKED_KEYS, "next": MAYBE, "unavailable": TEXTS})
    return {"200": in_json("by service, topic, partition, key", page)}


def parked(_: Any) -> Json:
    """Return the responses with the parked records of a key, or the keys."""
    shown = fields({**NAMED, "records": several(fields(RECORD))})
    return {"200": in_json("in order", {"anyOf": [shown, fields({"parked": PARKED_KEYS})]})}


def acted(_: Any) -> Json:
    """Return the responses to an operator's action."""
    done = {**COUNT, "description": "records removed from the queue"}
    left = {**COUNT, "description": "records of the key that still wait"}
    cause = {**MAYBE, "description": "why it stopped, if a record raised again"}
    return {"200": in_json("it is committed", fields({"done": done, "left": left, "cause": cause}))}


def paused(_: Any) -> Json:
    """Return the responses to the request to pause a service."""
    worker = {
        "worker": {**TEXT, "description": "its address"},
        "service": TEXT,
        "paused": {**COUNT, "description": "partitions of commands that are paused there"},
        "newly": {**COUNT, "description": "of these, those that were not before"},
    }
    page = fields({"workers": several(fields(worker)), "unavailable": TEXTS})
    return {"200": in_json("it is committed", page)}


def resumed(_: Any) -> Json:
    """Return the responses to the request to have a service go on."""
    worker = {
        "worker": {**TEXT, "description": "its address"},
        "service": TEXT,
        "resumed": {"type": "boolean", "description": "false: it was neither held nor paused"},
        "freed": {**COUNT, "description": "keys of its replicas that have been folded on"},
        "left": {**COUNT, "description": "keys of its replicas that still wait"},
        "cause": {**MAYBE, "description": "why one of them still waits"},
    }
    page = fields({"workers": several(fields(worker)), "unavailable": TEXTS})
    return {"200": in_json("it is committed", page)}


def order(extra: Json) -> Json:
    """Return the schema of an operator's action, with by whom and why."""
    required = ["key", "by", "why", *(["offset"] if "offset" in extra else [])]
    return {"type": "object", "properties": {"key": TEXT, "by": WHO, "why": WHO, **extra}, "required": required}
