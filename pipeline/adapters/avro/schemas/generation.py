"""Makes the Avro schema of a topic from its message classes, the envelope included.

docs/schemas.md has the table of types. What the codec makes of their values is in `conversions`.
"""

from __future__ import annotations

import dataclasses
import re
import types
from collections.abc import Mapping, Sequence
from decimal import Decimal
from enum import Enum
from typing import Any, Literal, NamedTuple, Union, get_args, get_origin

from pipeline.adapters.avro.binding import field_hints, is_message, kind_of, named_types, unwrapped
from pipeline.adapters.avro.conversions import CONVERSIONS, conversion_for, is_enum
from pipeline.adapters.avro.registry import Schema
from pipeline.adapters.avro.schemas.field_docs import class_doc, field_docs
from pipeline.errors import SchemaError
from pipeline.model import CommandMessage, EventMessage, StateMessage
from pipeline.model.fields import Precision, Renamed, members, opened

PRIMITIVES: Mapping[Any, str] = {
    bool: "boolean",
    int: "long",
    float: "double",
    str: "string",
    bytes: "bytes",
    type(None): "null",
}
ENVELOPES: Mapping[Any, str] = {CommandMessage: "Command", EventMessage: "Event", StateMessage: "State"}
LOGICAL = {kind: needs[0] for kind, (needs, _) in CONVERSIONS.items() if kind is not Decimal}
NO_DEFAULT: Any = dataclasses.MISSING
AVRO_NAME = re.compile("[A-Za-z_][A-Za-z0-9_]*", re.ASCII)


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
        try:
            schema = self._of(self._asked.root, self._asked.topic)
        except RecursionError:
            raise self._fail(self._asked.topic, "a `type` contains itself, which only a class can") from None
        if isinstance(schema, list) and self._namespace:  # a name outside of all records is one without a namespace
            schema = [
                f"{self._namespace}.{each}" if isinstance(each, str) and each in self._classes else each
                for each in schema
            ]
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
        annotation, said = opened(annotation)
        origin, arguments = get_origin(annotation), get_args(annotation)
        if origin in (Union, types.UnionType):
            return self._union(annotation, where, default)
        if annotation in PRIMITIVES:
            return PRIMITIVES[annotation]
        if annotation in LOGICAL:
            avro, logical = LOGICAL[annotation]
            return {"type": avro, "logicalType": logical}
        if annotation is Decimal:
            return self._decimal(said, where)
        if is_message(annotation):
            return self._record(annotation, where)
        if is_enum(annotation):
            return self._enum(annotation, where)
        if origin is Literal and all(type(text) is str for text in arguments):
            return {"type": "string", "texts": [*arguments]}  # an enum would need a name
        if (origin is tuple and len(arguments) == 2 and arguments[1] is Ellipsis) or origin is list:
            return {"type": "array", "items": self._of(arguments[0], f"{where}[]")}
        if origin is dict and unwrapped(arguments[0]) is str:
            return {"type": "map", "values": self._of(arguments[1], f"{where}{{}}")}
        raise self._fail(where, f"{annotation} is none of the types that a message can have; see docs/schemas.md")

    def _decimal(self, said: Sequence[Any], where: str) -> Schema:
        exact = next((each for each in said if isinstance(each, Precision)), None)
        if exact is None:
            raise self._fail(where, "a Decimal needs its precision, as in Annotated[Decimal, Precision(18, 2)]")
        return {"type": "bytes", "logicalType": "decimal", "precision": exact.digits, "scale": exact.scale}

    def _enum(self, cls: Any, where: str) -> Schema:
        if self._is_known(cls, cls.__name__, where):
            return cls.__name__
        earlier, symbols = self._earlier.get(cls.__name__, {}), [member.name for member in cls]
        for symbol in symbols:
            self._check_name(symbol, f"{where}, {cls.__name__}.{symbol}")
        doc, fallback = class_doc(cls) or earlier.get("doc", ""), earlier.get("default")
        made = {"type": "enum", "name": cls.__name__} | _aliases(cls) | ({"doc": doc} if doc else {})
        return made | {"symbols": symbols} | ({"default": fallback} if fallback in symbols else {})

    def _is_known(self, cls: type, name: str, where: str) -> bool:
        """Return whether the schema of a class stands further up. Raises SchemaError if it is another class's."""
        known_before = name in self._classes
        known = self._classes.setdefault(name, cls)
        if known is not cls and known in ENVELOPES:
            raise self._fail(where, f"{name} is the name of the record around all messages of this topic; rename {cls}")
        if known is not cls:
            raise self._fail(where, f"{known} and {cls} have one name; rename one of them")
        self._check_name(name, where)
        return known_before

    def _check_name(self, name: str, where: str) -> None:
        if not AVRO_NAME.fullmatch(name):
            raise self._fail(where, f"Avro's names have only the letters a to z and A to Z, digits and _, not {name!r}")

    def _union(self, annotation: Any, where: str, default: Any) -> Schema:
        """Return the union; the branch of the default is first, as Avro wants it, and null if there is none."""
        first = type(None) if default is NO_DEFAULT else type(default)
        ordered = sorted(members(annotation), key=lambda member: kind_of(unwrapped(member)) is not first)
        return [self._of(member, where) for member in ordered]

    def _record(self, cls: Any, where: str) -> Schema:
        envelope = cls if cls in ENVELOPES else None
        name: str = (self._envelope or ENVELOPES[cls]) if envelope else cls.__name__
        if self._is_known(cls, name, where):
            return name
        said, earlier = field_docs(cls), self._earlier.get(name, {})
        docs = {field["name"]: field["doc"] for field in earlier.get("fields", ()) if "doc" in field} | said
        known = {field["name"] for field in earlier.get("fields", ())}  # what was read once stays in the events of then
        doc = ("" if envelope else class_doc(cls)) or earlier.get("doc", "")
        fields = []
        for field, hint in field_hints(cls, self._asked.body, extras=True).items():
            if cls is EventMessage and field == "read" and not self._asked.reads and field not in known:
                continue
            self._check_name(field, f"{where}.{name}.{field}")
            default = _default(cls, field)
            if (again := _default(cls, field)) is not default and again != default:
                why = "its default_factory makes another value each time, and a schema has one default; leave it out"
                raise self._fail(f"{where}.{name}.{field}", why)
            made: dict[str, Any] = {"name": field, "type": self._of(hint, f"{where}.{name}.{field}", default)}
            if default is not NO_DEFAULT:
                made["default"] = self._json(default, made["type"], f"{where}.{name}.{field}")
            if field in docs:
                made["doc"] = docs[field]
            if before := [name for each in opened(hint)[1] if isinstance(each, Renamed) for name in each.before]:
                made["aliases"] = before
            fields.append(made)
        return {"type": "record", "name": name} | _aliases(cls) | ({"doc": doc} if doc else {}) | {"fields": fields}

    def _json(self, value: Any, schema: Schema, where: str) -> Any:
        """Return a default as a schema has it. `schema`: of the field."""
        if isinstance(schema, list):
            return self._json(value, schema[0], where)
        if value is None or type(value) in (bool, int, float, str):
            return value
        if isinstance(value, bytes):
            return value.decode("latin-1")
        if is_message(type(value)):
            return self._record_json(value, where)
        if isinstance(value, (tuple, list)):
            return [self._json(item, schema["items"], where) for item in value]
        if isinstance(value, dict):
            return {key: self._json(item, schema["values"], where) for key, item in value.items()}
        if isinstance(value, Enum):
            return value.name
        try:
            return self._json(conversion_for(type(value), schema).to_avro(value), schema["type"], where)
        except (ValueError, KeyError, TypeError) as error:
            raise self._fail(where, f"its default {value!r} cannot stand in a schema: {error}") from None

    def _record_json(self, value: Any, where: str) -> Any:
        hints = field_hints(type(value), extras=True)
        schemas = _Generation(self._asked, None)
        return {
            name: self._json(getattr(value, name), schemas._of(hint, f"{where}.{name}", getattr(value, name)), where)
            for name, hint in hints.items()
        }


def _aliases(cls: type) -> dict[str, Any]:
    return {"aliases": [*before]} if (before := cls.__dict__.get("__renamed__")) else {}


def _default(cls: Any, field: str) -> Any:
    """Return the default of a field of a message class; NO_DEFAULT if it has none."""
    if not dataclasses.is_dataclass(cls):
        return cls._field_defaults.get(field, NO_DEFAULT)
    found = next(each for each in dataclasses.fields(cls) if each.name == field)
    if found.default_factory is not dataclasses.MISSING:
        return found.default_factory()
    return found.default
