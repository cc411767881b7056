"""The form of an export file, which any reader of Avro container files understands.

A value stands in a union with a branch for each schema that one was written with. Its types are named after the id of
the schema (`s17.shop.OrderPlaced`), so that several versions fit in one file. The bytes behind the number of the branch
are those of the record on its topic; what no known schema has written is in the branch `bytes`, as it is.

Under `pipeline` in the file's metadata, as JSON: `version` of this form; `schemas`, as in a manifest; `branches`, the
ids in their order; `topics`, with the number of partitions of each; `blocks`, by `<topic>/<partition>`: place behind
the header, size and count of each; `size` and `records` of the whole; `places`, by the same: the offsets from `low` to
`end` that are covered, and how far services had `folded` it; `part`: what was asked for, if that is not all.
"""

from __future__ import annotations

from typing import Any

from fastavro import parse_schema

Schema = Any  # JSON of an Avro schema: a name, a list (union) or a dict

MAGIC = b"Obj\x01"
ABOUT = "pipeline"
VERSION = 1
NOTHING, BYTES = 0, 1  # the first branches of a value
PRIMITIVES = ("null", "boolean", "int", "long", "float", "double", "string", "bytes")
HEADER: Schema = {
    "type": "record",
    "name": "Header",
    "namespace": "pipeline",
    "fields": [{"name": "name", "type": "string"}, {"name": "value", "type": ["null", "bytes"]}],
}
FIELDS: list[dict[str, Any]] = [
    {"name": "topic", "type": "string"},
    {"name": "partition", "type": "int"},
    {"name": "offset", "type": "long"},
    {"name": "time", "type": {"type": "long", "logicalType": "timestamp-millis"}, "doc": "when the broker stored it"},
    {"name": "key", "type": ["null", "string", "bytes"], "doc": "text, unless it is none"},
    {"name": "headers", "type": {"type": "array", "items": HEADER}},
]


def record_schema(values: list[tuple[int, Schema]]) -> Schema:
    """Return the schema of the records of a file. `values`: id and schema of each branch."""
    union = ["null", "bytes", *(branch(schema_id, schema) for schema_id, schema in values)]
    return {
        "type": "record",
        "name": "Record",
        "namespace": "pipeline",
        "fields": [*FIELDS, {"name": "value", "type": union}],
    }


def head_schema() -> Schema:
    """Return the parsed schema of what stands before a value. Times are numbers there."""
    fields = [{**field, "type": "long"} if field["name"] == "time" else field for field in FIELDS]
    return parse_schema({"type": "record", "name": "Head", "namespace": "pipeline", "fields": fields})


def branch(schema_id: int, schema: Schema) -> Schema:
    """Return the schema as a branch: a record, with all types in a namespace of its own; the bytes are the same."""
    space = f"s{schema_id}"
    if isinstance(schema, dict) and schema["type"] == "record":
        return renamed(schema, space)
    field = {"name": "value", "type": renamed(schema, space)}
    return {"type": "record", "name": "Value", "namespace": space, "fields": [field]}


def renamed(schema: Schema, space: str, within: str = "") -> Schema:
    """Return the schema with all its types moved into a namespace. `within`: the namespace that it stands in."""
    if isinstance(schema, list):
        return [renamed(each, space, within) for each in schema]
    if isinstance(schema, str):
        return schema if schema in PRIMITIVES else ".".join(filter(None, (space, *_full(schema, within))))
    changed = {name: part for name, part in schema.items() if name != "aliases"}  # readers have none of these names
    kind = schema["type"]
    if kind in ("record", "enum", "fixed"):
        within, short = _full(schema["name"], schema.get("namespace", within))
        changed |= {"name": short, "namespace": ".".join(filter(None, (space, within)))}
        if kind == "record":
            fields = schema["fields"]
            changed["fields"] = [_field(field) | {"type": renamed(field["type"], space, within)} for field in fields]
    elif kind == "array":
        changed["items"] = renamed(schema["items"], space, within)
    elif kind == "map":
        changed["values"] = renamed(schema["values"], space, within)
    else:
        changed["type"] = renamed(kind, space, within)
    return changed


def _field(field: dict[str, Any]) -> dict[str, Any]:
    return {name: part for name, part in field.items() if name not in ("aliases", "default")}


def _full(name: str, within: str) -> tuple[str, str]:
    """Return namespace and short name."""
    space, dot, short = name.rpartition(".")
    return (space, short) if dot else (within, name)
