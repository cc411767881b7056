"""Message classes from schemas that were written first: what `generation` does, the other way round.

The result is source code, with the types of the table in docs/schemas.md. What the table does not have stands in a
comment above its field.
"""

from __future__ import annotations

import json
import keyword
from collections.abc import Iterator, Mapping
from decimal import Decimal
from enum import Enum
from typing import Any

from pipeline.adapters.avro.binding import Names, definition, named_types
from pipeline.adapters.avro.registry import Schema
from pipeline.adapters.avro.schemas.generation import PRIMITIVES
from pipeline.adapters.avro.schemas.python_source import KINDS, class_name, docstring, literal, text_literal, with_doc
from pipeline.errors import SchemaError
from pipeline.model import TopicKind

ENVELOPES = (TopicKind.COMMAND, TopicKind.EVENT, TopicKind.STATE)
PLAIN = {avro: "None" if kind is type(None) else kind.__name__ for kind, avro in PRIMITIVES.items()}
PLAIN |= {"int": "int", "float": "float", "fixed": "bytes"}  # which generate does not write
HOME = "pipeline"
HOMES = {"date": "datetime", "datetime": "datetime", "time": "datetime", "timedelta": "datetime", "UUID": "uuid"}
HOMES |= {
    "Decimal": "decimal",
    "Enum": "enum",
    "Annotated": "typing",
    "Literal": "typing",
    "dataclass": "dataclasses",
    "field": "dataclasses",
}
HOMES |= dict.fromkeys(("Precision", "Renamed", "renamed"), HOME)
TAKEN = {*HOMES, *PLAIN.values(), "tuple", "dict"}
KNOWN = {  # what of a type the classes say; all else is put in comments
    "record": {"type", "name", "namespace", "doc", "fields", "aliases"},
    "enum": {"type", "name", "namespace", "doc", "symbols"},
    "field": {"type", "name", "default", "doc", "aliases"},
}
ABSENT: Any = object()


def python_source(schemas: Mapping[str, Schema]) -> str:
    """Return a module with the classes of these topics' messages, without envelopes. Raises SchemaError.

    `schemas`: by topic. A union of several messages is named after its topic.
    """
    return _Module(schemas).text()


