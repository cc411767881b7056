"""Rows of tables, and parked records."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from pipeline.client.commands import KEY_BYTES_MAX
from pipeline.server.schemas.json_schema import LONG, Json, json_schema
from pipeline.server.schemas.parts import COUNT, MAYBE, TEXT, TEXTS, WHO, fields, in_json, only, several


class Table(NamedTuple):
    """What is said of a table. `is_derived`: it is no aggregate's. `can_hold`: for transactions."""

    name: str
    row: Any
    indexes: Sequence[str] = ()
    is_derived: bool = True
    can_hold: bool = False
    can_be_watched: bool = True


KEY: Json = {"type": "string", "minLength": 1, "maxLength": KEY_BYTES_MAX}
POSITION: Json = {"X-Pipeline-Position": {"schema": TEXT, "description": "the token of where the table was"}}
ANSWERED: Json = {
    "ETag": {"schema": TEXT, "description": "changes with the answer; for If-None-Match"},
    **POSITION,
    "X-Pipeline-Row-Position": {"schema": TEXT, "description": "of one row: how far the table's row topic is in it"},
    "X-Pipeline-Version": {"schema": TEXT, "description": "of an aggregate"},
}
WATCHED = (
    "`id`: the event's position, to go on from by `Last-Event-ID`; `data`: the row as JSON, with `position`, "
    "`row` null where there is none. Comments keep the connection. `event: end` says in `reason` why it ends: slow, "
    "lost, broken or closing"
)
KEYS = only({"keys": several(KEY, maxItems=1000)})


def _row(of: Table) -> Json:
    held = {**TEXTS, "description": "the transactions that something is held for"}
    properties: Json = {"key": TEXT, "row": json_schema(of.row)}
    properties |= {} if of.is_derived else {"version": LONG, "time_ms": LONG}
    return fields(properties | ({"pending": held} if of.can_hold else {}))


def _read(schema: Json) -> Json:
    return {"200": in_json("what is there", schema, headers=ANSWERED), "304": {"description": "as it was"}}


def row(of: Table) -> Json:
    """One row."""
    return _read(_row(of))


def rows(of: Table) -> Json:
    """A page of rows."""
    return _read(fields({"rows": several(_row(of)), "next": MAYBE}))


def rows_of(of: Table) -> Json:
    """Rows in the order of keys."""
    return _read(fields({"rows": several({"oneOf": [_row(of), {"type": "null"}]})}))


def watched(_: Table) -> Json:
    """Each new row."""
    return {"200": {"description": WATCHED, "content": {"text/event-stream": {"schema": TEXT}}}}


def snapshot_keys(aggregates: list[str]) -> Json:
    """Which rows to read as one."""
    return only({"keys": several(only({"table": {"enum": aggregates}, "key": KEY}), minItems=1, maxItems=1000)})


def snapshot(_: list[str]) -> Json:
    """Rows as they were at one moment."""
    one = fields({"table": TEXT, "key": TEXT, "row": {}, "version": LONG, "time_ms": LONG})
    found = fields({"rows": several({"oneOf": [one, {"type": "null"}]})})
    return {"200": in_json("in the order of the keys; null where there is none", found, headers=POSITION)}


def by_service(_: Any) -> Json:
    """Anything, by service."""
    return {"200": in_json("by service", {"type": "object"})}


# --- parked records ---------------------------------------------------------------------------------------------------

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
    "done": {**TEXTS, "description": "the nodes that have folded it already"},
    "headers": {"type": "array"},
    "value_base64": MAYBE,
    "record": {"type": ["object", "null"], "description": "null where it cannot be read"},
}
PARKED_KEYS = several(fields({**NAMED, "waiting": COUNT, **FIRST}))
UP_TO: Json = {"limit": {"type": "integer", "minimum": 1, "maximum": 1000}}


def all_parked(_: Any) -> Json:
    """The keys that have parked records."""
    page = fields({"parked": PARKED_KEYS, "next": MAYBE, "unavailable": TEXTS})
    return {"200": in_json("by service, topic, partition, key", page)}


def parked(_: Any) -> Json:
    """The parked records of a key, or the keys."""
    shown = fields({**NAMED, "records": several(fields(RECORD))})
    return {"200": in_json("in order", {"anyOf": [shown, fields({"parked": PARKED_KEYS})]})}


def acted(_: Any) -> Json:
    """What was done by hand."""
    done = {**COUNT, "description": "records that were taken out of the queue"}
    left = {**COUNT, "description": "records of the key that wait still"}
    cause = {**MAYBE, "description": "why it stopped, where a record raised again"}
    return {"200": in_json("it is committed", fields({"done": done, "left": left, "cause": cause}))}


def order(extra: Json) -> Json:
    """What is to be done by hand, by whom and why."""
    required = ["key", "by", "why", *(["offset"] if "offset" in extra else [])]
    return {"type": "object", "properties": {"key": TEXT, "by": WHO, "why": WHO, **extra}, "required": required}
