"""Fields that may have got another name without saying so: records of before would be read with the default."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from pipeline.adapters.avro.registry import Schema


def perhaps_renamed(before: Schema, after: Schema) -> Iterator[tuple[str, str, str]]:
    """Yield record, field that is gone, and field of its type that is new with a default and no alias."""
    earlier = dict(_records(before))
    for name, fields in _records(after):
        was = earlier.get(name, {})
        told = {alias for field in fields.values() for alias in field.get("aliases", ())}
        gone = [field for field in was if field not in fields and field not in told]
        new = [field for field in fields.values() if field["name"] not in was and "default" in field]
        for lost in gone:
            for field in new:
                if field["type"] == was[lost]["type"] and not field.get("aliases"):
                    yield name, lost, field["name"]


def _records(schema: Any) -> Iterator[tuple[str, dict[str, dict[str, Any]]]]:
    """Yield each record that a schema defines, with its fields by name."""
    if isinstance(schema, list):
        for branch in schema:
            yield from _records(branch)
    elif isinstance(schema, dict):
        if schema["type"] == "record":
            yield schema["name"], {field["name"]: field for field in schema["fields"]}
            for field in schema["fields"]:
                yield from _records(field["type"])
        for part in ("type", "items", "values"):
            yield from _records(schema.get(part))
