"""Random schemas with values, random changes of them, and what Avro's rules make of a value, said plainly once more.

Plain values are those of tests.helpers.schema_pair.
"""

from __future__ import annotations

import itertools
from typing import Any

from hypothesis import strategies as st

SERIAL = itertools.count()
VALUES: dict[str, st.SearchStrategy[Any]] = {
    "int": st.integers(-(2**31), 2**31 - 1),
    "long": st.integers(-(2**63), 2**63 - 1),
    "float": st.floats(width=32, allow_nan=False, allow_infinity=False),
    "double": st.floats(allow_nan=False, allow_infinity=False),
    "string": st.text(st.characters(codec="utf-8"), max_size=5),
    "bytes": st.binary(max_size=5),
    "boolean": st.booleans(),
}
CLASSES = {
    **dict.fromkeys(("int", "long"), int),
    **dict.fromkeys(("float", "double"), float),
    **dict.fromkeys(("string", "enum"), str),
    **dict.fromkeys(("bytes", "fixed"), bytes),
    "boolean": bool,
    "null": type(None),
    "array": list,
    "map": dict,
    "record": tuple,
}
PROMOTED = {
    "int": ["long", "double", "float"],
    "long": ["double", "float"],
    "float": ["double"],
    "string": ["bytes"],
    "bytes": ["string"],
}
Draw = st.DrawFn


class Unreadable(Exception):
    """Avro's rules do not allow to read the value."""


def kind_of(schema: Any) -> str:
    if isinstance(schema, list):
        return "union"
    return str(schema["type"]) if isinstance(schema, dict) else str(schema)


@st.composite
def records(draw: Draw, depth: int = 0) -> Any:
    kinds = draw(st.lists(schemas(depth + 1), max_size=4))
    fields = [{"name": f"g{number}", "type": kind} for number, kind in enumerate(kinds)]
    return {"type": "record", "name": f"N{next(SERIAL)}", "fields": fields}


@st.composite
def schemas(draw: Draw, depth: int = 0, *, union: bool = True) -> Any:
    kinds = [*VALUES, "enum", "fixed"] + (
        ["array", "map", "record", *(["union"] * 3 if union else [])] if depth < 3 else []
    )
    kind = draw(st.sampled_from(kinds))
    match kind:
        case "enum":
            return {"type": kind, "name": f"N{next(SERIAL)}", "symbols": ["A", "B", "C"]}
        case "fixed":
            return {"type": kind, "name": f"N{next(SERIAL)}", "size": 2}
        case "array":
            return {"type": kind, "items": draw(schemas(depth + 1))}
        case "map":
            return {"type": kind, "values": draw(schemas(depth + 1))}
        case "record":
            return draw(records(depth + 1))
        case "union":
            branches = draw(st.lists(schemas(depth + 1, union=False) | st.just("null"), min_size=1, max_size=4))
            taken: list[type] = []
            kept = []
            for branch in branches:
                cls = CLASSES[kind_of(branch)]
                if cls not in taken or cls is tuple:
                    taken.append(cls)
                    kept.append(branch)
            return kept
    return kind


def values(schema: Any, *, in_union: bool = False) -> st.SearchStrategy[Any]:
    match kind_of(schema):
        case "null":
            return st.none()
        case "union":
            return st.one_of([values(branch, in_union=True) for branch in schema])
        case "enum":
            return st.sampled_from(schema["symbols"])
        case "fixed":
            return st.binary(min_size=schema["size"], max_size=schema["size"])
        case "array":
            return st.lists(values(schema["items"]), max_size=3)
        case "map":
            return st.dictionaries(VALUES["string"], values(schema["values"]), max_size=3)
        case "record":
            drawn = st.fixed_dictionaries({field["name"]: values(field["type"]) for field in schema["fields"]})
            return drawn.map(lambda value: (schema["name"], value)) if in_union else drawn
        case kind:
            return VALUES[kind]


