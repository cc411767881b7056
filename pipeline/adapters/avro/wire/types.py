"""What schema resolution asks about one type of a parsed schema."""

from __future__ import annotations

from typing import Any

from pipeline.adapters.avro.wire.rewriting import Schema


def behind(schema: Schema, names: dict[str, Any]) -> Schema:
    """Return the type behind a name."""
    return names.get(schema, schema) if isinstance(schema, str) else schema


def kind_of(schema: Schema) -> str:
    """Return the kind of a type: the name of a primitive, "record", "union" and so on."""
    if isinstance(schema, list):
        return "union"
    return str(schema["type"] if isinstance(schema, dict) else schema)


def name_of(schema: Schema) -> str:
    """Return the name of a type; "" if it has none."""
    return str(schema.get("name", "")) if isinstance(schema, dict) else ""


def short(name: str) -> str:
    """Return the last part of a name."""
    return name.rpartition(".")[2]


def same_name(writer: dict[str, Any], reader: dict[str, Any]) -> bool:
    """Return whether a named type is the other, by the last part of its name, as Avro has it, or by an alias."""
    return short(writer["name"]) in map(short, (reader["name"], *reader.get("aliases", ())))


def had_name(schema: dict[str, Any], name: str) -> bool:
    """Return whether a type had that name before."""
    return name in map(short, schema.get("aliases", ()))


def is_among(name: str, types: dict[str, Any]) -> bool:
    """Return whether a type of that name is among those."""
    return any(short(each) == name for each in types)


def logical_of(schema: Schema) -> tuple[Any, ...] | None:
    """Return what a type stands for; None if for itself."""
    if not isinstance(schema, dict) or "logicalType" not in schema:
        return None
    digits = (schema.get("precision"), schema.get("scale", 0)) if schema["logicalType"] == "decimal" else ()
    return (schema["logicalType"], *digits)


def texts_of(schema: Schema) -> frozenset[str]:
    """Return the texts that a Literal has; none if the type is not that of one, or does not say them."""
    noted = schema.get("texts", ()) if isinstance(schema, dict) and schema["type"] == "string" else ()
    return frozenset(noted)


def shown(schema: Schema) -> str:
    """Return a type for people."""
    if isinstance(schema, list):
        return " | ".join(map(shown, schema))
    kind = kind_of(schema)
    logical = logical_of(schema)
    if logical is not None:
        digits = f", precision {logical[1]}, scale {logical[2]}" if logical[1:] else ""
        kind += f" ({logical[0]}{digits})"
    match schema:
        case {"type": "array"}:
            return f"array of {shown(schema['items'])}"
        case {"type": "map"}:
            return f"map of {shown(schema['values'])}"
        case {"type": "fixed"}:
            return f"{kind} {short(schema['name'])} of {schema['size']} bytes"
        case {"type": "record" | "enum"}:
            return f"{kind} {short(schema['name'])}"
    return short(kind)
