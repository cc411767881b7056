"""Two versions of a topic's schema, with message classes made for both: old bytes are read as the codec reads them."""

from __future__ import annotations

import dataclasses
from typing import Any, Union

from pipeline.adapters.avro.binding import PRIMITIVES, named_types, resolve
from pipeline.adapters.avro.codec import Codec
from pipeline.adapters.avro.registry import Registry

TOPIC = "x.row"


class Messages:
    """Message classes for a record schema, and messages from plain values.

    In plain values a record is a dict, and in a union a tuple of its name and a dict.
    """

    def __init__(self, schema: Any) -> None:
        self._names = named_types(schema)
        self._classes: dict[str, Any] = {}
        self.schema, self.root = schema, self._annotation(schema)

    def _annotation(self, schema: Any) -> Any:
        schema = resolve(schema, self._names)
        if isinstance(schema, list):
            return Union[tuple(map(self._annotation, schema))]  # noqa: UP007
        kind = schema["type"] if isinstance(schema, dict) else schema
        match kind:
            case "array":
                return tuple[self._annotation(schema["items"]), ...]  # type: ignore[misc]
            case "map":
                return dict[str, self._annotation(schema["values"])]  # type: ignore[misc]
            case "enum":
                return str
            case "fixed":
                return bytes
            case "record":
                name = schema["name"]
                if name not in self._classes:
                    fields = [(field["name"], self._annotation(field["type"])) for field in schema["fields"]]
                    made: Any = dataclasses.make_dataclass(name, fields, frozen=True, slots=True)
                    self._classes[name] = made
                return self._classes[name]
        return PRIMITIVES[kind]

    def message(self, value: Any, schema: Any = None) -> Any:
        """Return a plain value as a message."""
        schema = resolve(self.schema if schema is None else schema, self._names)
        if isinstance(schema, list):
            if isinstance(value, tuple):
                return self.message(value[1], value[0])
            kind = {list: "array", dict: "map"}.get(type(value))
            branches = [resolve(branch, self._names) for branch in schema]
            alike = [b for b in branches if isinstance(b, dict) and b["type"] == kind]
            return self.message(value, alike[0]) if alike else value
        if isinstance(schema, dict) and schema["type"] == "record":
            fields = {field["name"]: self.message(value[field["name"]], field["type"]) for field in schema["fields"]}
            return self._classes[schema["name"]](**fields)
        if isinstance(schema, dict) and schema["type"] == "array":
            return tuple(self.message(item, schema["items"]) for item in value)
        if isinstance(schema, dict) and schema["type"] == "map":
            return {key: self.message(item, schema["values"]) for key, item in value.items()}
        return value


class Versions(Registry):
    """A registry without files: one topic, whose versions have the ids 1, 2, …"""

    def __init__(self, *schemas: Any) -> None:
        self._schemas = schemas

    def current(self, topic: str, *, written: bool = False) -> tuple[int, Any]:
        return len(self._schemas), self._schemas[-1]

    def written_with(self, schema_id: int, topic: str) -> Any:
        return self._schemas[schema_id - 1]

    def is_released(self, schema_id: int, topic: str) -> bool:
        return True


class Pair:
    """An old and a new schema. `read` writes a plain value with the old one, and reads it with the new one."""

    def __init__(self, old: Any, new: Any, *, native: bool) -> None:
        self.old, self.new = Messages(old), Messages(new)
        self._write = Codec(Versions(old), TOPIC, self.old.root, native=native)
        self._read = Codec(Versions(old, new), TOPIC, self.new.root, native=native)

    def write(self, value: Any) -> bytes:
        return self._write.encode(self.old.message(value))

    def decode(self, data: bytes) -> Any:
        return self._read.decode(data)

    def read(self, value: Any) -> Any:
        return self.decode(self.write(value))
