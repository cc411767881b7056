"""Checks that message classes match Avro schemas in names, fields and types. SchemaError says where they differ."""

from __future__ import annotations

import dataclasses
import types
from typing import Any, Union, get_args, get_origin, get_type_hints

from pipeline.adapters.avro.registry import Schema
from pipeline.engine.state.table import Strict
from pipeline.errors import SchemaError
from pipeline.model import EventMessage

PRIMITIVES = {
    "string": str,
    "int": int,
    "long": int,
    "float": float,
    "double": float,
    "boolean": bool,
    "bytes": bytes,
    "null": type(None),
}
Names = dict[str, dict[str, Any]]
Classes = dict[str, type]


def alternatives(annotation: Any) -> tuple[Any, ...]:
    """Return the members of a union annotation; a single class is a union of one."""
    return get_args(annotation) if get_origin(annotation) in (Union, types.UnionType) else (annotation,)


def named_types(schema: Schema, names: Names | None = None, namespace: str = "") -> Names:
    """Return all records, enums and fixed types defined in `schema`, by short and by full name."""
    names = {} if names is None else names
    if isinstance(schema, list):
        for branch in schema:
            named_types(branch, names, namespace)
    elif isinstance(schema, dict):
        if "name" in schema:
            namespace = schema.get("namespace", namespace)
            names[schema["name"]] = names[f"{namespace}.{schema['name']}"] = schema
        for field in schema.get("fields", ()):
            named_types(field["type"], names, namespace)
        for inner in ("items", "values"):
            if inner in schema:
                named_types(schema[inner], names, namespace)
    return names


def resolve(schema: Schema, names: Names) -> Schema:
    """Return the type behind a name or behind `{"type": …}`; primitives are returned by name."""
    while True:
        if isinstance(schema, str) and schema in names:
            schema = names[schema]
        elif isinstance(schema, dict) and (schema["type"] in PRIMITIVES or isinstance(schema["type"], (dict, list))):
            schema = schema["type"]
        else:
            return schema


def without_logical_types(schema: Schema) -> Schema:
    """Return the schema with numbers as numbers, text as text and bytes as bytes, as message classes hold them."""
    if isinstance(schema, list):
        return [without_logical_types(branch) for branch in schema]
    if isinstance(schema, dict):
        return {name: without_logical_types(part) for name, part in schema.items() if name != "logicalType"}
    return schema


def is_message(cls: Any) -> bool:
    """Return whether a type is that of a record: a dataclass or a named tuple."""
    return isinstance(cls, type) and (
        dataclasses.is_dataclass(cls) or (issubclass(cls, tuple) and hasattr(cls, "_fields"))
    )


def given_fields(cls: Any) -> dict[str, bool]:
    """Return the fields that the constructor of a message class takes, and whether it needs them."""
    if not dataclasses.is_dataclass(cls):
        return {name: name not in cls._field_defaults for name in cls._fields}
    missing = dataclasses.MISSING
    return {f.name: f.default is f.default_factory is missing for f in dataclasses.fields(cls) if f.init}


def field_hints(cls: type, body: object = None) -> dict[str, Any]:
    """Return name -> annotation of each field of a message class, in the order of its constructor.

    `body`: the type of the `body` of an envelope (such as CommandMessage), which is Any there.
    """
    hints = {name: body if hint is Any else hint for name, hint in get_type_hints(cls).items()}
    if dataclasses.is_dataclass(cls):
        return {field.name: hints[field.name] for field in dataclasses.fields(cls)}
    return {name: hints[name] for name in cls._fields}  # type: ignore[attr-defined]


def refuse_recursion(topic: str, schema: Schema, names: Names) -> None:
    """Raise SchemaError if a record contains itself: straight-line code cannot follow it."""

    def walk(schema: Schema, open_records: tuple[str, ...]) -> None:
        schema = resolve(schema, names)
        if isinstance(schema, list):
            for branch in schema:
                walk(branch, open_records)
        elif isinstance(schema, dict):
            if schema["type"] == "record":
                if schema["name"] in open_records:
                    raise SchemaError(f"{topic}.avsc: record {schema['name']!r} contains itself; not supported")
                open_records += (schema["name"],)
            for part in (
                *(field["type"] for field in schema.get("fields", ())),
                schema.get("items"),
                schema.get("values"),
            ):
                if part is not None:
                    walk(part, open_records)

    walk(schema, ())


def with_read(schema: Schema, root: object) -> Schema:
    """Return the schema of events with a field `read`, added as null if it is missing.

    Aggregates that read no copies leave it out.
    """
    fields = schema.get("fields", ()) if root is EventMessage and isinstance(schema, dict) else ()
    if not fields or any(field["name"] == "read" for field in fields):
        return schema
    return schema | {"fields": [*fields, {"name": "read", "type": "null", "default": None}]}