def changed(draw: Draw, schema: Any) -> Any:
    """Return the schema with some changes, which may be compatible or not."""

    def now(percent: int) -> bool:
        return draw(st.integers(0, 99)) >= 100 - percent  # shrinks to no change

    kind = kind_of(schema)
    if kind == "union":
        branches = [changed(draw, branch) for branch in schema]
        if now(20):
            branches = draw(st.permutations(branches))
        if now(10) and len(branches) > 1:
            branches = branches[1:]
        if now(10):
            branches = [*branches, draw(schemas(3, union=False))]
        return [part for branch in branches for part in (branch if isinstance(branch, list) else [branch])]
    if now(5):
        return [schema, "null"] if kind != "null" else schema
    if kind in ("array", "map"):
        inner = "items" if kind == "array" else "values"
        return schema | {inner: changed(draw, schema[inner])}
    if kind in VALUES:
        if now(10):
            return draw(st.sampled_from([*PROMOTED.get(kind, ()), kind]))
        return draw(st.sampled_from(sorted(VALUES))) if now(2) else schema
    if kind == "null":
        return schema
    schema = dict(schema)
    if now(5):
        old, schema["name"] = schema["name"], f"N{next(SERIAL)}"
        if not now(30):
            schema["aliases"] = [old]
    if kind == "fixed" and now(3):
        schema["size"] = 3
    if kind == "enum":
        schema["symbols"] = [*draw(st.permutations(["A", "B", "C"] if not now(10) else ["A", "B"]))]
        if now(10):
            schema["symbols"] = [*schema["symbols"], "D"]
        if now(40):
            schema["default"] = "B"
    if kind == "record":
        schema["fields"] = _changed_fields(draw, schema["fields"], now)
    return schema


def _changed_fields(draw: Draw, fields: list[Any], now: Any) -> list[Any]:
    fields = [field | {"type": changed(draw, field["type"])} for field in fields if not now(5)]
    for field in fields:
        if now(5):
            old, field["name"] = field["name"], f"f{next(SERIAL)}"
            if not now(20):
                field["aliases"] = [old]
    if now(30):
        kind = draw(st.sampled_from(["int", "string", "bytes", "double"]))
        default = {"int": -7, "string": "é", "bytes": "\u00ff\0", "double": 2}[kind]
        fields.append({"name": f"f{next(SERIAL)}", "type": kind} | ({"default": default} if not now(10) else {}))
    return [*draw(st.permutations(fields))] if now(20) else fields


def _is_same(old: Any, new: Any) -> bool:
    """Whether a branch is of the other's own type."""
    if kind_of(old) != kind_of(new):
        return False
    if kind_of(old) in ("record", "enum", "fixed"):
        return old["name"] == new["name"] or old["name"] in new.get("aliases", ())
    return True


def expected(value: Any, old: Any, new: Any) -> tuple[Any, bool]:
    """Return the value as it is to be read, and whether exactly. Raises Unreadable."""
    if kind_of(old) == "union":
        if isinstance(value, tuple):
            old = next(branch for branch in old if kind_of(branch) == "record" and branch["name"] == value[0])
            value = value[1]
        else:
            alike = [b for b in old if CLASSES[kind_of(b)] is type(value) and kind_of(b) != "record"]
            old = alike[0]
    if kind_of(new) == "union":
        found = [branch for branch in new if _is_same(old, branch)]
        for kind in PROMOTED.get(kind_of(old), ()):
            found += [branch for branch in new if branch == kind]
        if not found:
            raise Unreadable
        read, exact = expected(value, old, found[0])
        return ((found[0]["name"], read) if kind_of(found[0]) == "record" else read), exact
    kind, wanted = kind_of(old), kind_of(new)
    if kind != wanted:
        if wanted not in PROMOTED.get(kind, ()):
            raise Unreadable
        return _promoted(value, kind, wanted)
    if not _is_same(old, new) or (kind == "fixed" and old["size"] != new["size"]):
        raise Unreadable
    match kind:
        case "enum":
            if value not in new["symbols"] and "default" not in new:
                raise Unreadable
            return (value if value in new["symbols"] else new["default"]), True
        case "array":
            items = [expected(item, old["items"], new["items"]) for item in value]
            return [item for item, _ in items], all(exact for _, exact in items)
        case "map":
            pairs = {key: expected(item, old["values"], new["values"]) for key, item in value.items()}
            return {key: item for key, (item, _) in pairs.items()}, all(exact for _, exact in pairs.values())
        case "record":
            return _record(value, old, new)
    return value, True


def _promoted(value: Any, kind: str, wanted: str) -> tuple[Any, bool]:
    if wanted == "bytes":
        return value.encode(), True
    if wanted == "string":
        try:
            return value.decode(), False
        except UnicodeDecodeError:
            raise Unreadable from None
    return value, wanted == "long" or (kind, wanted) in {("int", "double"), ("float", "double")}


def _record(value: dict[str, Any], old: Any, new: Any) -> tuple[dict[str, Any], bool]:
    types = {field["name"]: field["type"] for field in old["fields"]}
    read, all_exact = {}, True
    for field in new["fields"]:
        name = next((name for name in (field["name"], *field.get("aliases", ())) if name in types), None)
        if name is not None:
            read[field["name"]], exact = expected(value[name], types[name], field["type"])
            all_exact = all_exact and exact
        elif "default" in field:
            default = field["default"]
            read[field["name"]] = default.encode("latin-1") if field["type"] == "bytes" else default
        else:
            raise Unreadable
    return read, all_exact
