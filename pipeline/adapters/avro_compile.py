"""Compiles a bound Avro schema into Python source that reads and writes the message classes directly.

fastavro walks the schema anew for each record; the lane handles the same few schemas all day, so the walk is done once,
here, and leaves straight-line code. fastavro stays the contract: property tests hold both to the same bytes.
"""

from __future__ import annotations

import dataclasses
import struct
from collections.abc import Callable
from functools import lru_cache
from typing import Any

from pipeline.adapters.binding import PRIMITIVES, Binding, field_hints, resolve
from pipeline.adapters.registry import Schema
from pipeline.errors import SchemaError

# Items that take no bytes could be claimed by the billion in a record of a few; this many at most are believed.
EMPTY_ITEMS_MAX = 100_000
SMALL = [bytes([n]) for n in range(128)]


def varint(first: int, data: bytes, at: int) -> tuple[int, int]:
    """The rest of a zigzag varint whose first byte was `first`: its raw value and the place behind it."""
    value, shift = first & 127, 7
    while True:
        byte = data[at]
        at += 1
        value |= (byte & 127) << shift
        if byte < 128:
            if value >> 64:
                raise ValueError("a number of more than 64 bits")
            return value, at
        shift += 7
        if shift > 63:
            raise ValueError("a number of more than 64 bits")


def length(first: int, data: bytes, at: int) -> tuple[int, int]:
    """The rest of a length, still doubled as zigzag has it: refuses negative ones."""
    if first > 127:
        first, at = varint(first, data, at)
    if first & 1:
        raise ValueError("a negative length")
    return first, at


def long_bytes(n: int) -> bytes:
    """Zigzag varint of a 64-bit number."""
    if 64 <= n < 8192:
        return bytes((n << 1 & 127 | 128, n >> 6))
    return any_long_bytes(n)


# Large numbers are mostly times, and the records of a batch share them: the same few come again and again.
@lru_cache(4096)
def any_long_bytes(n: int) -> bytes:
    """Zigzag varint of any 64-bit number."""
    if not -0x8000000000000000 <= n <= 0x7FFFFFFFFFFFFFFF:
        raise ValueError(f"{n} does not fit 64 bits")
    n = (n << 1) ^ (n >> 63)
    out = bytearray()
    while n > 127:
        out.append(n & 127 | 128)
        n >>= 7
    out.append(n)
    return bytes(out)


def int_bytes(n: int) -> bytes:
    """Zigzag varint of a 32-bit number."""
    if not -0x80000000 <= n <= 0x7FFFFFFF:
        raise ValueError(f"{n} does not fit 32 bits")
    return long_bytes(n)


def is_plain(cls: type) -> bool:
    """Whether setting the slots is all that the constructor of this dataclass does.

    A frozen one sets each through object.__setattr__, which takes most of the time it takes to read a small record.
    """
    parameters = getattr(cls, "__dataclass_params__", None)
    return (
        parameters is not None
        and parameters.init
        and cls.__new__ is object.__new__
        and not hasattr(cls, "__post_init__")
        and all(field.init and hasattr(cls.__dict__.get(field.name), "__set__") for field in dataclasses.fields(cls))
    )


