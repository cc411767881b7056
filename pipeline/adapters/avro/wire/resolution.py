"""Avro's schema resolution: which records of one schema can be read with another, and how their bytes are rewritten.

One walk over both schemas does both, so what the check calls compatible is what the codec reads. What is the same in
both is copied as bytes and never made into a value, so that it cannot change.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

from fastavro import parse_schema

from pipeline.adapters.avro.wire.rewriting import (
    Copy,
    Later,
    Schema,
    array_copy,
    branch_copy,
    constant,
    copied,
    default_bytes,
    impossible,
    left_out,
    not_followed,
    number_as,
    record_copy,
    skipper,
    union_copy,
)
from pipeline.adapters.avro.wire.varint import long_bytes
from pipeline.errors import SchemaError

BODY = "body"  # the field of an envelope that says what kind of message it is
NAMED = ("record", "enum", "fixed")
# What each primitive may be read as, the best first.
PROMOTIONS = {
    "int": ("long", "double", "float"),
    "long": ("double", "float"),
    "float": ("double",),
    "string": ("bytes",),
    "bytes": ("string",),
}
LOSSY = {
    ("int", "float"): "a float holds 24 bits: further digits are lost",
    ("long", "float"): "a float holds 24 bits: further digits are lost",
    ("long", "double"): "a double holds 53 bits: digits of numbers beyond 2^53 are lost",
    ("bytes", "string"): "bytes that are no UTF-8 cannot be read as text",
}


class Place(NamedTuple):
    """Where in a schema: the innermost record, the field in it, and the whole path."""

    record: str = ""
    field: str = ""
    path: str = ""

    def at(self, record: str, field: str) -> Place:
        """Return the place of a field of the record that is here."""
        return Place(record, field, f"{self.path}.{field}" if self.path else field)

    def inside(self, mark: str) -> Place:
        """Return the place of the items of the array or map that is here."""
        return self._replace(field=self.field + mark, path=self.path + mark)

    def __str__(self) -> str:
        return ".".join(filter(None, (self.record, self.field))) or "the whole"


@dataclass(frozen=True, slots=True)
class Finding:
    """A place where records of the writer's schema cannot be read with the reader's, or mean something else then."""

    place: Place
    writer: str  # what it is in the schema that records are written with …
    reader: str  # … and in the one that they are read with
    why: str
    cure: str  # by a change of the reader's schema …
    keep: str  # … or of the writer's


class Resolution:
    """How records of the schema `writer` are read with the schema `reader`.

    `findings`: all that breaks; without any, each record is read exactly. That a new field has its default, and an
    unknown symbol that of its enum, is what their author has declared. Raises SchemaError if a default has no end.

    `follows`: whether the reader follows what others write, and no check has held both schemas together: then kinds of
    messages without counterpart are `NotFollowed`, and what would be read as something else is refused. `keeps`:
    whether values are written back, so that no field may be left out.
    """

    def __init__(
        self, writer: Schema, reader: Schema, topic: str = "schema", *, follows: bool = False, keeps: bool = False
    ) -> None:
        self._follows, self._keeps = follows, keeps
        self.findings: list[Finding] = []
        self._writers: dict[str, Any] = {}
        self._readers: dict[str, Any] = {}
        self._done: dict[tuple[str, str], Copy | None] = {}
        written = parse_schema(writer, named_schemas=self._writers)
        read = parse_schema(reader, named_schemas=self._readers)
        try:
            self._copy = self._or_same(self._resolve(written, read, Place()), written)
        except RecursionError:
            raise SchemaError(f"{topic}.avsc: a default contains itself; correct it") from None

    def rewrite(self, data: bytes, at: int) -> bytes:
        """Return the record from `at` to the end, in the reader's schema. Raises one of codec.MISFITS, NotFollowed."""
        out = bytearray()
        try:
            end = self._copy(data, at, out)
        except RecursionError:
            raise ValueError("nested too deep") from None
        if end != len(data):
            raise ValueError("the record does not end where its schema says")
        return bytes(out)

    def _or_same(self, copy: Copy | None, writer: Schema) -> Copy:
        return copied(skipper(writer, self._writers)) if copy is None else copy

    def _broken(self, *finding: Any) -> Copy:
        self.findings.append(found := Finding(*finding))
        return impossible(f"{found.place}: {found.writer} cannot be read as {found.reader}: {found.why}")

    def _other_meaning(self, place: Place, writer: Schema, reader: Schema, why: str) -> Copy:
        old, new = shown(writer), shown(reader)
        cure = f"keep {old}, and add a field of another name, with a default"
        return self._broken(place, old, new, why, cure, f"keep {new}, and add a field of another name")

    def _resolve(self, writer: Schema, reader: Schema, place: Place) -> Copy | None:
        """Return what rewrites a value; None if its bytes stay the same."""
        writer, reader = _opened(writer, self._writers), _opened(reader, self._readers)
        if isinstance(writer, list):
            return self._union(writer, reader, place)
        if isinstance(reader, list):
            index = self._branch(writer, reader)
            if index is None:
                return self._no_branch(writer, reader, place)
            return branch_copy(index, self._or_same(self._resolve(writer, reader[index], place), writer))
        kind, copy = _kind(writer), None
        if kind != _kind(reader):
            copy = self._promoted(kind, _kind(reader), writer, reader, place)
        elif kind in ("array", "map"):
            part, mark = ("items", "[]") if kind == "array" else ("values", "{}")
            inner = self._resolve(writer[part], reader[part], place.inside(mark))
            copy = None if inner is None else array_copy(inner, has_keys=kind == "map")
        elif kind in NAMED:
            copy = self._named(kind, writer, reader, place)
        if _logical(writer) != _logical(reader) and kind not in NAMED[:2]:
            refused = self._other_meaning(place, writer, reader, "the same bytes mean something else")
            if self._follows and _logical(reader) is not None:
                return refused
        return copy

    def _promoted(self, kind: str, wanted: str, writer: Schema, reader: Schema, place: Place) -> Copy | None:
        allowed = PROMOTIONS.get(kind, ())
        if wanted not in allowed:
            why = f"Avro reads {kind} as {' or '.join((kind, *allowed))} alone"
            return self._other_meaning(place, writer, reader, why)
        if lost := LOSSY.get((kind, wanted)):
            self._other_meaning(place, writer, reader, lost)
        return number_as(wanted, integer=kind != "float") if wanted in ("float", "double") else None

    def _union(self, writer: list[Any], reader: Schema, place: Place) -> Copy | None:
        branches = [_opened(branch, self._writers) for branch in writer]
        if not isinstance(reader, list):
            return union_copy(
                [
                    self._no_branch(branch, reader, place)
                    if self._branch(branch, [reader]) is None
                    else self._or_same(self._resolve(branch, reader, place), branch)
                    for branch in branches
                ]
            )
        copies, same = [], True
        for number, branch in enumerate(branches):
            index = self._branch(branch, reader)
            if index is None:
                same = False
                copies.append(self._no_branch(branch, reader, place))
                continue
            inner = self._resolve(branch, reader[index], place)
            same = same and inner is None and index == number
            copies.append(branch_copy(index, self._or_same(inner, branch)))
        return None if same else union_copy(copies)

    def _branch(self, writer: Schema, branches: list[Any]) -> int | None:
        """Return which branch a value of no union is read with: its own type before a promotion; None if with none."""
        kind, name = _kind(writer), _name(writer)
        opened = [_opened(branch, self._readers) for branch in branches]
        kinds = [_kind(branch) for branch in opened]
        if kind in NAMED:
            alike = [n for n, other in enumerate(opened) if kinds[n] == kind and _same_name(writer, other)]
            if len(alike) > 1:  # a class and what it was before; which of them was written, its fields say
                return min(alike, key=lambda n: (*self._distance(writer, opened[n]), _name(opened[n]) != name, n))
            return next(iter(alike), None)
        return next((kinds.index(each) for each in (kind, *PROMOTIONS.get(kind, ())) if each in kinds), None)

    def _distance(self, writer: dict[str, Any], reader: dict[str, Any]) -> tuple[bool, bool, int]:
        """Return how far a type is from the writer's.

        First whether its fields are other ones, then whether it cannot be read as that, then how many fields it lacks.
        """
        findings, done = self.findings, self._done.copy()
        self.findings = []
        copy = self._resolve(writer, reader, Place())
        broken, self.findings, self._done = bool(self.findings), findings, done
        written, fields = ([field["name"] for field in each.get("fields", ())] for each in (writer, reader))
        known = {*fields, *(alias for field in reader.get("fields", ()) for alias in field.get("aliases", ()))}
        return copy is not None or written != fields, broken, len(set(written) - known)

    def _no_branch(self, writer: Schema, reader: Schema, place: Place) -> Copy:
        what = shown(writer)
        if self._follows and place.path == BODY:
            return not_followed
        return self._broken(
            place,
            what,
            shown(reader),
            f"a value of {what} has no branch there" if isinstance(reader, list) else f"{what} is not among it",
            f"keep {what} in the union",
            f"do without {what} until all that reads has it, or check only BACKWARD_TRANSITIVE",
        )

    def _named(self, kind: str, writer: dict[str, Any], reader: dict[str, Any], place: Place) -> Copy | None:
        old, new = writer["name"], reader["name"]
        if not _same_name(writer, reader):
            if self._follows and place.path == BODY:
                return not_followed
            why = f"{'an' if kind == 'enum' else 'a'} {kind} of another name is another type"
            cure = f'declare the rename: "aliases": ["{_short(old)}"] in {shown(reader)} (renamed in the class)'
            return self._broken(place, shown(writer), shown(reader), why, cure, f"keep the name {_short(new)}")
        if (old, new) not in self._done:
            self._done[old, new] = later = Later()  # for a record inside itself
            resolve = {"record": self._record, "enum": self._enum, "fixed": self._fixed}[kind]
            self._done[old, new] = copy = resolve(writer, reader, place)
            later.copy = self._or_same(copy, writer)
        return self._done[old, new]

    def _fixed(self, writer: dict[str, Any], reader: dict[str, Any], place: Place) -> Copy | None:
        if writer["size"] == reader["size"]:
            return None
        return self._other_meaning(place, writer, reader, "the size of a fixed cannot change")

    def _enum(self, writer: dict[str, Any], reader: dict[str, Any], place: Place) -> Copy | None:
        symbols, fallback = reader["symbols"], reader.get("default")
        gone = [symbol for symbol in writer["symbols"] if symbol not in symbols]
        if not gone and writer["symbols"] == symbols[: len(writer["symbols"])]:
            return None
        known = {symbol: constant(long_bytes(code)) for code, symbol in enumerate(symbols)}
        if gone and fallback is None:
            what = ", ".join(gone)
            refused = self._broken(
                place,
                f"{shown(writer)} with {what}",
                f"{shown(reader)} without {what}",
                "an unknown symbol cannot be read by an enum without a default",
                f"keep {what}, or give the enum a default in its .avsc, which stays there",
                f"do without {what} until all that reads has it, or check only BACKWARD_TRANSITIVE",
            )
            known.update(dict.fromkeys(gone, refused))
        return union_copy([known[symbol if symbol in known else fallback] for symbol in writer["symbols"]])

    def _record(self, writer: dict[str, Any], reader: dict[str, Any], place: Place) -> Copy | None:
        name, fields = _short(reader["name"]), reader["fields"]
        own = {field["name"]: number for number, field in enumerate(fields)}
        written = {field["name"] for field in writer["fields"]}
        by_alias = {
            a: n for n, field in enumerate(fields) for a in field.get("aliases", ()) if field["name"] not in written
        }
        copies: list[tuple[Copy, int]] = []
        left = []  # fields of the writer that the reader does not have
        same, taken = True, set()
        for field in writer["fields"]:
            number = own.get(field["name"], by_alias.get(field["name"], -1))
            if number < 0 or number in taken:
                left.append(field)
                lost = impossible(f"{place.at(name, field['name'])}: it would be lost where the value is written back")
                copies.append((lost if self._keeps else left_out(skipper(field["type"], self._writers)), -1))
                continue
            taken.add(number)
            inner = self._resolve(field["type"], fields[number]["type"], place.at(name, fields[number]["name"]))
            same = same and inner is None
            copies.append((self._or_same(inner, field["type"]), number))
        defaults, refused = {}, None
        for number, field in enumerate(fields):
            if number not in taken:
                try:
                    defaults[number] = self._default(field)
                except ValueError as error:
                    refused = self._missing(field, left, place.at(name, field["name"]), str(error))
        if refused is not None:
            return refused
        if same and [number for _, number in copies] == list(range(len(fields))):
            return None
        return record_copy(copies, defaults, len(fields))

    def _default(self, field: dict[str, Any]) -> bytes:
        if "default" not in field:
            raise ValueError("what was written without it has no value for it")
        try:
            return default_bytes(field["default"], field["type"], self._readers)
        except ValueError as error:
            raise ValueError(f"its default is not of its type: {error}") from error

    def _missing(self, field: dict[str, Any], left: list[dict[str, Any]], place: Place, why: str) -> Copy:
        wrong = "default" in field
        cure = f"give {field['name']} a default" + (" of its type" if wrong else "")
        kind = shown(field["type"])
        renamed = [f'"{other["name"]}"' for other in left if shown(other["type"]) == kind]
        if renamed:
            cure += f', or, if it is a rename, "aliases": [{" or ".join(renamed)}] (Renamed in the class)'
        is_now = f"{kind} with{' a wrong' if wrong else 'out a'} default"
        return self._broken(place, "absent", is_now, why, cure, f"keep the field {field['name']}")


