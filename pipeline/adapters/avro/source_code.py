"""Builds Python source line by line, for both compilers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from pipeline.adapters.avro.binding import Binding


class SourceCode:
    """Lines of one function, and the objects to which they refer by name."""

    def __init__(self, binding: Binding, env: dict[str, Any]) -> None:
        self.binding, self.names, self.env = binding, binding.names, env
        self.lines: list[str] = []
        self.serial = 0

    def emit(self, depth: int, line: str) -> None:
        """Add a line, indented by `depth` steps."""
        self.lines.append("    " * depth + line)

    def fresh(self) -> str:
        """Return a new variable."""
        self.serial += 1
        return f"v{self.serial}"

    def bind(self, value: Any) -> str:
        """Return a name by which the code can refer to `value`."""
        name = f"c{len(self.env)}"
        self.env[name] = value
        return name

    def function(self, name: str) -> Callable[..., Any]:
        """Return the finished function of that name."""
        exec(compile("\n".join(self.lines), f"<avro {self.binding.topic} {name}>", "exec"), self.env)
        made: Callable[..., Any] = self.env[name]
        return made
