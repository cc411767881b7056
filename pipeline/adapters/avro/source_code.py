"""Builds Python source line by line, for both compilers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from pipeline.adapters.avro.binding import Binding

DEPTH_MAX = 64  # of records that contain themselves; what follows them needs Python's stack, too
TOO_DEEP = f"nested more than {DEPTH_MAX} deep"


class SourceCode:
    """Lines of one function, and the objects to which they refer by name.

    A record that contains itself has a function of its own, with the parameter `deep`: how many such are around it.
    """

    def __init__(self, binding: Binding, env: dict[str, Any]) -> None:
        self.binding, self.names, self.env = binding, binding.names, env
        self.lines: list[str] = []
        self.serial = 0
        self._own: dict[tuple[int, bool], str] = {}  # functions by record, and whether its value is kept
        self._missing: list[tuple[dict[str, Any], str, bool]] = []  # those without lines so far

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

    def own_function(self, record: dict[str, Any], *, keep: bool = True) -> str | None:
        """Return the name of the function for a record; None if its code stands where it is used."""
        if record["name"] not in self.binding.recursive:
            return None
        if (id(record), keep) not in self._own:
            name = self._own[id(record), keep] = f"own{len(self._own)}"
            self._missing.append((record, name, keep))
        return self._own[id(record), keep]

    def emit_own(self, record: dict[str, Any], name: str, *, keep: bool) -> None:
        """Add the function for a record that contains itself."""
        raise NotImplementedError

    def function(self, name: str) -> Callable[..., Any]:
        """Return the finished function of that name."""
        while self._missing:
            record, own, keep = self._missing.pop()
            self.emit_own(record, own, keep=keep)
        exec(compile("\n".join(self.lines), f"<avro {self.binding.topic} {name}>", "exec"), self.env)
        made: Callable[..., Any] = self.env[name]
        return made
