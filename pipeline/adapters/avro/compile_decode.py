"""Compiles a bound Avro schema into a Python function that reads bytes straight into the message classes.

fastavro walks the schema anew for each record; the lane handles the same few schemas all day, so the walk is done once,
here, and leaves straight-line code. fastavro stays the contract: property tests hold both to the same values.
"""

from __future__ import annotations

import dataclasses
import struct
from collections.abc import Callable
from typing import Any

from pipeline.adapters.avro.binding import Binding, field_hints, resolve
from pipeline.adapters.avro.registry import Schema
from pipeline.adapters.avro.source_code import SourceCode
from pipeline.adapters.avro.varint import length, varint

# Items that take no bytes could be claimed by the billion in a record of a few; this many at most are believed.
EMPTY_ITEMS_MAX = 100_000


def compile_decode(binding: Binding) -> Callable[[bytes, int], Any]:
    """`decode(data, at)`: the value whose bytes begin at `at` and end with the data; None for a record without a class.

    Raises one of codec.MISFITS on bytes that are no such value.
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
    code.read(binding.schema, "v", 1)
    code.emit(1, "if i != len(d): raise ValueError('the record does not end where its schema says')")
    code.emit(1, "return v")
    return code.function("decode")


def is_plain(cls: type) -> bool:
    """Whether setting the slots is all that the constructor of this dataclass does.

    A frozen one sets each through object.__setattr__, which takes most of the time it takes to read a small record.
    """
    parameters = getattr(cls, "__dataclass_params__", None)
    return (
        parameters is not None
        and parameters.init
        and "__new__" not in cls.__dict__
        and not hasattr(cls, "__post_init__")
        and all(field.init and hasattr(cls.__dict__.get(field.name), "__set__") for field in dataclasses.fields(cls))
    )


class Decoder(SourceCode):
    """Source that reads. Variables of the code: d the bytes, i the place in them, n the number read last, e an end."""

    def smallest(self, schema: Schema) -> int:
        """Fewest bytes that a value can take."""
        schema = resolve(schema, self.names)
        if isinstance(schema, dict) and schema["type"] == "record":
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
        """Code that reads one value into `var`; with keep=False it only steps over it where that is cheaper."""
        schema = resolve(schema, self.names)
        if isinstance(schema, list):
            self.read_union(schema, var, depth, keep=keep)
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
            self.emit(depth + 1, f"if {count} > {EMPTY_ITEMS_MAX}: raise ValueError('too many empty items')")
        self.emit(depth + 1, f"for _ in range({count}):")
        if is_map:
            self.read("string", key, depth + 2)
        self.read(inner, item, depth + 2, keep=keep)
        if keep:
            self.emit(depth + 2, f"{items}[{key}] = {item}" if is_map else f"{items}.append({item})")
        self.emit(depth, f"{var} = {items}" if is_map else f"{var} = tuple({items})")

    def read_record(self, schema: dict[str, Any], var: str, depth: int, *, keep: bool) -> None:
        cls = self.binding.classes.get(schema["name"]) if keep else None
        wanted = field_hints(cls) if cls else {}
        values = {}
        for field in schema["fields"]:
            values[field["name"]] = target = self.fresh()
            self.read(field["type"], target, depth, keep=field["name"] in wanted)
        arguments = ", ".join(values[name] for name in wanted)
        if cls is None:
            self.emit(depth, f"{var} = None")
        elif issubclass(cls, tuple):  # skips the named tuple's own __new__, which only repacks
            self.emit(depth, f"{var} = {self.bind(tuple.__new__)}({self.bind(cls)}, ({arguments},))")
        elif is_plain(cls):
            self.emit(depth, f"{var} = new({self.bind(cls)})")
            for name in wanted:
                self.emit(depth, f"{self.bind(cls.__dict__[name].__set__)}({var}, {values[name]})")
        else:
            self.emit(depth, f"{var} = {self.bind(cls)}({arguments})")
