"""The schemas of a directory with the ids that a schema registry gives them, where one is in use.

Records then have these ids, so that every program that knows the registry can read them. Ids of the manifest stay
readable, as those of records that were written without it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Protocol

from pipeline.adapters.avro.registry import ENGINE, MANIFEST, Registry, Schema, Written
from pipeline.adapters.avro.wire.identity import FIRST
from pipeline.adapters.schema_registry import schema_registry
from pipeline.errors import NotKnownYet, RegistryUnreachable, SchemaError, UndecodableRecord
from pipeline.model import TopicKind

NO_NAMES: Mapping[str, str] = {}


class Server(Protocol):
    """What a schema registry is asked; see adapters.schema_registry."""

    def find(self, subject: str, schema: Schema) -> int | None: ...
    def register(self, subject: str, schema: Schema) -> int: ...
    def schema(self, schema_id: int) -> Schema | None: ...


def open_registry(directory: Path, names: Mapping[str, str] = NO_NAMES, *, registers: bool = False) -> Registry:
    """Return the schemas of a directory, with the ids of the schema registry in use if there is one.

    `names`: those of topics that are called otherwise than declared. `registers`: what is written is registered.
    """
    server = schema_registry()
    return Registry(directory) if server is None else ServedRegistry(directory, server, names, registers=registers)


def served_by(registry: Registry) -> list[tuple[str, int, str]]:
    """Return topic, id and subject of what a schema registry has of these schemas."""
    return registry.served() if isinstance(registry, ServedRegistry) else []


class ServedRegistry(Registry):
    """The schemas of one directory, with ids of a registry. Asks it once for each topic, and for each id it meets.

    Raises as the server does, too.
    """

    def __init__(
        self, directory: Path, server: Server, names: Mapping[str, str] = NO_NAMES, *, registers: bool = False
    ) -> None:
        super().__init__(directory)
        self._server, self._names, self._registers = server, names, registers
        self._served: dict[str, int] = {}
        self._served_schemas: dict[int, Schema] = {}  # by id, whatever the topic

    def subject(self, topic: str) -> str:
        """Return the subject of a topic's schema: for the engine's own, which many topics have, its record's name."""
        if (ENGINE / f"{topic}.avsc").exists():
            schema = self.read(topic)
            return f"{schema['namespace']}.{schema['name']}"
        return f"{self._names.get(topic, topic)}-value"

    def current(self, topic: str, *, written: bool = False) -> tuple[int, Schema]:
        """Return id and schema of the present version: the manifest's id as long as the registry has not got it."""
        number, schema = super().current(topic)
        if TopicKind.of(topic) is TopicKind.REPLICA:
            return number, schema
        if topic not in self._served:
            self._refuse_low_ids(topic)
            found = self._server.find(self.subject(topic), schema)
            if found is None and written and self._registers:
                found = self._server.register(self.subject(topic), schema)
            if found is None:
                return number, schema
            self._served[topic], self._served_schemas[found] = found, schema
        return self._served[topic], schema

    def written_with(self, schema_id: int, topic: str) -> Schema:
        """Return the schema of that id, also one that only the registry has. Raises UndecodableRecord, NotKnownYet."""
        try:
            return super().written_with(schema_id, topic)
        except NotKnownYet:
            if schema_id not in self._served_schemas:
                try:
                    schema = self._server.schema(schema_id)
                except SchemaError as error:
                    raise UndecodableRecord(str(error)) from None
                except RegistryUnreachable as error:
                    raise NotKnownYet(f"unknown schema id {schema_id}: {error}", published=False) from None
                if schema is None:
                    raise
                self._served_schemas[schema_id] = schema
            return self._served_schemas[schema_id]

    def is_released(self, schema_id: int, topic: str) -> bool:
        """Return whether the manifest has that id, or only the registry: newer code of this service publishes its own.

        So a record by another program that does not fit is not waited for, as if code were to come that reads it. But
        events are written by their owner alone.
        """
        by_another = schema_id in self._served_schemas and (schema_id, topic) not in self._learned
        return super().is_released(schema_id, topic) or (by_another and TopicKind.of(topic) is not TopicKind.EVENT)

    def versions(self, topics: Iterable[str]) -> list[Written]:
        """Return all versions of these topics that the manifest has, and the present one by the registry's id, too."""
        names = list(topics)
        served = [Written(self._served[t], t, self.read(t)) for t in sorted(names) if t in self._served]
        return super().versions(names) + served

    def served(self) -> list[tuple[str, int, str]]:
        """Return topic, id and subject of what the registry has."""
        return [(topic, number, self.subject(topic)) for topic, number in sorted(self._served.items())]

    def _refuse_low_ids(self, topic: str) -> None:
        low = [version.id for version in self._versions[topic] if version.id < FIRST]
        if low:
            raise SchemaError(
                f"{self.directory / MANIFEST} has ids of {topic} that a schema registry gives to schemas, too: "
                f"{', '.join(map(str, low))}; remove these versions if no records of them are left, and register the "
                "present one anew, or go without --registry"
            )
