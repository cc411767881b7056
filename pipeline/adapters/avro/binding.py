"""Checks that message classes match Avro schemas in names, fields and types. SchemaError says where they differ."""

from __future__ import annotations

import dataclasses
from itertools import combinations
from typing import Any, Literal, get_args, get_origin, get_type_hints

from pipeline.adapters.avro.conversions import LIST, Converted, conversion_for, is_converted, is_convertible
from pipeline.adapters.avro.registry import Schema
from pipeline.engine.state.table import Strict
from pipeline.errors import SchemaError
from pipeline.model import EventMessage
from pipeline.model.fields import alternatives, opened

MAKE = "pipeline schemas generate TOPOLOGY, then pipeline schemas register"
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


def unwrapped(annotation: Any) -> Any:
    """Return what is behind `type X = …`, NewType and Annotated."""
    return opened(annotation)[0]


def kind_of(annotation: Any) -> Any:
    """Return the type of an annotation's values, without what is in brackets."""
    origin = get_origin(annotation) or annotation
    return str if origin is Literal else origin


def written_as(record: dict[str, Any]) -> set[str]:
    """Return the short names that records of a schema have, or had before."""
    return {name.rpartition(".")[2] for name in (record["name"], *record.get("aliases", ()))}


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


def definition(schema: Schema, names: Names) -> Schema:
    """Return the type behind a name or behind `{"type": {…}}`, with its logical type if it has one."""
    while True:
        if isinstance(schema, str) and schema in names:
            schema = names[schema]
        elif isinstance(schema, dict) and isinstance(schema["type"], (dict, list)):
            schema = schema["type"]
        else:
            return schema


def resolve(schema: Schema, names: Names) -> Schema:
    """Return the type behind a name or behind `{"type": …}`; primitives are returned by name."""
    schema = definition(schema, names)
    return schema["type"] if isinstance(schema, dict) and schema["type"] in PRIMITIVES else schema


def without_logical_types(schema: Schema, *, told_apart: bool = False) -> Schema:
    """Return the schema with numbers as numbers, text as text and bytes as bytes, as message classes hold them.

    `told_apart`: but an int that has one keeps it in a union with a long, which is a number, too.
    """
    if isinstance(schema, list):
        kinds = [branch["type"] if isinstance(branch, dict) else branch for branch in schema]
        kept = "int" if told_apart and "long" in kinds else None
        plain = (without_logical_types(branch, told_apart=told_apart) for branch in schema)
        return [b if kind == kept else p for b, kind, p in zip(schema, kinds, plain, strict=True)]
    if isinstance(schema, dict):
        return {
            name: without_logical_types(part, told_apart=told_apart)
            for name, part in schema.items()
            if name != "logicalType"
        }
    return schema


def plain_type(schema: Schema) -> type | None:
    """Return the type that a resolved schema has in classes that ask for no other; None for a record."""
    if isinstance(schema, str):
        return PRIMITIVES[schema]
    kinds: dict[str, type] = {"array": tuple, "map": dict, "enum": str, "fixed": bytes}
    return kinds.get(schema["type"])


def alternatives_for(branch: Schema, among: list[Any], names: Names, *, follows: bool = False) -> list[Any]:
    """Return the members of a union annotation that may stand for one branch, the best first.

    `follows`: see conversion_for.
    """
    target = resolve(branch, names)
    if target == "null":
        return [a for a in among if a is type(None)]
    if isinstance(target, dict) and target["type"] == "record":
        return [a for a in among if getattr(a, "__name__", None) == target["name"]]
    plain = [a for a in among if not is_message(a) and a is not type(None)]
    converted = [a for a in plain if is_converted(a) and is_convertible(a, definition(branch, names), follows=follows)]
    kinds = (tuple, list) if plain_type(target) is tuple else (plain_type(target),)
    return converted or [a for a in plain if not is_converted(a) and kind_of(a) in kinds] or plain[:1]


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


def field_hints(cls: type, body: object = None, *, extras: bool = False) -> dict[str, Any]:
    """Return name -> annotation of each field of a message class, in the order of its constructor.

    `body`: the type of the `body` of an envelope (such as CommandMessage), which is Any there. `extras`: with what is
    said in Annotated. Raises SchemaError if an annotation names a class that its module does not have.
    """
    try:
        hints = get_type_hints(cls, include_extras=extras)
    except NameError:
        hints = _local_hints(cls, extras)
    hints = {name: body if hint is Any else hint for name, hint in hints.items()}
    if dataclasses.is_dataclass(cls):
        return {field.name: hints[field.name] for field in dataclasses.fields(cls)}
    return {name: hints[name] for name in cls._fields}  # type: ignore[attr-defined]