class _Module:
    def __init__(self, schemas: Mapping[str, Schema]) -> None:
        self._topics = ", ".join(schemas)
        self._names: Names = {}
        self._topic = ""
        self._done: dict[str, tuple[Schema, str]] = {}  # by class: its schema with all that it names, and its topic
        self._imports: set[str] = {"dataclass"}
        self._lines: list[str] = []
        for topic, schema in schemas.items():
            self._topic, self._names = topic, named_types(schema)
            body = _body(topic, schema)
            kind = self._kind(body, topic)
            if isinstance(body, list):
                self._lines += ["", "", f"{class_name(topic)} = {kind}"]

    def text(self) -> str:
        """Return the source."""
        about = f'"""Messages of {self._topics}; codegen wrote them from the schemas."""'
        homes: dict[str, list[str]] = {}
        for name in sorted(self._imports, key=lambda name: (name.lower(), name)):
            homes.setdefault(HOMES[name], []).append(name)
        others = homes.pop(HOME, None)
        imports = [f"from {home} import {', '.join(names)}" for home, names in sorted(homes.items())]
        imports += ["", f"from {HOME} import {', '.join(others)}"] if others else []
        return "\n".join([about, "", "from __future__ import annotations", "", *imports, *self._lines]) + "\n"

    def _fail(self, where: str, why: str) -> SchemaError:
        return SchemaError(f"{self._topic}.avsc: no class for {where}: {why}")

    def _use(self, name: str) -> str:
        self._imports.add(name)
        return name

    # --- types --------------------------------------------------------------------------------------------------------

    def _kind(self, schema: Schema, where: str, default: Any = ABSENT) -> str:
        """Return the annotation for a type, and add the classes that it needs."""
        described = definition(schema, self._names)
        if isinstance(described, list):
            return self._union(described, where, default)
        if isinstance(described, str):
            described = {"type": described}
        match described["type"]:
            case "record" | "enum":
                return self._named(described)
            case "array":
                return f"tuple[{self._kind(described['items'], f'{where}[]')}, ...]"
            case "map":
                return f"dict[str, {self._kind(described['values'], f'{where}{{}}')}]"
        if texts := described.get("texts"):
            return f"{self._use('Literal')}[{', '.join(map(text_literal, texts))}]"
        kind = KINDS.get((described["type"], described.get("logicalType", "")))
        if kind is Decimal:
            exact = f"{self._use('Precision')}({described['precision']}, {described.get('scale', 0)})"
            return f"{self._use('Annotated')}[{self._use('Decimal')}, {exact}]"
        if kind is not None:
            return self._use(kind.__name__)
        if described["type"] not in PLAIN:
            raise self._fail(where, f"{described['type']!r} is no type of Avro")
        return PLAIN[described["type"]]

    def _union(self, branches: list[Any], where: str, default: Any) -> str:
        kinds = [self._kind(branch, where) for branch in branches]
        for kind in kinds:
            if kinds.count(kind) > 1:
                raise self._fail(where, f"two branches of its union are {kind}; keep one of them")
        if kinds[0] == "None" and default in (ABSENT, None):
            kinds = [*kinds[1:], kinds[0]]
        return " | ".join(kinds)

    def _beyond(self, schema: Schema, default: Any = ABSENT) -> Iterator[str]:
        """Yield what of a type `generate` would not write as it is; of other classes they say it themselves."""
        described = definition(schema, self._names)
        if isinstance(described, list):
            if default is ABSENT and "null" in described[1:]:
                yield "null is not the first branch"
            for branch in described:
                yield from self._beyond(branch)
        elif described in ("int", "float"):
            yield str(described)
        elif isinstance(described, dict):
            kind, logical = described["type"], described.get("logicalType")
            if kind in ("array", "map"):
                yield from self._beyond(described["items" if kind == "array" else "values"])
            elif (kind, logical or "") not in KINDS and (kind in ("int", "float", "fixed") or logical is not None):
                yield json.dumps(described)

    # --- classes ------------------------------------------------------------------------------------------------------

    def _named(self, schema: dict[str, Any]) -> str:
        name = _short(schema)
        if not name.isidentifier() or keyword.iskeyword(name) or name in TAKEN:
            raise self._fail(f"the {schema['type']} {name!r}", "Python has another meaning for that name; rename it")
        whole = _whole(schema, self._names)
        if name in self._done:
            known, topic = self._done[name]
            if known != whole:
                raise self._fail(
                    f"the {schema['type']} {name!r}", f"{topic}.avsc has another of that name; write them to two files"
                )
            return name
        self._done[name] = whole, self._topic
        lines = self._record(schema, name) if schema["type"] == "record" else self._enum(schema, name)
        self._lines += ["", "", *lines]
        return name

    def _enum(self, schema: dict[str, Any], name: str) -> list[str]:
        symbols: list[str] = schema["symbols"]
        if unfit := [each for each in symbols if not _can_be_member(each)]:
            raise self._fail(f"the enum {name!r}", f"Python has no members named {', '.join(unfit)}; rename them")
        members = [f'    {symbol} = "{symbol}"' for symbol in symbols]
        return [*self._notes(schema), f"class {name}({self._use('Enum')}):", *_documented(schema, members)]

    def _record(self, schema: dict[str, Any], name: str) -> list[str]:
        fields = schema["fields"]
        lines = self._notes(schema)
        if before := schema.get("aliases"):
            lines.append(f"@{self._use('renamed')}({', '.join(map(text_literal, before))})")
        given = ["default" in each for each in fields]
        placed = given == sorted(given)  # fields without a default may follow those with one if all are named
        lines += [f"@dataclass(frozen=True, slots=True{'' if placed else ', kw_only=True'})", f"class {name}:"]
        return lines + _documented(schema, [line for each in fields for line in self._field(each, name)])

    def _field(self, each: dict[str, Any], record: str) -> list[str]:
        where, default = f"{record}.{each['name']}", each.get("default", ABSENT)
        if keyword.iskeyword(each["name"]) or each["name"].startswith("__"):
            raise self._fail(where, "Python has another meaning for that name; rename it, with an alias")
        kind = self._kind(each["type"], where, default)
        lines = [f"    # Avro: {text}" for text in dict.fromkeys(self._beyond(each["type"], default))]
        lines += [f"    # Avro: {n}: {json.dumps(each[n])}" for n in each if n not in KNOWN["field"]]
        if before := each.get("aliases"):
            kind = f"{self._use('Annotated')}[{kind}, {self._use('Renamed')}({', '.join(map(text_literal, before))})]"
        line = f"    {each['name']}: {kind}"
        if default is not ABSENT:
            value = self._default(default, each["type"], where)
            if value.startswith("{"):
                make = "dict" if value == "{}" else f"lambda: {value}"
                value = f"{self._use('field')}(default_factory={make})"
            line += f" = {value}"
        return [*lines, *with_doc(line, each.get("doc", ""))]

    def _notes(self, schema: dict[str, Any]) -> list[str]:
        return [f"# Avro: {n}: {json.dumps(schema[n])}" for n in schema if n not in KNOWN[schema["type"]]]

    def _default(self, value: Any, schema: Schema, where: str) -> str:
        """Return the source of a default. Raises SchemaError if it is none of its type."""
        described = definition(schema, self._names)
        if isinstance(described, list):
            return self._of_a_branch(value, described, where)
        if isinstance(described, str):
            described = {"type": described}
        match described["type"], value:
            case "record", dict():
                given = [
                    f"{each['name']}={self._default(value[each['name']], each['type'], where)}"
                    for each in described["fields"]
                    if each["name"] in value
                ]
                return f"{_short(described)}({', '.join(given)})"
            case "enum", str() if value in described["symbols"]:
                return f"{_short(described)}.{value}"
            case "array", list():
                items = [self._default(each, described["items"], where) for each in value]
                return f"({', '.join(items)}{',' if len(items) == 1 else ''})"
            case "map", dict():
                values = [
                    f"{text_literal(k)}: {self._default(v, described['values'], where)}" for k, v in value.items()
                ]
                return f"{{{', '.join(values)}}}"
        try:
            made = literal(value, described)
        except (ValueError, OverflowError) as error:
            raise self._fail(where, f"its default {json.dumps(value)} is not of its type: {error}") from None
        self._imports.update(made.names)
        return made.text

    def _of_a_branch(self, value: Any, branches: list[Any], where: str) -> str:
        wrong: SchemaError | None = None
        for branch in branches:
            try:
                return self._default(value, branch, where)
            except SchemaError as error:
                wrong = wrong or error
        assert wrong is not None
        raise wrong


