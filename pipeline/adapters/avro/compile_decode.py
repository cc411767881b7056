"""Compiles a bound Avro schema into a Python function that decodes bytes straight into the message classes.

fastavro walks the schema for each record. As a lane handles the same few schemas all the time, the walk is done once,
here, and leaves straight-line code. fastavro stays the reference: property tests compare both.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import Any

from pipeline.adapters.avro.binding import Binding, resolve
from pipeline.adapters.avro.construction import Construction, construction
from pipeline.adapters.avro.conversions import Converted
from pipeline.adapters.avro.registry import Schema
from pipeline.adapters.avro.source_code import DEPTH_MAX, TOO_DEEP, SourceCode
from pipeline.adapters.avro.wire.rewriting import EMPTY_ITEMS_MAX
from pipeline.adapters.avro.wire.varint import length, varint


def compile_decode(binding: Binding, schema: Schema = None) -> Callable[[bytes, int], Any]:
    """Return `decode(data, at)`: it decodes the value from `at` to the end; None for a record without a class.

    `schema`: a part of the binding's schema; the whole by default. `decode` raises one of codec.MISFITS on bytes that
    are no such value.
    """
    code = Decoder(
        binding,
        {
            "new": object.__new__,
            "varint": varint,
            "length": length,
            "unpack_float": struct.Struct("<f").unpack_from,
            "unpack_double": struct.Struct("<d").unpack_from,
        },
    )
    code.emit(0, "def decode(d, i):")
    code.emit(1, f"z = {EMPTY_ITEMS_MAX}; deep = 0")
    code.read(binding.schema if schema is None else schema, "v", 1)
    code.emit(1, "if i != len(d): raise ValueError('the record does not end where its schema says')")
    code.emit(1, "return v")
    return code.function("decode")


class Decoder(SourceCode):
    """Source that decodes.

    Variables of the code: d the bytes, i the position in them, n the last number, e an end, z how many more items
    without bytes are allowed, deep how many records that contain themselves are around.
    """

    def emit_own(self, record: dict[str, Any], name: str, *, keep: bool) -> None:
        self.emit(0, f"def {name}(d, i, z, deep):")
        self.emit(1, f"if deep > {DEPTH_MAX}: raise ValueError({TOO_DEEP!r})")
        self.read_fields(record, "v", 1, keep=keep)
        self.emit(1, "return v, i, z")

    def smallest(self, schema: Schema) -> int:
        """Return the fewest bytes that a value can take."""
        schema = resolve(schema, self.names)
        if isinstance(schema, Converted):
            return self.smallest(schema.inner)
        if isinstance(schema, dict) and schema["type"] == "record":
            if schema["name"] in self.binding.recursive:
                return 1  # it ends by a union, an array or a map
            return sum(self.smallest(field["type"]) for field in schema["fields"])
        if isinstance(schema, dict) and schema["type"] == "fixed":
            return int(schema["size"])
        return 0 if schema == "null" else 1

    def read_number(self, depth: int) -> None:
        self.emit(depth, "n = d[i]; i += 1")
        self.emit(depth, "if n > 127: n, i = varint(n, d, i)")

    def read_length(self, depth: int) -> None:
        self.emit(depth, "n = d[i]; i += 1")
        self.emit(depth, "if n & 1 or n > 127: n, i = length(n, d, i)")
        self.emit(depth, "e = i + (n >> 1)")

    def read(self, schema: Schema, var: str, depth: int, *, keep: bool = True) -> None:
        """Emit code that decodes one value into `var`; with keep=False it may only skip it."""
        schema = resolve(schema, self.names)
        if isinstance(schema, list):
            self.read_union(schema, var, depth, keep=keep)
            return
        if isinstance(schema, Converted):
            self.read(schema.inner, var, depth, keep=keep)
            if keep:
                self.emit(depth, f"{var} = {self.bind(schema.conversion.from_avro)}({var})")
            return
        kind = schema["type"] if isinstance(schema, dict) else schema
        match kind:
            case "null":
                self.emit(depth, f"{var} = None")
            case "string" | "bytes":
                self.read_length(depth)
                if keep:
                    self.emit(depth, f"{var} = d[i:e]{'.decode()' if kind == 'string' else ''}")
                self.emit(depth, "i = e")
            case "int" | "long":
                self.read_number(depth)
                if keep:
                    self.emit(depth, f"{var} = (n >> 1) ^ -(n & 1)")
            case "boolean":
                self.emit(depth, f"{var} = d[i] != 0; i += 1")
            case "float" | "double":
                self.emit(depth, f"({var},) = unpack_{kind}(d, i); i += {4 if kind == 'float' else 8}")
            case "fixed":
                self.emit(depth, f"{var} = d[i:i + {schema['size']}]; i += {schema['size']}")
                self.emit(depth, "if i > len(d): raise ValueError('the record ends too early')")  # a slice does not
            case "enum":
                self.read_length(depth)
                self.emit(depth, f"{var} = {self.bind(tuple(schema['symbols']))}[n >> 1]")
            case "array" | "map":
                self.read_blocks(schema, var, depth, keep=keep)
            case "record":
                self.read_record(schema, var, depth, keep=keep)

    def read_union(self, branches: list[Any], var: str, depth: int, *, keep: bool) -> None:
        self.read_number(depth)
        for index, branch in enumerate(branches):
            self.emit(depth, f"{'el' if index else ''}if n == {2 * index}:")
            self.read(branch, var, depth + 1, keep=keep)
            self.emit(depth + 1, "pass")
        self.emit(depth, "else: raise ValueError('no such branch of a union')")

    def read_blocks(self, schema: dict[str, Any], var: str, depth: int, *, keep: bool) -> None:
        is_map = schema["type"] == "map"
        inner = schema["values" if is_map else "items"]
        count, item, items, key = (self.fresh() for _ in range(4))
        self.emit(depth, f"{items} = {'{}' if is_map else '[]'}")
        self.emit(depth, "while True:")
        self.read_number(depth + 1)
        self.emit(depth + 1, f"{count} = (n >> 1) ^ -(n & 1)")
        self.emit(depth + 1, f"if {count} == 0: break")
        self.emit(depth + 1, f"if {count} < 0:")
        self.emit(depth + 2, f"{count} = -{count}")
        self.read_number(depth + 2)
        if not is_map and self.smallest(inner) == 0:
            self.emit(depth + 1, f"z -= {count}")
            self.emit(depth + 1, "if z < 0: raise ValueError('too many empty items')")
        self.emit(depth + 1, f"for _ in range({count}):")
        if is_map:
            self.read("string", key, depth + 2, keep=keep)
        self.read(inner, item, depth + 2, keep=keep)
        if keep:
            self.emit(depth + 2, f"{items}[{key}] = {item}" if is_map else f"{items}.append({item})")
        self.emit(depth, f"{var} = {items}" if is_map else f"{var} = tuple({items})")

    def read_record(self, schema: dict[str, Any], var: str, depth: int, *, keep: bool) -> None:
        if own := self.own_function(schema, keep=keep):
            self.emit(depth, f"{var}, i, z = {own}(d, i, z, deep + 1)")
        else:
            self.read_fields(schema, var, depth, keep=keep)

    def read_fields(self, schema: dict[str, Any], var: str, depth: int, *, keep: bool) -> None:
        cls = self.binding.classes.get(schema["name"]) if keep else None
        how, positional, keywords = construction(cls) if cls else Construction("none", ())
        values = {}
        for field in schema["fields"]:
            values[field["name"]] = target = self.fresh()
            self.read(field["type"], target, depth, keep=field["name"] in positional + keywords)
        if cls is None:
            self.emit(depth, f"{var} = None")
        elif how == "tuple":
            arguments = "".join(f"{values[name]}, " for name in positional)
            self.emit(depth, f"{var} = {self.bind(tuple.__new__)}({self.bind(cls)}, ({arguments}))")
        elif how == "slots":
            self.emit(depth, f"{var} = new({self.bind(cls)})")
            for name in positional + keywords:
                self.emit(depth, f"{self.bind(cls.__dict__[name].__set__)}({var}, {values[name]})")
        else:
            arguments = ", ".join([values[n] for n in positional] + [f"{n}={values[n]}" for n in keywords])
            self.emit(depth, f"{var} = {self.bind(cls)}({arguments})")
