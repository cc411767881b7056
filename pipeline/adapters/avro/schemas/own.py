"""The schema that a reader has of a topic: the file, or what its classes ask for where it follows without a file."""

from __future__ import annotations

from pipeline.adapters.avro.registry import Registry, Schema
from pipeline.adapters.avro.schemas.generation import Request, generate
from pipeline.adapters.avro.wire.identity import schema_id


def own_schema(registry: Registry, topic: str, root: object, body: object) -> tuple[int, Schema]:
    """Return id and schema. Raises SchemaError."""
    if registry.has(topic):
        return registry.current(topic)
    schema = generate(Request(topic, root, body))
    return schema_id(schema), schema
