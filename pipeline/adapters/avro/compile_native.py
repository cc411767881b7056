"""Compiles a bound Avro schema into a program for the extension `_native`, which runs without Python code.

The extension is optional: without a C compiler at installation it is missing, and the Python that compile_decode and
compile_encode generate does the same, several times slower.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

from pipeline.adapters.avro.binding import Binding, resolve
from pipeline.adapters.avro.construction import Construction, construction
from pipeline.adapters.avro.conversions import Converted
from pipeline.adapters.avro.registry import Schema
from pipeline.adapters.avro.wire.rewriting import EMPTY_ITEMS_MAX

try:
    from pipeline.adapters.avro import _native
except ImportError:
    _native = None  # type: ignore[assignment]  # it is optional


def is_native() -> bool:
    """Return whether the extension is installed."""
    return _native is not None


def compile_native(
    binding: Binding,
    header: bytes,
    misfits: tuple[type[Exception], ...],
    foreign: Callable[[Any], Any],
    undecodable: Callable[[Any, Exception], Exception],
    unwritable: Callable[[Any, Exception], Exception],
    schema: Schema = None,
) -> _native.Program | None:
    """Return the program of a schema, with `encode(value)`, `decode(data)` and `fit(value)`.

    None if the extension cannot run it. `schema`: a part of the binding's schema; the whole by default.

    If one of `misfits` is raised, `unwritable(value, error)` or `undecodable(data, error)` is raised from it. Data that
    does not begin with `header` is passed to `foreign(data)`.
    """
    if _native is None or binding.recursive:  # nothing of a program can contain itself: that bounds the C stack
        return None
    compiler = Compiler(binding)
    try:
        last = compiler.place(binding.schema if schema is None else schema)
        nodes = tuple(compiler.nodes[: last + 1])
        return _native.Program(nodes, header, EMPTY_ITEMS_MAX, misfits, foreign, undecodable, unwritable)
    except RecursionError:  # nested deeper than the extension allows
        return None


class Compiler:
    """Collects the nodes, each type once, after those that it refers to. `_native.c` documents them."""

    def __init__(self, binding: Binding) -> None:
        self.binding = binding
        self.nodes: list[tuple[Any, ...]] = []
        self._places: dict[str | int, int] = {}

    def place(self, schema: Schema) -> int:
        """Return the index of the node of `schema`; add the node if it is new."""
        schema = resolve(schema, self.binding.names)
        key = schema if isinstance(schema, str) else id(schema)
        if key not in self._places:
            node = self._node(schema)
            self._places[key] = len(self.nodes)
            self.nodes.append(node)
        return self._places[key]

    def _node(self, schema: Schema) -> tuple[Any, ...]:
        if isinstance(schema, list):
            return "union", tuple(map(self.place, schema)), tuple(map(self.binding.python_type, schema))
        if isinstance(schema, Converted):
            made = schema.conversion
            return "converted", self.place(schema.inner), made.type, made.to_avro, made.from_avro, made.inexact
        kind = schema["type"] if isinstance(schema, dict) else schema
        match kind:
            case "boolean":
                return kind, {False: 0, True: 1}
            case "fixed":
                return kind, schema["size"]
            case "enum":
                symbols = tuple(schema["symbols"])
                return kind, symbols, {symbol: code for code, symbol in enumerate(symbols)}
            case "array":
                return kind, self.place(schema["items"])
            case "map":
                return kind, self.place(schema["values"])
            case "record":
                return self._record(schema)
            case _:
                return (kind,)

    def _record(self, schema: dict[str, Any]) -> tuple[Any, ...]:
        cls = self.binding.classes.get(schema["name"])
        made = construction(cls) if cls else Construction("none", ())
        # From 3.14 on, a tuple is more than its items.
        how = "call" if made.how == "tuple" and sys.version_info >= (3, 14) else made.how
        argument = {name: place for place, name in enumerate(made.arguments)}
        fields = tuple(
            (field["name"], self.place(field["type"]), argument.get(field["name"], -1)) for field in schema["fields"]
        )
        return "record", how, cls, fields, made.keywords
