"""The parts of which the rewriting of records from one schema to another is made: over bytes, without values."""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from pipeline.adapters.avro.wire.varint import length, long_bytes, varint

Schema = Any  # JSON of an Avro schema: a name, a list (union) or a dict
Part = TypeVar("Part")
Skip = Callable[[bytes, int], int]  # return the position after the value
Copy = Callable[[bytes, int, bytearray], int]  # write the value to the end of the third; return the position after it
PACKED = {"float": struct.Struct("<f"), "double": struct.Struct("<d")}
# A few bytes could claim billions of items that take no bytes; so at most this many are allowed in a record.
EMPTY_ITEMS_MAX = 100_000
BITS = {"int": 31, "long": 63}


class Unreadable(ValueError):
    """A value that the reader's schema has no place for."""


class NotFollowed(Exception):
    """A record of a kind that its reader has no class for, and does not want."""


def _number(data: bytes, at: int) -> tuple[int, int]:
    raw, at = varint(data[at], data, at + 1) if data[at] > 127 else (data[at], at + 1)
    return (raw >> 1) ^ -(raw & 1), at


def _skip_number(data: bytes, at: int) -> int:
    return _number(data, at)[1]


def _skip_text(data: bytes, at: int) -> int:
    doubled, at = length(data[at], data, at + 1)
    return _within(data, at + (doubled >> 1))


def _within(data: bytes, end: int) -> int:
    if end > len(data):
        raise ValueError("the record ends too early")
    return end


def _skip_fixed(size: int) -> Skip:
    return lambda data, at: _within(data, at + size)


def skipper(schema: Schema, names: dict[str, Any], records: dict[str, list[Skip]] | None = None) -> Skip:
    """Return what steps over a value. `names`: the named types of the parsed schema.

    `records`: those met so far, each with what steps over its fields, or will once all of that is made.
    """
    records = {} if records is None else records
    schema = names.get(schema, schema) if isinstance(schema, str) else schema
    if isinstance(schema, list):
        return _skip_union([skipper(branch, names, records) for branch in schema])
    kind = schema["type"] if isinstance(schema, dict) else schema
    match kind:
        case "record":
            if schema["name"] not in records:
                fields = records[schema["name"]] = []
                fields += [skipper(field["type"], names, records) for field in schema["fields"]]
            return _skip_record(records[schema["name"]])
        case "array":
            return _skip_blocks(skipper(schema["items"], names, records), has_keys=False)
        case "map":
            return _skip_blocks(skipper(schema["values"], names, records), has_keys=True)
        case "fixed":
            return _skip_fixed(schema["size"])
        case "string" | "bytes":
            return _skip_text
        case "null" | "boolean" | "float" | "double":
            return _skip_fixed({"null": 0, "boolean": 1, "float": 4, "double": 8}[kind])
        case _:  # a number, or the number of an enum's symbol
            return _skip_number


def _skip_record(fields: Sequence[Skip]) -> Skip:
    def skip(data: bytes, at: int) -> int:
        for field in fields:
            at = field(data, at)
        return at

    return skip


def _skip_union(branches: Sequence[Skip]) -> Skip:
    def skip(data: bytes, at: int) -> int:
        index, at = _number(data, at)
        return _of(branches, index)(data, at)

    return skip


def _of(parts: Sequence[Part], index: int) -> Part:
    if not 0 <= index < len(parts):
        raise ValueError(f"there is no branch or symbol {index}")
    return parts[index]


def _block(data: bytes, at: int) -> tuple[int, int]:
    """Return how many items the next block has, and where they begin."""
    count, at = _number(data, at)
    return (-count, _skip_number(data, at)) if count < 0 else (count, at)


def _skip_blocks(item: Skip, *, has_keys: bool) -> Skip:
    def skip(data: bytes, at: int) -> int:
        while True:
            count, at = _block(data, at)
            if count == 0:
                return at
            for _ in range(count):
                end = item(data, _skip_text(data, at) if has_keys else at)
                if end == at:  # an item that takes no bytes; so do the others, and there may be billions
                    break
                at = end

    return skip


def copied(skip: Skip) -> Copy:
    """Return what copies the bytes of a value."""

    def copy(data: bytes, at: int, out: bytearray) -> int:
        end = skip(data, at)
        out += data[at:end]
        return end

    return copy


def impossible(why: str) -> Copy:
    """Return what refuses every value."""

    def copy(data: bytes, at: int, out: bytearray) -> int:
        raise Unreadable(why)

    return copy


def not_followed(data: bytes, at: int, out: bytearray) -> int:
    """Say that the record is none for this reader."""
    raise NotFollowed


def number_as(kind: str, *, integer: bool) -> Copy:
    """Return what writes a whole number, or otherwise a float, as a float of that kind."""
    pack = PACKED[kind].pack
    unpack = PACKED["float"].unpack_from

    def copy(data: bytes, at: int, out: bytearray) -> int:
        if integer:
            number, at = _number(data, at)
        else:
            (number,), at = unpack(data, at), at + 4
        out += pack(number)
        return at

    return copy


def constant(written: bytes) -> Copy:
    """Return what writes these bytes, and reads none."""

    def copy(data: bytes, at: int, out: bytearray) -> int:
        out += written
        return at

    return copy