def _local_hints(cls: type, extras: bool) -> dict[str, Any]:
    """Return the annotations of a class that its module does not have, as it is made in a function."""
    try:
        return get_type_hints(cls, localns={cls.__name__: cls}, include_extras=extras)
    except NameError as error:
        why = f"{error}; define at the top of a module what the annotations of {cls.__name__} name"
        raise SchemaError(f"the fields of {cls.__module__}.{cls.__qualname__} cannot be read: {why}") from None


def recursive_records(schema: Schema, names: Names) -> set[str]:
    """Return the names of the records that contain themselves, by way of others or not."""
    inside: dict[str, set[str]] = {}  # record -> those that it names, in its arrays, maps and unions too

    def walk(schema: Schema, around: set[str]) -> None:
        schema = resolve(schema, names)
        if isinstance(schema, list):
            for branch in schema:
                walk(branch, around)
        elif isinstance(schema, dict):
            if schema["type"] == "record":
                around.add(schema["name"])
                if schema["name"] in inside:
                    return
                around = inside[schema["name"]] = set()
            inner = [*(field["type"] for field in schema.get("fields", ())), schema.get("items"), schema.get("values")]
            for part in inner:
                if part is not None:
                    walk(part, around)

    walk(schema, set())
    for found in [*inside.values()] * len(inside):  # each round goes at least one record further
        found |= {name for other in tuple(found) for name in inside[other]}
    return {name for name, found in inside.items() if name in found}


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
    have no class, as for another's topic that one follows; so may symbols of enums, until a record has one.

    `schema` is the bound one: a Converted stands in each place where the classes have another type than Avro. A record
    that contains itself does so there, too. `recursive`: the names of such. `skips_inside`: whether a record without a
    class may stand in a field of a message, which then is None.
    """

    def __init__(self, topic: str, schema: Schema, root: object, body: object = None, *, strict: Strict = True) -> None:
        as_written = schema
        if strict != "read":
            schema = with_read(schema, root)
        self.topic, self.body, self._added = topic, body, schema is not as_written
        self._is_events = root is EventMessage
        self.strict = True if strict == "read" else strict
        self.names = named_types(schema)
        self.classes: Classes = {}
        self.skips_inside = False
        self._bound: dict[int, dict[str, Any]] = {}  # each record by the id of what it was
        self.recursive = recursive_records(schema, self.names)  # these are read and written by functions of their own
        self._as_written = schema  # keeps the ids
        self.schema = self._bind(root, schema, topic)

    def _fail(self, where: str, why: str) -> SchemaError:
        own = f"; to make the schema of the classes: {MAKE}" if self.strict is True else ""
        return SchemaError(
            f"{self.topic}.avsc and its message classes differ at {where}: {why}; change one of them{own}"
        )

    def python_type(self, branch: Schema) -> type | None:
        """Return the type of a union branch's values; None for a record without a class, which is never encoded."""
        branch = resolve(branch, self.names)
        if isinstance(branch, Converted):
            return branch.conversion.type
        return plain_type(branch) or self.classes.get(branch["name"])

    def _bind(self, annotation: Any, written: Schema, where: str) -> Schema:
        """Return the bound schema."""
        annotation, schema = unwrapped(annotation), resolve(written, self.names)
        if isinstance(schema, list):
            return self._bind_union(annotation, schema, where)
        kind = schema["type"] if isinstance(schema, dict) else schema
        if kind == "record":
            return self._bind_record(annotation, schema, where)
        if is_converted(annotation):
            try:
                return Converted(
                    schema, conversion_for(annotation, definition(written, self.names), follows=not self.strict)
                )
            except ValueError as error:
                raise self._fail(where, str(error)) from None
        item = get_args(annotation)
        if kind == "array":
            of_list = get_origin(annotation) is list
            if not of_list and (get_origin(annotation) is not tuple or len(item) != 2 or item[1] is not Ellipsis):
                raise self._fail(where, f"an array needs tuple[…, ...] or list[…], not {annotation}")
            bound = schema | {"items": self._bind(item[0], schema["items"], f"{where}[]")}
            return Converted(bound, LIST) if of_list else bound
        if kind == "map":
            if get_origin(annotation) is not dict or unwrapped(item[0]) is not str:
                raise self._fail(where, f"a map needs dict[str, …], not {annotation}")
            return schema | {"values": self._bind(item[1], schema["values"], f"{where}{{}}")}
        expected = {"enum": str, "fixed": bytes}.get(kind) or PRIMITIVES.get(kind)
        if expected is None:
            raise self._fail(where, f"Avro type {kind!r} is not supported")
        if annotation is not expected:
            raise self._fail(where, f"{kind!r} needs {expected.__name__}, not {annotation}")
        return schema

    def _bind_union(self, annotation: Any, branches: list[Any], where: str) -> list[Any]:
        open_alternatives = list(alternatives(annotation))
        bound, kinds = [], []
        for branch in branches:
            target = resolve(branch, self.names)
            if chosen := alternatives_for(branch, open_alternatives, self.names, follows=not self.strict):
                bound.append(self._bind(chosen[0], branch, where))
                kinds.append(self.python_type(bound[-1]))
                open_alternatives.remove(chosen[0])
            elif self.strict is True or not isinstance(target, dict):
                name = target["name"] if isinstance(target, dict) and "name" in target else target
                old = "; if it is an old event, give its class and what becomes of it in `upcasts`"
                raise self._fail(where, f"the union's {name!r} has no class{old if self._is_events else ''}")
            else:
                self._check_unfollowed(target, alternatives(annotation), where)
                self.skips_inside |= where.count(".") > self.topic.count(".") + 2  # beyond topic.Envelope.body
                bound.append(branch)
        if open_alternatives:
            raise self._fail(where, f"the union has no record for {open_alternatives}")
        if doubled := [kind for kind in kinds if kinds.count(kind) > 1]:
            raise self._fail(where, f"a value of {doubled[0]} may be of either of two branches of the union")
        self._check_told_apart([resolve(branch, self.names) for branch in branches], where)
        return bound

    def _check_told_apart(self, branches: list[Any], where: str) -> None:
        """Refuse a class, and what it was before, of which the records look the same: none could be told as old."""
        records = [branch for branch in branches if isinstance(branch, dict) and branch["type"] == "record"]
        for one, other in combinations(records, 2):
            shared = written_as(one) & written_as(other)
            if shared and [(each["name"], each["type"]) for each in one["fields"]] == [
                (each["name"], each["type"]) for each in other["fields"]
            ]:
                raise self._fail(
                    where,
                    f"{one['name']} and {other['name']} have the same fields, and a record named {min(shared)} may be "
                    "either: nothing would tell the old ones. Keep the old name for the old class, and give the new "
                    "class a name of its own",
                )

    def _check_unfollowed(self, record: dict[str, Any], followed: tuple[Any, ...], where: str) -> None:
        """Refuse to skip what was written under the name of a class that is followed."""
        names = {getattr(cls, "__name__", "") for cls in followed}
        for alias in record.get("aliases", ()):
            if self._is_events and (short := alias.rpartition(".")[2]) in names:
                raise self._fail(
                    where,
                    f"{short} is followed, and its records of before are {record['name']!r} now; give that class, too, "
                    "and what becomes of it in the `upcasts` of the Source",
                )

    def _bind_record(self, cls: Any, schema: dict[str, Any], where: str) -> dict[str, Any]:
        known = self.classes.setdefault(schema["name"], cls)
        if known is not cls:
            raise self._fail(where, f"record {schema['name']!r} has two classes, {known} and {cls}")
        if id(schema) in self._bound:
            return self._bound[id(schema)]
        if not is_message(cls) or (dataclasses.is_dataclass(cls) and cls.__name__ != schema["name"]):
            raise self._fail(where, f"record {schema['name']!r} needs a dataclass of that name, not {cls}")
        bound = self._bound[id(schema)] = dict(schema)  # here, as its fields may contain it
        hints = field_hints(cls, self.body)
        fields = {field["name"]: field["type"] for field in schema["fields"]}
        if missing := sorted(hints.keys() - fields.keys()):
            raise self._fail(where, f"record {schema['name']!r} has no field {', '.join(missing)}")
        if self.strict and (missing := sorted(fields.keys() - hints.keys())):
            raise self._fail(where, f"class {schema['name']} has no field {', '.join(missing)}")
        for name, hint in hints.items():
            if self._added and name == "read" and where == self.topic:
                continue
            fields[name] = self._bind(hint, fields[name], f"{where}.{schema['name']}.{name}")
        bound["fields"] = [field | {"type": fields[field["name"]]} for field in schema["fields"]]
        return bound
