"""Nested Avro values as the JSON of a column, and back, by their schema. What readers get is adapters.json's matter.

Records are objects, bytes are in base64. A value of a union stands by itself if there is one alternative beside null;
otherwise it is an object with the name of its type. A row inside itself has the logical types that its columns have;
they are text.
"""

from __future__ import annotations

from datetime import date, datetime, time
from decimal import Decimal
from typing import Any
from uuid import UUID

from pipeline.adapters.avro.binding import Names, definition, resolve
from pipeline.adapters.avro.registry import Schema
from pipeline.adapters.json.form import TEXTS
from pipeline.adapters.json.reading import base64_bytes
from pipeline.adapters.json.writing import scalar

PYTHON = {"boolean": bool, "int": int, "long": int, "float": float, "double": float, "string": str, "bytes": bytes}
PYTHON |= {"array": list, "map": dict, "enum": str, "fixed": bytes}
LOGICAL = {"decimal": Decimal, "date": date, "uuid": UUID, "timestamp-millis": datetime, "timestamp-micros": datetime}
LOGICAL |= {"time-millis": time}


def to_json(schema: Schema, value: Any, names: Names) -> Any:
    """Convert a value that fastavro has decoded, with the names of records in unions, to JSON."""
    schema = resolve(schema, names)
    if isinstance(schema, list):
        return _union_to_json(schema, value, names)
    if isinstance(schema, str) or type(value) in (bytes, *TEXTS):
        return scalar(value)
    if schema["type"] == "record":
        return {f["name"]: to_json(f["type"], value[f["name"]], names) for f in schema["fields"]}
    if schema["type"] == "array":
        return [to_json(schema["items"], item, names) for item in value]
    if schema["type"] == "map":
        return {key: to_json(schema["values"], item, names) for key, item in value.items()}
    return value


def from_json(schema: Schema, value: Any, names: Names) -> Any:
    """Convert a JSON value to what fastavro encodes under `schema`."""
    described = definition(schema, names)
    if isinstance(described, dict) and described.get("logicalType") in LOGICAL:
        return TEXTS[LOGICAL[described["logicalType"]]](value)
    schema = resolve(schema, names)
    if isinstance(schema, list):
        return _union_from_json(schema, value, names)
    kind = schema if isinstance(schema, str) else schema["type"]
    if kind in ("bytes", "fixed"):
        return base64_bytes(value)
    if kind in ("float", "double"):
        return float(value)  # a database may give 1.0 as 1
    if kind == "record":
        return {f["name"]: from_json(f["type"], value[f["name"]], names) for f in schema["fields"]}
    if kind == "array":
        return [from_json(schema["items"], item, names) for item in value]
    if kind == "map":
        return {key: from_json(schema["values"], item, names) for key, item in value.items()}
    return value


def _branches(union: list[Schema], names: Names) -> dict[str, Schema]:
    """Return name -> type of each alternative except null."""
    found = {}
    for branch in union:
        target = resolve(branch, names)
        if target != "null":
            found[target if isinstance(target, str) else target.get("name", target["type"])] = branch
    return found


def _union_to_json(union: list[Schema], value: Any, names: Names) -> Any:
    if value is None:
        return None
    branches = _branches(union, names)
    name = None
    if isinstance(value, tuple):  # (full name, record, symbol or bytes)
        name, value = names[value[0]]["name"], value[1]
    else:
        name = next(n for n, b in branches.items() if len(branches) == 1 or type(value) is _python(b, names))
    plain = to_json(branches[name], value, names)
    return plain if len(branches) == 1 else {name: plain}


def _union_from_json(union: list[Schema], value: Any, names: Names) -> Any:
    if value is None:
        return None
    branches = _branches(union, names)
    name = next(iter(branches if len(branches) == 1 else value))
    plain = from_json(branches[name], value if len(branches) == 1 else value[name], names)
    target = resolve(branches[name], names)
    if isinstance(target, dict) and "name" in target:
        return _full_name(name, names), plain
    return plain if len(branches) == 1 else (name, plain)


def _python(branch: Schema, names: Names) -> type | None:
    described = definition(branch, names)
    if isinstance(described, dict) and described.get("logicalType") in LOGICAL:
        return LOGICAL[described["logicalType"]]
    target = resolve(branch, names)
    return PYTHON.get(target if isinstance(target, str) else target["type"])


def _full_name(name: str, names: Names) -> str:
    """Return the name with its namespace, as fastavro expects it."""
    return max((full for full, schema in names.items() if schema is names[name]), key=len).lstrip(".")