def union_copy(branches: Sequence[Copy]) -> Copy:
    """Return what reads the number of a branch, or of an enum's symbol, and rewrites what it stands for."""

    def copy(data: bytes, at: int, out: bytearray) -> int:
        index, at = _number(data, at)
        return _of(branches, index)(data, at, out)

    return copy


def text_copy(refused: dict[str, Copy]) -> Copy:
    """Return what copies a text, unless it is one of those."""
    by_bytes = {text.encode(): refuse for text, refuse in refused.items()}

    def copy(data: bytes, at: int, out: bytearray) -> int:
        doubled, start = length(data[at], data, at + 1)
        end = _within(data, start + (doubled >> 1))
        if (refuse := by_bytes.get(data[start:end])) is not None:
            return refuse(data, at, out)
        out += data[at:end]
        return end

    return copy


def branch_copy(index: int, inner: Copy) -> Copy:
    """Return what writes a value as a branch of a union."""
    prefix = long_bytes(index)

    def copy(data: bytes, at: int, out: bytearray) -> int:
        out += prefix
        return inner(data, at, out)

    return copy


def array_copy(item: Copy, *, has_keys: bool) -> Copy:
    """Return what rewrites each item of an array, or each value of a map."""
    copy_key = copied(_skip_text)

    def copy(data: bytes, at: int, out: bytearray) -> int:
        empty = 0
        while True:
            count, at = _block(data, at)
            out += long_bytes(count)
            if count == 0:
                return at
            for _ in range(count):
                end = item(data, copy_key(data, at, out) if has_keys else at, out)
                empty += end == at
                if empty > EMPTY_ITEMS_MAX:
                    raise ValueError("too many empty items")
                at = end

    return copy


def record_copy(fields: Sequence[tuple[Copy, int]], defaults: dict[int, bytes], count: int) -> Copy:
    """Return what rewrites a record.

    `fields`: for each of the writer's, what copies it, and its place among the reader's `count` fields; -1: left out.
    `defaults`: the bytes of the reader's other fields, by place.
    """
    if not defaults and [place for _, place in fields] == list(range(count)):

        def copy_in_order(data: bytes, at: int, out: bytearray) -> int:
            for field, _ in fields:
                at = field(data, at, out)
            return at

        return copy_in_order

    def copy(data: bytes, at: int, out: bytearray) -> int:
        parts = [bytearray(defaults.get(place, b"")) for place in range(count)]
        for field, place in fields:
            at = field(data, at, parts[place] if place >= 0 else bytearray())
        for part in parts:
            out += part
        return at

    return copy


class Later:
    """Rewrites a record inside itself: by what `copy` is once it is known."""

    copy: Copy

    def __call__(self, data: bytes, at: int, out: bytearray) -> int:
        return self.copy(data, at, out)


def left_out(skip: Skip) -> Copy:
    """Return what steps over a field that the reader does not have."""
    return lambda data, at, out: skip(data, at)


def default_bytes(value: Any, schema: Schema, names: dict[str, Any]) -> bytes:
    """Encode the JSON of a field's default. Raises ValueError if it is no value of its type."""
    schema = names.get(schema, schema) if isinstance(schema, str) else schema
    if isinstance(schema, list):
        for index, branch in enumerate(schema):
            try:
                return long_bytes(index) + default_bytes(value, branch, names)
            except ValueError:
                continue
        raise ValueError(f"{value!r:.60} is of no branch of the union")
    kind = schema["type"] if isinstance(schema, dict) else schema
    match kind, value:
        case "null", None:
            return b""
        case "boolean", bool():
            return bytes([value])
        case "int" | "long", int() if not isinstance(value, bool) and -(1 << BITS[kind]) <= value < 1 << BITS[kind]:
            return long_bytes(value)
        case "float" | "double", int() | float() if not isinstance(value, bool):
            try:
                return PACKED[kind].pack(value)
            except (OverflowError, struct.error) as error:
                raise ValueError(str(error)) from error
        case "string", str():
            return _counted(value.encode())
        case "bytes", str():
            return _counted(value.encode("latin-1"))
        case "fixed", str() if len(value) == schema["size"]:
            return value.encode("latin-1")
        case "enum", str() if value in schema["symbols"]:
            return long_bytes(schema["symbols"].index(value))
        case "array", list():
            return _blocks([default_bytes(item, schema["items"], names) for item in value])
        case "map", dict():
            values = schema["values"]
            return _blocks([_counted(k.encode()) + default_bytes(v, values, names) for k, v in value.items()])
        case "record", dict():
            return b"".join(_field_default(value, field, names) for field in schema["fields"])
    raise ValueError(f"{value!r:.60} is no {kind}")


def _field_default(record: dict[str, Any], field: dict[str, Any], names: dict[str, Any]) -> bytes:
    name = field["name"]
    if name not in record and "default" not in field:
        raise ValueError(f"it has no {name!r}")
    return default_bytes(record[name] if name in record else field["default"], field["type"], names)


def _counted(data: bytes) -> bytes:
    return long_bytes(len(data)) + data


def _blocks(items: list[bytes]) -> bytes:
    return (long_bytes(len(items)) + b"".join(items) if items else b"") + b"\0"