class Binding:
    """Maps each record of one topic's schema to its class.

    `root`: class (or union) of the whole record; if that is an envelope, `body` is the class (or union) inside it.
    `strict`: True: every record and field of the schema needs its counterpart, as for a topic one owns. "read": as
    True, and an event's schema must have `read`, as its aggregate reads copies. "fields": only every field of records
    that have a class, as for another's topic that one writes to. False: classes may leave out fields, and records may
    have no class, as for another's topic that one follows.
    """

    def __init__(self, topic: str, schema: Schema, root: object, body: object = None, *, strict: Strict = True) -> None:
        as_written = schema
        if strict != "read":
            schema = with_read(schema, root)
        self.topic, self.schema, self.body, self._added = topic, schema, body, schema is not as_written
        self.strict = True if strict == "read" else strict
        self.names = named_types(schema)
        self.classes: Classes = {}
        refuse_recursion(topic, schema, self.names)
        self._match(root, schema, topic)

    def _fail(self, where: str, why: str) -> SchemaError:
        return SchemaError(f"{self.topic}.avsc and its message classes differ at {where}: {why}; change one of them")

    def python_type(self, branch: Schema) -> type | None:
        """Return the type of a union branch's values; None for a record without a class, which is never encoded."""
        branch = resolve(branch, self.names)
        if isinstance(branch, str):
            return PRIMITIVES[branch]
        kinds: dict[str, type] = {"array": tuple, "map": dict, "enum": str, "fixed": bytes}
        return kinds.get(branch["type"]) or self.classes.get(branch["name"])

    def _match(self, annotation: Any, schema: Schema, where: str) -> None:
        schema = resolve(schema, self.names)
        if isinstance(schema, list):
            self._match_union(annotation, schema, where)
        elif isinstance(schema, dict) and schema["type"] == "record":
            self._match_record(annotation, schema, where)
        elif isinstance(schema, dict) and schema["type"] == "array":
            item = get_args(annotation)
            if get_origin(annotation) is not tuple or len(item) != 2 or item[1] is not Ellipsis:
                raise self._fail(where, f"an array needs tuple[…, ...], not {annotation}")
            self._match(item[0], schema["items"], f"{where}[]")
        elif isinstance(schema, dict) and schema["type"] == "map":
            item = get_args(annotation)
            if get_origin(annotation) is not dict or item[0] is not str:
                raise self._fail(where, f"a map needs dict[str, …], not {annotation}")
            self._match(item[1], schema["values"], f"{where}{{}}")
        else:
            kind = schema["type"] if isinstance(schema, dict) else schema
            expected = {"enum": str, "fixed": bytes}.get(kind) or PRIMITIVES.get(kind)
            if expected is None:
                raise self._fail(where, f"Avro type {kind!r} is not supported")
            if annotation is not expected:
                raise self._fail(where, f"{kind!r} needs {expected.__name__}, not {annotation}")

    def _match_union(self, annotation: Any, branches: list[Any], where: str) -> None:
        open_alternatives = list(alternatives(annotation))
        for branch in branches:
            target = resolve(branch, self.names)
            if isinstance(target, dict) and target["type"] == "record":
                chosen = [a for a in open_alternatives if getattr(a, "__name__", None) == target["name"]]
            else:
                plain = [a for a in open_alternatives if not is_message(a)]
                chosen = [a for a in plain if (get_origin(a) or a) is self.python_type(target)] or plain[:1]
                if target == "null":
                    chosen = [a for a in open_alternatives if a is type(None)]
            if chosen:
                self._match(chosen[0], branch, where)
                open_alternatives.remove(chosen[0])
            elif self.strict is True or not isinstance(target, dict):
                name = target["name"] if isinstance(target, dict) and "name" in target else target
                raise self._fail(where, f"the union's {name!r} has no class")
        if open_alternatives:
            raise self._fail(where, f"the union has no record for {open_alternatives}")

    def _match_record(self, cls: Any, schema: dict[str, Any], where: str) -> None:
        known = self.classes.setdefault(schema["name"], cls)
        if known is not cls:
            raise self._fail(where, f"record {schema['name']!r} has two classes, {known} and {cls}")
        if not is_message(cls) or (dataclasses.is_dataclass(cls) and cls.__name__ != schema["name"]):
            raise self._fail(where, f"record {schema['name']!r} needs a dataclass of that name, not {cls}")
        hints = field_hints(cls, self.body)
        fields = {field["name"]: field["type"] for field in schema["fields"]}
        if missing := sorted(hints.keys() - fields.keys()):
            raise self._fail(where, f"record {schema['name']!r} has no field {', '.join(missing)}")
        if self.strict and (missing := sorted(fields.keys() - hints.keys())):
            raise self._fail(where, f"class {schema['name']} has no field {', '.join(missing)}")
        for name, hint in hints.items():
            if self._added and name == "read" and where == self.topic:
                continue
            self._match(hint, fields[name], f"{where}.{schema['name']}.{name}")
