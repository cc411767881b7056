"""The schema that a reader has of a topic: the file, or what its classes ask for where it follows without a file.

A file is of the topology that the reader is of. What it has no class for there is not wanted; what is not in the file
yet is another thing: newer code of the same topology may have a class for it.
"""

from __future__ import annotations

from pipeline.adapters.avro.binding import definition, named_types
from pipeline.adapters.avro.registry import Registry, Schema
from pipeline.adapters.avro.schemas.generation import Request, generate
from pipeline.adapters.avro.wire.identity import schema_id
from pipeline.adapters.avro.wire.resolution import BODY


def own_schema(registry: Registry, topic: str, root: object, body: object) -> tuple[int, Schema]:
    """Return id and schema. Raises SchemaError."""
    if registry.has(topic):
        return registry.current(topic)
    schema = generate(Request(topic, root, body))
    return schema_id(schema), schema


def has_kinds_to_come(registry: Registry, topic: str, number: int, schema: Schema) -> bool:
    """Return whether records of that schema and id may be of kinds to wait for: newer ones, which the file lacks."""
    if registry.is_released(number, topic) or not registry.has(topic):
        return False
    return not _kinds(schema) <= _kinds(registry.read(topic))


def _kinds(schema: Schema) -> set[str]:
    """Return the names of the records that may stand in an envelope, or for the whole."""
    names = named_types(schema)
    fields = schema.get("fields", ()) if isinstance(schema, dict) else ()
    body = next((definition(field["type"], names) for field in fields if field["name"] == BODY), schema)
    branches = [definition(branch, names) for branch in (body if isinstance(body, list) else [body])]
    return {each["name"].rpartition(".")[2] for each in branches if isinstance(each, dict) and "name" in each}
