"""Changes of a schema, each with its verdict, as a table: read it from left to right.

Each row: what is done, the old and the new fields of a record `Row`, the verdict, an old value, and that value as it is
read with the new fields. The verdicts:

- READS: no finding; every old record is read exactly.
- RAISES: a finding; the old value cannot be read.
- CHANGES: a finding; the old value is read as another.
- MEANS: a finding; the bytes are read as they are, but stand for something else.
"""

from __future__ import annotations

from typing import Any, NamedTuple

READS, RAISES, CHANGES, MEANS = "reads", "raises", "changes", "means"
Fields = list[dict[str, Any]]


class Change(NamedTuple):
    """A row of the table."""

    what: str
    old: Fields
    new: Fields
    verdict: str
    value: dict[str, Any]
    read: dict[str, Any] | None = None


def x(kind: Any, **more: Any) -> dict[str, Any]:
    return {"name": "x", "type": kind, **more}


def y(kind: Any, **more: Any) -> dict[str, Any]:
    return {"name": "y", "type": kind, **more}


def record(name: str, *fields: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"type": "record", "name": name, "fields": list(fields), **more}


def enum(name: str, *symbols: str, **more: Any) -> dict[str, Any]:
    return {"type": "enum", "name": name, "symbols": list(symbols), **more}


def fixed(name: str, size: int, **more: Any) -> dict[str, Any]:
    return {"type": "fixed", "name": name, "size": size, **more}


def array(items: Any) -> dict[str, Any]:
    return {"type": "array", "items": items}


def mapping(values: Any) -> dict[str, Any]:
    return {"type": "map", "values": values}


def logical(kind: str, name: str, **more: Any) -> dict[str, Any]:
    return {"type": kind, "logicalType": name, **more}


def texts(*which: str) -> dict[str, Any]:
    return {"type": "string", "texts": [*which]}


A, B = record("A", x("long")), record("B", x("long"))
A1 = record("A1", x("long"), aliases=["A"])  # what A was before it became another
RGB = enum("Colour", "RED", "GREEN", "BLUE")
BIG = 2**53 + 1
MONEY = record("Money", {"name": "cents", "type": "long"}, {"name": "unit", "type": "string", "default": "EUR"})
MILLIS, MICROS = logical("long", "timestamp-millis"), logical("long", "timestamp-micros")

