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
    text_copy,
    union_copy,
)
from pipeline.adapters.avro.wire.types import (
    behind,
    had_name,
    is_among,
    kind_of,
    logical_of,
    name_of,
    same_name,
    short,
    shown,
    texts_of,
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

    `unchecked`: whether no check has held both schemas together, as the writer's is newer, or another's. Then what
    would be read as something else is refused, and the writer's aliases count, too, where the reader's do not: who
    knows the old name alone reads what has a new one. `skips`: whether kinds of messages without counterpart are
    `NotFollowed`. `keeps`: whether values are written back, so that no field may be left out.
    """

    def __init__(
        self,
        writer: Schema,
        reader: Schema,
        topic: str = "schema",
        *,
        unchecked: bool = False,
        skips: bool = False,
        keeps: bool = False,
    ) -> None:
        self._unchecked, self._skips, self._keeps = unchecked, skips, keeps
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
        writer, reader = behind(writer, self._writers), behind(reader, self._readers)
        if isinstance(writer, list):
            return self._union(writer, reader, place)
        if isinstance(reader, list):
            index = self._branch(writer, reader)
            if index is None:
                return self._no_branch(writer, reader, place)
            return branch_copy(index, self._or_same(self._resolve(writer, reader[index], place), writer))
        kind, copy = kind_of(writer), None
        if kind != kind_of(reader):
            copy = self._promoted(kind, kind_of(reader), writer, reader, place)
        elif kind in ("array", "map"):
            part, mark = ("items", "[]") if kind == "array" else ("values", "{}")
            inner = self._resolve(writer[part], reader[part], place.inside(mark))
            copy = None if inner is None else array_copy(inner, has_keys=kind == "map")
        elif kind in NAMED:
            copy = self._named(kind, writer, reader, place)
        elif gone := texts_of(writer) - (texts_of(reader) or texts_of(writer)):
            copy = text_copy(dict.fromkeys(gone, self._without(sorted(gone), "text", writer, reader, place)))
        if logical_of(writer) != logical_of(reader) and kind not in NAMED[:2]:
            refused = self._other_meaning(place, writer, reader, "the same bytes mean something else")
            if self._unchecked and logical_of(reader) is not None:
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
        branches = [behind(branch, self._writers) for branch in writer]
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
        kind, name = kind_of(writer), name_of(writer)
        opened = [behind(branch, self._readers) for branch in branches]
        kinds = [kind_of(branch) for branch in opened]
        if kind in NAMED:
            named = [n for n in range(len(opened)) if kinds[n] == kind]
            alike = [n for n in named if same_name(writer, opened[n])]
            alike = alike or [n for n in named if self._was_named(writer, opened[n])][:1]
            if len(alike) > 1:  # a class and what it was before; which of them was written, its fields say
                return min(alike, key=lambda n: (*self._distance(writer, opened[n]), name_of(opened[n]) != name, n))
            return next(iter(alike), None)
        return next((kinds.index(each) for each in (kind, *PROMOTIONS.get(kind, ())) if each in kinds), None)

    def _was_named(self, writer: dict[str, Any], reader: dict[str, Any]) -> bool:
        """Whether a type that no check has seen has a new name, and the reader knows it by the old one."""
        name = short(reader["name"])
        return self._unchecked and name in map(short, writer.get("aliases", ())) and not is_among(name, self._writers)

    def _is_named_now(self, writer: dict[str, Any], reader: dict[str, Any]) -> str:
        """Return what the writer calls now that which had the name of both before; "" if that is no other type.

        Nor is it one where the reader tells both, too.
        """
        name = short(writer["name"])
        others = {short(each["name"]) for each in self._writers.values() if had_name(each, name)} - {name}
        told = any(had_name(each, name) for each in self._readers.values() if short(each["name"]) != name)
        if told or short(reader["name"]) != name or any(is_among(other, self._readers) for other in others):
            return ""
        return min(others, default="")

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
        if self._skips and place.path == BODY:
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
        if not (same_name(writer, reader) or self._was_named(writer, reader)):
            if self._skips and place.path == BODY:
                return not_followed
            why = f"{'an' if kind == 'enum' else 'a'} {kind} of another name is another type"
            cure = f'declare the rename: "aliases": ["{short(old)}"] in {shown(reader)} (renamed in the class)'
            return self._broken(place, shown(writer), shown(reader), why, cure, f"keep the name {short(new)}")
        if self._unchecked and (now := self._is_named_now(writer, reader)):
            return self._broken(
                place,
                f"{shown(writer)}, beside {now}, which had that name",
                shown(reader),
                f"{short(old)} has come to be another, and its records of before are {now!r} now",
                f"have {now}, too; of an event, and what becomes of it in the `upcasts` of the Source",
                f"give {short(old)} another name",
            )
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
            known.update(dict.fromkeys(gone, self._without(gone, "symbol", writer, reader, place)))
        return union_copy([known[symbol if symbol in known else fallback] for symbol in writer["symbols"]])

    def _without(self, gone: list[str], one: str, writer: Schema, reader: Schema, place: Place) -> Copy:
        what, enum = ", ".join(gone), one == "symbol"
        return self._broken(
            place,
            f"{shown(writer)} with {what}",
            f"{shown(reader)} without {what}",
            f"an unknown {one} cannot be read by {'an enum without a default' if enum else 'a Literal'}",
            f"keep {what}{', or give the enum a default in its .avsc, which stays there' if enum else ''}",
            f"do without {what} until all that reads has it, or check only BACKWARD_TRANSITIVE",
        )

    def _record(self, writer: dict[str, Any], reader: dict[str, Any], place: Place) -> Copy | None:
        name, fields = short(reader["name"]), reader["fields"]
        own = {field["name"]: number for number, field in enumerate(fields)}
        written = {field["name"] for field in writer["fields"]}
        by_alias = {
            a: n for n, field in enumerate(fields) for a in field.get("aliases", ()) if field["name"] not in written
        }
        places = {field["name"]: own.get(field["name"], by_alias.get(field["name"], -1)) for field in writer["fields"]}
        if self._unchecked:
            known = {a: n for a, n in own.items() if a not in written and n not in places.values()}
            for field in writer["fields"]:
                if places[field["name"]] < 0:
                    places[field["name"]] = next((known[a] for a in field.get("aliases", ()) if a in known), -1)
        copies: list[tuple[Copy, int]] = []
        left = []  # fields of the writer that the reader does not have
        same, taken = True, set()
        for field in writer["fields"]:
            number = places[field["name"]]
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