def _opened(schema: Schema, names: dict[str, Any]) -> Schema:
    """Return the type behind a name."""
    return names.get(schema, schema) if isinstance(schema, str) else schema


def _kind(schema: Schema) -> str:
    if isinstance(schema, list):
        return "union"
    return str(schema["type"] if isinstance(schema, dict) else schema)


def _name(schema: Schema) -> str:
    return str(schema.get("name", "")) if isinstance(schema, dict) else ""


def _short(name: str) -> str:
    return name.rpartition(".")[2]


def _same_name(writer: dict[str, Any], reader: dict[str, Any]) -> bool:
    """Whether a named type is the other, by the last part of its name, as Avro has it, or by an alias."""
    return _short(writer["name"]) in map(_short, (reader["name"], *reader.get("aliases", ())))


def _logical(schema: Schema) -> tuple[Any, ...] | None:
    """Return what a type stands for; None if for itself."""
    if not isinstance(schema, dict) or "logicalType" not in schema:
        return None
    digits = (schema.get("precision"), schema.get("scale", 0)) if schema["logicalType"] == "decimal" else ()
    return (schema["logicalType"], *digits)


def shown(schema: Schema) -> str:
    """Return a type for people."""
    if isinstance(schema, list):
        return " | ".join(map(shown, schema))
    kind = _kind(schema)
    logical = _logical(schema)
    if logical is not None:
        digits = f", precision {logical[1]}, scale {logical[2]}" if logical[1:] else ""
        kind += f" ({logical[0]}{digits})"
    match schema:
        case {"type": "array"}:
            return f"array of {shown(schema['items'])}"
        case {"type": "map"}:
            return f"map of {shown(schema['values'])}"
        case {"type": "fixed"}:
            return f"{kind} {_short(schema['name'])} of {schema['size']} bytes"
        case {"type": "record" | "enum"}:
            return f"{kind} {_short(schema['name'])}"
    return _short(kind)
