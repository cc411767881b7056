"""Compiles a bound Avro schema into a Python function that encodes the message classes; see compile_decode for why."""

from __future__ import annotations

import math
import struct
from collections.abc import Callable
from typing import Any

from pipeline.adapters.avro.binding import Binding, resolve
from pipeline.adapters.avro.conversions import Converted
from pipeline.adapters.avro.registry import Schema
from pipeline.adapters.avro.source_code import DEPTH_MAX, TOO_DEEP, SourceCode
from pipeline.adapters.avro.wire.varint import SMALL, int_bytes, long_bytes


def compile_encode(
    binding: Binding,
    header: bytes,
    misfits: tuple[type[Exception], ...],
    explain: Callable[[Any, Exception], Exception],
    schema: Schema = None,
) -> Callable[[Any], bytes]:
    """Return `encode(value)`: it returns the header and the value's bytes.

    `schema`: a part of the binding's schema; the whole by default. If the value raises one of `misfits`, it raises
    `explain(value, error)` instead.
    """
    code = Encoder(
        binding,
        {
            "header": header,
            "misfits": misfits,
            "explain": explain,
            "long_bytes": long_bytes,
            "int_bytes": int_bytes,
            "SMALL": SMALL,
            "pack_float": struct.Struct("<f").pack,
            "pack_double": struct.Struct("<d").pack,
            "isfinite": math.isfinite,
        },
    )
    code.emit(0, "def encode(v):")
    code.emit(1, "try:")  # here, not in a caller: saves the hot path a call for each record
    code.emit(2, "p = [header]")
    code.emit(2, "add = p.append; deep = 0")
    code.write(binding.schema if schema is None else schema, "v", 2)
    code.emit(2, "return b''.join(p)")
    code.emit(1, "except misfits as error:")
    code.emit(2, "raise explain(v, error) from error")
    return code.function("encode")


class Encoder(SourceCode):
    """Source that encodes.

    Variables of the code: v the value, add appends bytes, n a number, s a string, t a type, deep how many records that
    contain themselves are around.
    """

    def emit_own(self, record: dict[str, Any], name: str, *, keep: bool) -> None:
        self.emit(0, f"def {name}(v, add, deep):")
        self.emit(1, f"if deep > {DEPTH_MAX}: raise ValueError({TOO_DEEP!r})")
        self.write_fields(record, "v", 1)

    def write_count(self, expression: str, depth: int) -> None:
        self.emit(depth, f"n = {expression}")
        self.emit(depth, "add(SMALL[n << 1] if n < 64 else long_bytes(n))")

    def write(self, schema: Schema, value: str, depth: int) -> None:
        """Emit code that appends the bytes of the expression `value` to the parts."""
        schema = resolve(schema, self.names)
        if isinstance(schema, list):
            self.write_union(schema, value, depth)
            return
        if isinstance(schema, Converted):
            self.write_converted(schema, value, depth)
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
                self.emit(depth, f"if not isfinite({value}): raise ValueError('a number that is not finite')")
                self.emit(depth, f"add(pack_{kind}({value}))")
            case "fixed":
                size = schema["size"]
                self.emit(depth, f"s = {value}")
                self.emit(depth, f"if type(s) is not bytes or len(s) != {size}: raise TypeError('expected bytes')")
                self.emit(depth, "add(s)")
            case "enum":
                codes = {symbol: long_bytes(n) for n, symbol in enumerate(schema["symbols"])}
                self.emit(depth, f"add({self.bind(codes)}[{value}])")
            case "array" | "map":
                self.write_items(schema, value, depth)
            case "record":
                if own := self.own_function(schema):
                    self.emit(depth, f"{own}({value}, add, deep + 1)")
                else:
                    self.write_fields(schema, value, depth)

    def write_fields(self, schema: dict[str, Any], value: str, depth: int) -> None:
        for field in schema["fields"]:
            inner = self.fresh()
            self.emit(depth, f"{inner} = {value}.{field['name']}")
            self.write(field["type"], inner, depth)

    def write_converted(self, schema: Converted, value: str, depth: int) -> None:
        made, cls = self.fresh(), schema.conversion.type
        self.emit(depth, f"if type({value}) is not {self.bind(cls)}: raise TypeError({f'expected {cls.__name__}'!r})")
        self.emit(depth, f"{made} = {self.bind(schema.conversion.to_avro)}({value})")
        self.write(schema.inner, made, depth)

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
        types = [self.binding.python_type(branch) for branch in branches]
        if int not in types:  # an int will do where a float is wanted
            self.emit(depth, "if t is int: t = float")
        for index, branch in enumerate(branches):
            cls = self.bind(types[index])  # no value has the type None
            self.emit(depth, f"{'el' if index else ''}if t is {cls}:")
            self.emit(depth + 1, f"add({long_bytes(index)!r})")
            self.write(branch, value, depth + 1)
        self.emit(depth, "else: raise TypeError('not in the union')")
