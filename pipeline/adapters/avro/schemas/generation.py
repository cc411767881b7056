"""Makes the Avro schema of a topic from its message classes, the envelope included.

| Python                     | Avro                                     |
|----------------------------|------------------------------------------|
| bool, str, bytes, None     | boolean, string, bytes, null             |
| int, float                 | long, double                             |
| tuple[X, ...], list[X]     | array                                    |
| dict[str, X]               | map                                      |
| X or Y, X or None          | union                                    |
| dataclass, NamedTuple      | record, defined where it is used first   |
| NewType, Annotated         | as what is behind them                   |
"""

from __future__ import annotations

import dataclasses
import types
from collections.abc import Mapping
from typing import Annotated, Any, NamedTuple, NewType, Union, get_args, get_origin

from pipeline.adapters.avro.binding import alternatives, field_hints, is_message, named_types
from pipeline.adapters.avro.registry import Schema
from pipeline.adapters.avro.schemas.field_docs import class_doc, field_docs
from pipeline.errors import SchemaError
from pipeline.model import CommandMessage, EventMessage, StateMessage

PRIMITIVES: Mapping[Any, str] = {
    bool: "boolean",
    int: "long",
    float: "double",
    str: "string",
    bytes: "bytes",
    type(None): "null",
}
ENVELOPES: Mapping[Any, str] = {CommandMessage: "Command", EventMessage: "Event", StateMessage: "State"}
NO_DEFAULT: Any = dataclasses.MISSING


class Request(NamedTuple):
    """What a service asks of the schema of its own topic.

    `root`: class (or union) of the whole record; if that is an envelope, `body` is the class (or union) inside it.
    `reads`: whether events say what copies their decision has read. `namespace`: of the records.
    """

    topic: str
    root: Any
    body: Any = None
    reads: bool = False
    namespace: str = ""


def generate(request: Request, earlier: Schema = None) -> Schema:
    """Return the schema. Raises SchemaError if a class has a type that Avro has no counterpart for.

    `earlier`: the schema so far, from which namespaces and names of envelopes are kept, and the docs of what its class
    says nothing about.
    """
    return _Generation(request, earlier).schema()


class _Generation:
    def __init__(self, request: Request, earlier: Schema) -> None:
        self._asked, self._earlier = request, {} if earlier is None else named_types(earlier)
        self._classes: dict[str, type] = {}
        self._namespace = request.namespace
        first = earlier[0] if isinstance(earlier, list) and earlier else earlier
        if isinstance(first, dict):
            self._namespace = first.get("namespace", "")
        self._envelope = first["name"] if isinstance(first, dict) and "name" in first else ENVELOPES.get(request.root)

    def schema(self) -> Schema:
        schema = self._of(self._asked.root, self._asked.topic)
        for each in schema if isinstance(schema, list) else [schema]:
            if isinstance(each, dict) and "name" in each and self._namespace:
                named = {"type": each["type"], "name": each["name"], "namespace": self._namespace}
                rest = {name: part for name, part in each.items() if name not in named}
                each.clear()
                each.update(named | rest)
        return schema

    def _fail(self, where: str, why: str) -> SchemaError:
        return SchemaError(f"{self._asked.topic}: no Avro type for {where}: {why}")

    def _of(self, annotation: Any, where: str, default: Any = NO_DEFAULT) -> Schema:
        if isinstance(annotation, NewType):
            return self._of(annotation.__supertype__, where, default)
        origin = get_origin(annotation)
        if origin is Annotated:
            return self._of(annotation.__origin__, where, default)
        if origin in (Union, types.UnionType):
            return self._union(annotation, where, default)
        if annotation in PRIMITIVES:
            return PRIMITIVES[annotation]
        if is_message(annotation):
            return self._record(annotation, where)
        arguments = get_args(annotation)
        if origin is tuple and len(arguments) == 2 and arguments[1] is Ellipsis:
            return {"type": "array", "items": self._of(arguments[0], f"{where}[]")}
        if origin is dict and arguments[0] is str:
            return {"type": "map", "values": self._of(arguments[1], f"{where}{{}}")}
        raise self._fail(where, f"{annotation} is none of the types that a message can have; see docs/schemas.md")

    def _union(self, annotation: Any, where: str, default: Any) -> Schema:
        """Return the union; the branch of the default is first, as Avro wants it, and null if there is none."""
        first = type(None) if default is NO_DEFAULT else type(default)
        members = sorted(alternatives(annotation), key=lambda member: _class_of(member) is not first)
        return [self._of(member, where) for member in members]

    def _record(self, cls: Any, where: str) -> Schema:
        envelope = cls if cls in ENVELOPES else None
        name: str = (self._envelope or ENVELOPES[cls]) if envelope else cls.__name__
        if name in self._classes:
            if self._classes[name] is not cls:
                raise self._fail(where, f"{self._classes[name]} and {cls} have one name; rename one of them")
            return name
        self._classes[name] = cls
        said, earlier = field_docs(cls), self._earlier.get(name, {})
        docs = {field["name"]: field["doc"] for field in earlier.get("fields", ()) if "doc" in field} | said
        doc = ("" if envelope else class_doc(cls)) or earlier.get("doc", "")
        fields = []
        for field, hint in field_hints(cls, self._asked.body).items():
            if cls is EventMessage and field == "read" and not self._asked.reads:
                continue
            default = _default(cls, field)
            made: dict[str, Any] = {"name": field, "type": self._of(hint, f"{where}.{name}.{field}", default)}
            if default is not NO_DEFAULT:
                made["default"] = self._json(default, f"{where}.{name}.{field}")
            if field in docs:
                made["doc"] = docs[field]
            fields.append(made)
        return {"type": "record", "name": name} | ({"doc": doc} if doc else {}) | {"fields": fields}

    def _json(self, value: Any, where: str) -> Any:
        """Return a default as a schema has it."""
        if value is None or type(value) in (bool, int, float, str):
            return value
        if isinstance(value, bytes):
            return value.decode("latin-1")
        if is_message(type(value)):
            return {name: self._json(getattr(value, name), where) for name in field_hints(type(value))}
        if isinstance(value, (tuple, list)):
            return [self._json(item, where) for item in value]
        if isinstance(value, dict):
            return {key: self._json(item, where) for key, item in value.items()}
        raise self._fail(where, f"its default {value!r} cannot stand in a schema; leave it out")


def _class_of(annotation: Any) -> Any:
    return get_origin(annotation) or annotation


def _default(cls: Any, field: str) -> Any:
    """Return the default of a field of a message class; NO_DEFAULT if it has none."""
    if not dataclasses.is_dataclass(cls):
        return cls._field_defaults.get(field, NO_DEFAULT)
    found = next(each for each in dataclasses.fields(cls) if each.name == field)
    if found.default_factory is not dataclasses.MISSING:
        return found.default_factory()
    return found.default
