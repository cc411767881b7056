"""The id of a schema, from its content: branches, repositories and machines give the same one, without a server.

The canonical form has what reading depends on and nothing else: how a file is laid out, docs, and where a name gets its
namespace from do not count; defaults, aliases, logical types and the order of branches do.
"""

from __future__ import annotations

import hashlib
import json
from typing import Any

Schema = Any  # JSON of an Avro schema: a name, a list (union) or a dict
PRIMITIVES = frozenset({"null", "boolean", "int", "long", "float", "double", "bytes", "string"})
# Above what registry servers and manifests count up from 1, below the engine's own ids, which begin at 2,000,000,001.
FIRST, BEYOND = 1_000_000, 2_000_000_000
KEPT = ("symbols", "size", "logicalType", "precision", "scale")


def schema_id(schema: Schema, salt: int = 0) -> int:
    """Return the id of a schema. `salt`: how many earlier ids of it were another schema's already."""
    text = canonical(schema) + (f"#{salt}" if salt else "")
    return FIRST + int.from_bytes(hashlib.sha256(text.encode()).digest()[:8]) % (BEYOND - FIRST)


def canonical(schema: Schema) -> str:
    """Return the canonical form: two schemas that have the same are read and written alike."""
    return json.dumps(_canonical(schema, ""), sort_keys=True, separators=(",", ":"))


def same(one: Schema, other: Schema) -> bool:
    """Return whether two schemas are read and written alike."""
    return bool(one == other) or canonical(one) == canonical(other)


def _canonical(schema: Schema, namespace: str) -> Schema:
    if isinstance(schema, str):
        return schema if schema in PRIMITIVES else _full(schema, namespace)
    if isinstance(schema, list):
        return [_canonical(branch, namespace) for branch in schema]
    if not isinstance(schema["type"], str):  # a type inside of {"type": …}
        return _canonical(schema["type"], namespace)
    kept: dict[str, Any] = {name: schema[name] for name in KEPT if name in schema}
    if "texts" in schema and schema["type"] == "string":  # of a Literal
        kept["texts"] = sorted(schema["texts"])
    if "name" not in schema and not kept and schema["type"] not in ("array", "map"):
        return _canonical(schema["type"], namespace)
    if "name" in schema:
        kept["name"] = _full(schema["name"], schema.get("namespace", namespace))
        namespace = kept["name"].rpartition(".")[0]
        if "aliases" in schema:
            kept["aliases"] = sorted(_full(alias, namespace) for alias in schema["aliases"])
        if "default" in schema:  # of an enum
            kept["default"] = schema["default"]
    kept |= {inner: _canonical(schema[inner], namespace) for inner in ("items", "values") if inner in schema}
    if "fields" in schema:
        kept["fields"] = [_field(field, namespace) for field in schema["fields"]]
    return kept | {"type": schema["type"]}


def _field(field: dict[str, Any], namespace: str) -> dict[str, Any]:
    kept = {"name": field["name"], "type": _canonical(field["type"], namespace)}
    if "default" in field:
        kept["default"] = field["default"]
    return kept | ({"aliases": sorted(field["aliases"])} if "aliases" in field else {})


def _full(name: str, namespace: str) -> str:
    return name if "." in name or not namespace else f"{namespace}.{name}"