# fmt: off
CHANGES_OF_SCHEMAS = [Change(*row) for row in (
    # fields
    ("nothing", [x("int")], [x("int")], READS, {"x": 1}, {"x": 1}),
    ("a field with a default", [x("int")], [x("int"), y("string", default="")], READS, {"x": 1}, {"x": 1, "y": ""}),
    ("a field without a default", [x("int")], [x("int"), y("string")], RAISES, {"x": 1}),
    ("an optional field without a default", [x("int")], [x("int"), y(["null", "int"])], RAISES, {"x": 1}),
    ("an optional field", [x("int")], [x("int"), y(["null", "int"], default=None)],
        READS, {"x": 1}, {"x": 1, "y": None}),
    ("a default of the second branch", [x("int")], [x("int"), y(["int", "null"], default=None)],
        READS, {"x": 1}, {"x": 1, "y": None}),
    ("a default that is too large", [x("int")], [x("int"), y("int", default=2**40)], RAISES, {"x": 1}),
    ("a default of a wrong item", [x("int")], [x("int"), y(array("int"), default=["a"])], RAISES, {"x": 1}),
    ("a default that is no symbol", [x("int")], [x("int"), y(RGB, default="PINK")], RAISES, {"x": 1}),
    ("a default of a wrong size", [x("int")], [x("int"), y(fixed("F", 2), default="a")], RAISES, {"x": 1}),
    ("bytes with a default", [x("int")], [x("int"), y("bytes", default="\u00ff\0")],
        READS, {"x": 1}, {"x": 1, "y": b"\xff\0"}),
    ("bytes with a default that is no bytes", [x("int")], [x("int"), y("bytes", default="\u0100")], RAISES, {"x": 1}),
    ("fixed with a default", [x("int")], [x("int"), y(fixed("F", 2), default="\u00fea")],
        READS, {"x": 1}, {"x": 1, "y": b"\xfea"}),
    ("a double with a whole default", [x("int")], [x("int"), y("double", default=1)],
        READS, {"x": 1}, {"x": 1, "y": 1.0}),
    ("a record with a default", [x("int")], [x("int"), y(MONEY, default={"cents": 5})],
        READS, {"x": 1}, {"x": 1, "y": {"cents": 5, "unit": "EUR"}}),
    ("a record with half a default", [x("int")], [x("int"), y(MONEY, default={"unit": "EUR"})], RAISES, {"x": 1}),
    ("an array and a map with defaults",
        [], [x(array("long"), default=[BIG, -1]), y(mapping("bytes"), default={"a": "\u00ff"})],
        READS, {}, {"x": [BIG, -1], "y": {"a": b"\xff"}}),
    ("a field is gone", [x("int"), y("string")], [x("int")], READS, {"x": 1, "y": "é"}, {"x": 1}),
    ("all fields are gone", [x(array(A)), y(mapping(["null", "A"]))], [],
        READS, {"x": [{"x": 1}], "y": {"k": None}}, {}),
    ("another order", [x("int"), y("string")], [y("string"), x("int")], READS, {"x": 1, "y": "a"}, {"x": 1, "y": "a"}),
    ("a rename with an alias", [x("int")], [y("int", aliases=["x"])], READS, {"x": 1}, {"y": 1}),
    ("a rename without an alias", [x("int")], [y("int")], RAISES, {"x": 1}),
    ("a rename that loses all to a default", [x("int")], [y("int", default=0)], READS, {"x": 1}, {"y": 0}),
    ("an alias beside the name itself", [x("int"), y("int")], [y("int", aliases=["x"])],
        READS, {"x": 1, "y": 2}, {"y": 2}),
    # primitives
    ("int becomes long", [x("int")], [x("long")], READS, {"x": -(2**31)}, {"x": -(2**31)}),
    ("int becomes double", [x("int")], [x("double")], READS, {"x": 2**31 - 1}, {"x": float(2**31 - 1)}),
    ("int becomes float", [x("int")], [x("float")], CHANGES, {"x": 2**24 + 1}),
    ("long becomes double", [x("long")], [x("double")], CHANGES, {"x": BIG}),
    ("long becomes float", [x("long")], [x("float")], CHANGES, {"x": 2**24 + 1}),
    ("long becomes int", [x("long")], [x("int")], RAISES, {"x": 1}),
    ("float becomes double", [x("float")], [x("double")], READS, {"x": 0.5}, {"x": 0.5}),
    ("double becomes float", [x("double")], [x("float")], RAISES, {"x": 0.1}),
    ("double becomes long", [x("double")], [x("long")], RAISES, {"x": 1.0}),
    ("int becomes string", [x("int")], [x("string")], RAISES, {"x": 1}),
    ("int becomes boolean", [x("int")], [x("boolean")], RAISES, {"x": 1}),
    ("boolean becomes int", [x("boolean")], [x("int")], RAISES, {"x": True}),
    ("string becomes bytes", [x("string")], [x("bytes")], READS, {"x": "é"}, {"x": "é".encode()}),
    ("bytes become string", [x("bytes")], [x("string")], RAISES, {"x": b"\xff"}),
    # unions
    ("a type becomes optional", [x("long")], [x(["null", "long"])], READS, {"x": BIG}, {"x": BIG}),
    ("an optional type becomes required", [x(["null", "long"])], [x("long")], RAISES, {"x": None}),
    ("a branch more", [x(["null", A])], [x(["null", A, B])], READS, {"x": ("A", {"x": 7})}, {"x": ("A", {"x": 7})}),
    ("a branch less", [x(["null", A, B])], [x(["null", A])], RAISES, {"x": ("B", {"x": 7})}),
    ("another order of branches", [x([A, B, "null"])], [x(["null", B, A])],
        READS, {"x": ("A", {"x": 7})}, {"x": ("A", {"x": 7})}),
    ("a record becomes one of several alike", [x(B)], [x([A, B])], READS, {"x": {"x": 7}}, {"x": ("B", {"x": 7})}),
    ("a branch is renamed with an alias", [x([A, "null"])], [x([record("C", x("long"), aliases=["A"]), "null"])],
        READS, {"x": ("A", {"x": 7})}, {"x": ("C", {"x": 7})}),
    ("a branch is renamed without an alias", [x([A, "null"])], [x([record("C", x("long")), "null"])],
        RAISES, {"x": ("A", {"x": 7})}),
    ("a branch is another now, beside what it was", [x(["null", A])], [x(["null", record("A", y("string")), A1])],
        READS, {"x": ("A", {"x": 7})}, {"x": ("A1", {"x": 7})}),
    ("what it was stands first", [x(["null", A])], [x(["null", A1, record("A", y("string", default=""))])],
        READS, {"x": ("A", {"x": 7})}, {"x": ("A1", {"x": 7})}),
    ("a field of another type, beside what it was", [x([A, B])], [x([record("A", x("string")), B, A1])],
        READS, {"x": ("A", {"x": 7})}, {"x": ("A1", {"x": 7})}),
    ("a renamed field, beside what it was", [x([A, B])], [x([record("A", y("long", aliases=["x"])), B, A1])],
        READS, {"x": ("A", {"x": 7})}, {"x": ("A1", {"x": 7})}),
    ("what it is now, beside what it was", [x([record("A", y("string")), A1])], [x([A1, B, record("A", y("string"))])],
        READS, {"x": ("A", {"y": "a"})}, {"x": ("A", {"y": "a"})}),
    ("what it was before it got a field", [x([A, B])],
        [x([record("A", y("int", default=1)), record("A1", x("long"), y("int", default=2), aliases=["A"]), B])],
        READS, {"x": ("A", {"x": 7})}, {"x": ("A1", {"x": 7, "y": 2})}),
    ("it has got a field, beside what it was another time",
        [x([A, B])], [x([record("A1", y("string"), aliases=["A"]), record("A", x("long"), y("int", default=2)), B])],
        READS, {"x": ("A", {"x": 7})}, {"x": ("A", {"x": 7, "y": 2})}),
    ("neither what it is nor what it was", [x([A, B])], [x([record("A", y("string")), record("A1", y("int")), B])],
        RAISES, {"x": ("A", {"x": 7})}),
    ("a long beside a double stays a long", [x(["double", "long"])], [x(["double", "long"]), y("int", default=0)],
        READS, {"x": BIG}, {"x": BIG, "y": 0}),
    ("a long may be a double now", [x("long")], [x(["double", "long"])], READS, {"x": BIG}, {"x": BIG}),
    ("text may be bytes now", [x("string")], [x(["bytes", "string"])], READS, {"x": "a"}, {"x": "a"}),
    ("int becomes long in a union", [x(["null", "int"])], [x(["null", "long"])], READS, {"x": 5}, {"x": 5}),
    ("a branch is defined earlier", [x(["null", A])], [y(array(A), default=[]), x(["null", "A"])],
        READS, {"x": ("A", {"x": 7})}, {"x": ("A", {"x": 7}), "y": []}),
    ("a union of one becomes the type", [x(["int"])], [x("int")], READS, {"x": 5}, {"x": 5}),
    # enums and fixed
    ("a symbol more at the end", [x(RGB)], [x(enum("Colour", "RED", "GREEN", "BLUE", "PINK"))],
        READS, {"x": "BLUE"}, {"x": "BLUE"}),
    ("another order of symbols", [x(RGB)], [x(enum("Colour", "BLUE", "PINK", "RED", "GREEN"))],
        READS, {"x": "BLUE"}, {"x": "BLUE"}),
    ("a symbol less", [x(RGB)], [x(enum("Colour", "RED", "GREEN"))], RAISES, {"x": "BLUE"}),
    ("a symbol less, and a default", [x(RGB)], [x(enum("Colour", "RED", "GREEN", default="GREEN"))],
        READS, {"x": "BLUE"}, {"x": "GREEN"}),
    ("a field's default is not its enum's", [x(RGB)], [x(enum("Colour", "RED", "GREEN"), default="RED")],
        RAISES, {"x": "BLUE"}),
    ("an enum of another name", [x(RGB)], [x(enum("Paint", "RED", "GREEN", "BLUE"))], RAISES, {"x": "RED"}),
    ("an enum of another name with an alias", [x(RGB)], [x(enum("Paint", "RED", "GREEN", "BLUE", aliases=["Colour"]))],
        READS, {"x": "RED"}, {"x": "RED"}),
    ("an enum becomes text", [x(RGB)], [x("string")], RAISES, {"x": "RED"}),
    ("text becomes an enum", [x("string")], [x(RGB)], RAISES, {"x": "RED"}),
    ("another size", [x(fixed("F", 2))], [x(fixed("F", 3))], RAISES, {"x": b"ab"}),
    ("fixed becomes bytes", [x(fixed("F", 2))], [x("bytes")], RAISES, {"x": b"ab"}),
    ("a fixed of another name", [x(fixed("F", 2))], [x(fixed("G", 2))], RAISES, {"x": b"ab"}),
    ("a text more", [x(texts("a", "b"))], [x(texts("c", "b", "a"))], READS, {"x": "b"}, {"x": "b"}),
    ("a text less", [x(texts("a", "b"))], [x(texts("a"))], RAISES, {"x": "b"}),
    ("the texts are said", [x("string")], [x(texts("a"))], READS, {"x": "a"}, {"x": "a"}),
    ("the texts are not said any more", [x(texts("a"))], [x("string")], READS, {"x": "a"}, {"x": "a"}),
    # arrays, maps and nested records
    ("items become long", [x(array("int"))], [x(array("double"))], READS, {"x": [1, -2]}, {"x": [1.0, -2.0]}),
    ("items become text", [x(array("int"))], [x(array("string"))], RAISES, {"x": [1]}),
    ("values become long", [x(mapping("int"))], [x(mapping("double"))],
        READS, {"x": {"a": 1, "é": 2}}, {"x": {"a": 1.0, "é": 2.0}}),
    ("an array becomes a map", [x(array("int"))], [x(mapping("int"))], RAISES, {"x": [1]}),
    ("a type becomes an array of it", [x("int")], [x(array("int"))], RAISES, {"x": 1}),
    ("a field of an inner record", [x(array(A))], [x(array(record("A", y("int", default=9), x("long"))))],
        READS, {"x": [{"x": BIG}]}, {"x": [{"x": BIG, "y": 9}]}),
    ("a field of an inner record, no default", [x(array(A))], [x(array(record("A", x("long"), y("int"))))],
        RAISES, {"x": [{"x": 1}]}),
    ("an inner record of another name", [x(A)], [x(B)], RAISES, {"x": {"x": 1}}),
    ("an inner record of another namespace", [x(record("old.A", x("long")))], [x(record("new.A", x("long")))],
        READS, {"x": {"x": 1}}, {"x": {"x": 1}}),
    ("an inner record of another name with an alias", [x(A)], [x(record("B", x("long"), aliases=["A"]))],
        READS, {"x": {"x": 1}}, {"x": {"x": 1}}),
    ("the second use of a renamed record", [x(A), y("A")], [x(record("B", x("long"), aliases=["A"])), y("B")],
        READS, {"x": {"x": 1}, "y": {"x": 2}}, {"x": {"x": 1}, "y": {"x": 2}}),
    # what the same bytes stand for
    ("millis become micros", [x(MILLIS)], [x(MICROS)], MEANS, {"x": 5}, {"x": 5}),
    ("a number becomes a time", [x("long")], [x(MILLIS)], MEANS, {"x": 5}, {"x": 5}),
    ("optional millis become micros", [x(["null", MILLIS])], [x(["null", MICROS])], MEANS, {"x": 5}, {"x": 5}),
    ("text becomes a uuid", [x("string")], [x(logical("string", "uuid"))], MEANS, {"x": "no uuid"}, {"x": "no uuid"}),
    ("a uuid becomes text", [x(logical("string", "uuid"))], [x("string")], MEANS, {"x": "a"}, {"x": "a"}),
    ("another scale",
        [x(logical("bytes", "decimal", precision=9, scale=2))], [x(logical("bytes", "decimal", precision=9, scale=3))],
        MEANS, {"x": b"\1"}, {"x": b"\1"}),
    ("another precision",
        [x(logical("bytes", "decimal", precision=9, scale=2))], [x(logical("bytes", "decimal", precision=12, scale=2))],
        MEANS, {"x": b"\1"}, {"x": b"\1"}),
    ("another scale of a fixed",
        [x(fixed("F", 1, logicalType="decimal", precision=2, scale=1))],
        [x(fixed("F", 1, logicalType="decimal", precision=2))],
        MEANS, {"x": b"\1"}, {"x": b"\1"}),
    ("a scale of 0 is none",
        [x(logical("bytes", "decimal", precision=9, scale=0))], [x(logical("bytes", "decimal", precision=9))],
        READS, {"x": b"\1"}, {"x": b"\1"}),
    ("a day becomes a time", [x(logical("int", "date"))], [x(MILLIS)], MEANS, {"x": 5}, {"x": 5}),
    ("the doc of a field", [x(MILLIS)], [x(MILLIS, doc="when")], READS, {"x": 5}, {"x": 5}),
)]
# fmt: on