def _documented(schema: dict[str, Any], members: list[str]) -> list[str]:
    """Return the lines of a class below its head."""
    doc = docstring(schema.get("doc"))
    return [*doc, *([""] if doc and members else []), *(members or ([] if doc else ["    pass"]))]


def _can_be_member(symbol: str) -> bool:
    try:
        make: Any = Enum  # type checkers want the members at hand
        made = make("Any", [symbol])
        return not keyword.iskeyword(symbol) and symbol in made.__members__
    except (ValueError, TypeError):
        return False


def _short(named: dict[str, Any]) -> str:
    return str(named["name"]).rpartition(".")[2]


def _body(topic: str, schema: Schema) -> Schema:
    """Return the type of a topic's messages: what is in the envelope, if they have one."""
    if TopicKind.of(topic) not in ENVELOPES or not isinstance(schema, dict):
        return schema
    return next((each["type"] for each in schema.get("fields", ()) if each["name"] == "body"), schema)


def _whole(schema: Schema, names: Names) -> dict[str, Any]:
    """Return a named type and all that it names, by name, so that two can be compared."""
    found: dict[str, Any] = {}

    def flat(schema: Schema) -> Any:
        described = definition(schema, names)
        if isinstance(described, list):
            return [flat(branch) for branch in described]
        if not isinstance(described, dict) or described.get("name") in found:
            return described["name"] if isinstance(described, dict) else described
        made = {part: value for part, value in described.items() if part != "namespace"}
        if "name" in made:
            found[made["name"]] = made
        made |= {part: flat(described[part]) for part in ("items", "values") if part in described}
        if "fields" in described:
            made["fields"] = [field | {"type": flat(field["type"])} for field in described["fields"]]
        return made.get("name", made)

    flat(schema)
    return found
