"""Records as their writer's schema has them, for people and tools that have no classes of theirs."""

from __future__ import annotations

import struct
from base64 import b64encode
from collections.abc import Callable
from contextlib import suppress
from io import BytesIO
from typing import Any, NamedTuple

from fastavro import parse_schema, schemaless_reader

from pipeline.adapters.avro.registry import Registry, Schema
from pipeline.adapters.json.form import TYPE, VALUE
from pipeline.adapters.json.writing import scalar
from pipeline.errors import UndecodableRecord
from pipeline.model import TopicKind

BODY = "body"
Known = Callable[[str, int], tuple[str, Schema] | None]


def known_to(registry: Registry) -> Known:
    """Return what finds the schema of an id on a topic, with the name that the manifest has for it."""

    def known(topic: str, schema_id: int) -> tuple[str, Schema] | None:
        kind = TopicKind.of(topic)
        # Replies stand on command topics, too.
        for name in (topic, TopicKind.REPLY.value, *(() if kind is None else (kind.value,))):
            with suppress(UndecodableRecord):
                return name, registry.written_with(schema_id, name)
        return None

    return known


class Said(NamedTuple):
    """What a value says. `schema`: the name of its schema; `type`: of the message, in an envelope of its body.

    `about`: what the envelope says beside the body. Values are JSON, except for bytes, which may be records themselves.
    """

    schema: str
    type: str
    about: dict[str, Any]
    value: Any


class AsWritten:
    """Reads values in the Confluent wire format, each record of a union with its name as `type`."""

    def __init__(self, registry: Registry) -> None:
        self._registry, self._known = registry, known_to(registry)
        self._parsed: dict[tuple[str, int], tuple[str, Any]] = {}

    def read(self, topic: str, data: bytes) -> Said:
        """Return what a record of a topic says. Raises UndecodableRecord."""
        if len(data) < 5 or data[0] != 0:
            raise UndecodableRecord(f"not in the Confluent wire format: {data!r:.40}")
        (schema_id,) = struct.unpack_from(">I", data, 1)
        name, parsed = self._schema(topic, schema_id)
        source = BytesIO(data[5:])
        try:
            value: Any = schemaless_reader(source, parsed, None, return_record_name=True)
        except Exception as error:  # fastavro raises whatever the bytes lead it to
            raise UndecodableRecord(f"not as its schema {schema_id} says: {error!r:.200}") from error
        if source.tell() != len(data) - 5:
            raise UndecodableRecord(f"the record does not end where its schema {schema_id} says")
        if not (isinstance(value, dict) and BODY in value):
            return Said(name, _type_of(parsed, value), {}, _fields(value))
        about = {field: to_json(each) for field, each in value.items() if field != BODY}
        body = next(field["type"] for field in parsed["fields"] if field["name"] == BODY)
        return Said(name, _type_of(body, value[BODY]), about, _fields(value[BODY]))

    def _schema(self, topic: str, schema_id: int) -> tuple[str, Any]:
        if (topic, schema_id) not in self._parsed:
            found = self._known(topic, schema_id)
            if found is None:
                self._registry.written_with(schema_id, topic)  # says why
                raise UndecodableRecord(f"unknown schema id {schema_id}")
            self._parsed[topic, schema_id] = found[0], parse_schema(found[1])
        return self._parsed[topic, schema_id]


def to_json(value: Any) -> Any:
    """Return what fastavro has read, for JSON, except for bytes."""
    if isinstance(value, tuple):
        name, inner = _short(value[0]), to_json(value[1])
        return {TYPE: name, VALUE: inner} if TYPE in inner else {TYPE: name, **inner}
    if isinstance(value, list):
        return [to_json(each) for each in value]
    if isinstance(value, dict):
        return {key: to_json(each) for key, each in value.items()}
    return value if isinstance(value, bytes) else scalar(value)


def without_bytes(value: Any, read: Callable[[bytes], Any] = lambda data: b64encode(data).decode()) -> Any:
    """Return such a value with all bytes in it as what `read` makes of them; by default base64."""
    if isinstance(value, bytes):
        return read(value)
    if isinstance(value, list):
        return [without_bytes(each, read) for each in value]
    if isinstance(value, dict):
        return {key: without_bytes(each, read) for key, each in value.items()}
    return value


def _fields(value: Any) -> Any:
    """Return a message's fields, or what it is if it is no record."""
    return to_json(value[1] if isinstance(value, tuple) else value)


def _type_of(schema: Any, value: Any) -> str:
    """Return the name of what a value is by its schema."""
    if isinstance(value, tuple):
        return _short(value[0])
    named = schema.get("name") or schema.get("type") if isinstance(schema, dict) else schema
    return _short(named) if isinstance(named, str) else type(value).__name__


def _short(name: str) -> str:
    return name.rpartition(".")[2]
