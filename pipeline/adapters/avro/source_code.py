"""Writes Python source line by line; what the two compilers share."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from pipeline.adapters.avro.binding import Binding, resolve
from pipeline.adapters.avro.registry import Schema
from pipeline.errors import SchemaError


class SourceCode:
    """Lines of one function, and the objects that they refer to by name."""

    def __init__(self, binding: Binding, env: dict[str, Any]) -> None:
        self.binding, self.names, self.env = binding, binding.names, env
        self.lines: list[str] = []
        self.serial = 0
        refuse_recursion(binding)

    def emit(self, depth: int, line: str) -> None:
        """Adds a line, indented by `depth` steps."""
        self.lines.append("    " * depth + line)

    def fresh(self) -> str:
        """A variable not used yet."""
        self.serial += 1
        return f"v{self.serial}"

    def bind(self, value: Any) -> str:
        """A name by which the code can refer to `value`."""
        name = f"c{len(self.env)}"
        self.env[name] = value
        return name

    def function(self, name: str) -> Callable[..., Any]:
        """The finished function of that name."""
        exec(compile("\n".join(self.lines), f"<avro {self.binding.topic} {name}>", "exec"), self.env)
        made: Callable[..., Any] = self.env[name]
        return made


def refuse_recursion(binding: Binding) -> None:
    """SchemaError for a record that contains itself: straight-line code cannot follow it."""

    def walk(schema: Schema, open_records: tuple[str, ...]) -> None:
        schema = resolve(schema, binding.names)
        if isinstance(schema, list):
            for branch in schema:
                walk(branch, open_records)
        elif isinstance(schema, dict):
            if schema["type"] == "record":
                if schema["name"] in open_records:
                    raise SchemaError(f"{binding.topic}.avsc: record {schema['name']!r} contains itself; not supported")
                open_records += (schema["name"],)
            for part in (
                *(field["type"] for field in schema.get("fields", ())),
                schema.get("items"),
                schema.get("values"),
            ):
                if part is not None:
                    walk(part, open_records)

    walk(binding.schema, ())