class Compiler:
    """Writes the two functions for one binding; `decode(data, at)` and `encode(value, header)`."""

    def __init__(self, binding: Binding) -> None:
        self.binding = binding
        self.names = binding.names
        self.lines: list[str] = []
        self.env: dict[str, Any] = {
            "new": object.__new__,
            "varint": varint,
            "length": length,
            "long_bytes": long_bytes,
            "int_bytes": int_bytes,
            "SMALL": SMALL,
            "unpack_float": struct.Struct("<f").unpack_from,
            "unpack_double": struct.Struct("<d").unpack_from,
            "pack_float": struct.Struct("<f").pack,
            "pack_double": struct.Struct("<d").pack,
        }
        self.serial = 0
        self.open_records: list[str] = []

    def functions(self) -> tuple[Callable[[bytes, int], Any], Callable[[Any, bytes], bytes]]:
        """The compiled pair. What `decode` returns for a record without a class is None."""
        self.emit(0, "def decode(d, i):")
        self.read(self.binding.schema, "v", 1)
        self.emit(1, "if i != len(d): raise ValueError('the record does not end where its schema says')")
        self.emit(1, "return v")
        self.emit(0, "def encode(v, header):")
        self.emit(1, "p = [header]")
        self.emit(1, "add = p.append")
        self.write(self.binding.schema, "v", 1)
        self.emit(1, "return b''.join(p)")
        exec(compile("\n".join(self.lines), f"<avro {self.binding.topic}>", "exec"), self.env)  # noqa: S102
        return self.env["decode"], self.env["encode"]

    def emit(self, depth: int, line: str) -> None:
        self.lines.append("    " * depth + line)

    def fresh(self) -> str:
        self.serial += 1
        return f"v{self.serial}"

    def bind(self, value: Any) -> str:
        name = f"c{len(self.env)}"
        self.env[name] = value
        return name

    def enter(self, record: dict[str, Any]) -> None:
        if record["name"] in self.open_records:
            raise SchemaError(f"{self.binding.topic}.avsc: record {record['name']!r} contains itself; not supported")
        self.open_records.append(record["name"])

    def smallest(self, schema: Schema) -> int:
        """Fewest bytes that a value can take."""
        schema = resolve(schema, self.names)
        if isinstance(schema, dict) and schema["type"] == "record":
            return sum(self.smallest(field["type"]) for field in schema["fields"])
        if isinstance(schema, dict) and schema["type"] == "fixed":
            return int(schema["size"])
        return 0 if schema == "null" else 1

    # --- reading ------------------------------------------------------------------------------------------------------

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
                self.emit(depth, f"{var} = d[i:i + {schema['size']}]; i += {schema['size']}")  # type: ignore[index]
            case "enum":
                self.read_length(depth)
                self.emit(depth, f"{var} = {self.bind(tuple(schema['symbols']))}[n >> 1]")  # type: ignore[index]
            case "array" | "map":
                self.read_blocks(schema, var, depth, keep=keep)  # type: ignore[arg-type]
            case "record":
                self.read_record(schema, var, depth, keep=keep)  # type: ignore[arg-type]

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
        self.enter(schema)
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
        self.open_records.pop()

    # --- writing ------------------------------------------------------------------------------------------------------

    def write_count(self, expression: str, depth: int) -> None:
        self.emit(depth, f"n = {expression}")
        self.emit(depth, "add(SMALL[n << 1] if n < 64 else long_bytes(n))")

    def write(self, schema: Schema, value: str, depth: int) -> None:
        """Code that appends the bytes of the expression `value` to the parts."""
        schema = resolve(schema, self.names)
        if isinstance(schema, list):
            self.write_union(schema, value, depth)
            return
        kind = schema["type"] if isinstance(schema, dict) else schema
        match kind:
            case "null":
                self.emit(depth, f"if {value} is not None: raise TypeError('expected None')")
            case "string":
                self.emit(depth, f"s = {value}.encode()")
                self.write_count("len(s)", depth)
                self.emit(depth, "add(s)")
            case "bytes":
                self.emit(depth, f"s = {value}")
                self.emit(depth, "if type(s) is not bytes: raise TypeError('expected bytes')")
                self.write_count("len(s)", depth)
                self.emit(depth, "add(s)")
            case "int" | "long":
                self.emit(depth, f"n = {value}")
                self.emit(depth, f"add(SMALL[n << 1] if 0 <= n < 64 else {kind}_bytes(n))")
            case "boolean":
                self.emit(depth, f"add({self.bind({False: SMALL[0], True: SMALL[1]})}[{value}])")
            case "float" | "double":
                self.emit(depth, f"add(pack_{kind}({value}))")
            case "fixed":
                size = schema["size"]  # type: ignore[index]
                self.emit(depth, f"s = {value}")
                self.emit(depth, f"if type(s) is not bytes or len(s) != {size}: raise TypeError('expected bytes')")
                self.emit(depth, "add(s)")
            case "enum":
                codes = {symbol: long_bytes(n) for n, symbol in enumerate(schema["symbols"])}  # type: ignore[index]
                self.emit(depth, f"add({self.bind(codes)}[{value}])")
            case "array" | "map":
                self.write_items(schema, value, depth)  # type: ignore[arg-type]
            case "record":
                self.enter(schema)  # type: ignore[arg-type]
                for field in schema["fields"]:  # type: ignore[index]
                    inner = self.fresh()
                    self.emit(depth, f"{inner} = {value}.{field['name']}")
                    self.write(field["type"], inner, depth)
                self.open_records.pop()

    def write_items(self, schema: dict[str, Any], value: str, depth: int) -> None:
        item, key = self.fresh(), self.fresh()
        expected = "dict" if schema["type"] == "map" else "tuple"
        self.emit(depth, f"if type({value}) is not {expected}: raise TypeError('expected {expected}')")
        self.emit(depth, f"if {value}:")
        self.write_count(f"len({value})", depth + 1)
        if schema["type"] == "map":
            self.emit(depth + 1, f"for {key}, {item} in {value}.items():")
            self.write("string", key, depth + 2)
            self.write(schema["values"], item, depth + 2)
        else:
            self.emit(depth + 1, f"for {item} in {value}:")
            self.write(schema["items"], item, depth + 2)
            self.emit(depth + 2, "pass")
        self.emit(depth, "add(b'\\0')")

    def write_union(self, branches: list[Any], value: str, depth: int) -> None:
        self.emit(depth, f"t = type({value})")
        for index, branch in enumerate(branches):
            cls = self.bind(self.python_type(branch))
            self.emit(depth, f"{'el' if index else ''}if t is {cls}:")
            self.emit(depth + 1, f"add({long_bytes(index)!r})")
            self.write(branch, value, depth + 1)
        self.emit(depth, "else: raise TypeError('not in the union')")

    def python_type(self, branch: Schema) -> type:
        branch = resolve(branch, self.names)
        if isinstance(branch, str):
            return PRIMITIVES[branch]
        kinds: dict[str, type] = {"array": tuple, "map": dict, "enum": str, "fixed": bytes}
        if isinstance(branch, dict) and branch["type"] in kinds:
            return kinds[branch["type"]]
        # A record that a follower has no class for is never written; no value is of this type.
        return self.binding.classes.get(branch["name"], type("NoClass", (), {}))  # type: ignore[call-overload, index]
