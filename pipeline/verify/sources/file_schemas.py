"""The schemas that export files bring along."""

from __future__ import annotations

from collections.abc import Iterable

from pipeline.adapters.avro.registry import Registry
from pipeline.adapters.avro.wire.identity import same
from pipeline.adapters.exported.reading import ExportFile
from pipeline.errors import SchemaError, UndecodableRecord
from pipeline.topology import Topology


def registry_with(files: Iterable[ExportFile], topology: Topology) -> Registry:
    """Return the schemas of the topology, and those of the files. Raises SchemaError if an id means two schemas."""
    registry = Registry(topology.schemas)
    for file in files:
        for entry in file.schemas:
            number, topic, schema = entry["id"], entry["topic"], entry["schema"]
            try:
                known = registry.written_with(number, topic)
            except UndecodableRecord:
                registry.learn(number, topic, schema)
                continue
            if not same(known, schema):
                raise SchemaError(
                    f"{file.path}: the schema of {topic} with id {number} is another than in {topology.schemas}; merge "
                    "the manifest of those who have written the records, and register your own changes again"
                )
    return registry
