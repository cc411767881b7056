"""Reads records with fastavro, the contract, instead of the compiled code that the engine reads them with."""

from __future__ import annotations

import math
import struct
from collections.abc import Callable, Iterator
from datetime import timedelta
from enum import Enum
from io import BytesIO
from typing import Any, get_args, get_origin

from fastavro import parse_schema, schemaless_reader
from fastavro.read import LOGICAL_READERS

from pipeline.adapters.avro.binding import (
    Binding,
    Names,
    alternatives,
    field_hints,
    named_types,
    resolve,
    unwrapped,
    without_logical_types,
)
from pipeline.adapters.avro.conversions import LIST, Converted
from pipeline.adapters.avro.registry import Registry, Schema
from pipeline.engine.ports import TP
from pipeline.errors import UndecodableRecord
from pipeline.flow import Inbox
from pipeline.model import Acceptance, Aggregate, CommandMessage, Parked, Rejected, ReplyMessage, TopicKind, is_barrier
from pipeline.verify.sources.history import Entry, History

Convert = Callable[[Any], Any]


class Decoder:
    """Turns the records of one topic into message classes; `root` and `body` as in adapters.avro.Codec.

    A record without a class becomes None, or an envelope whose body is None. Raises UndecodableRecord.
    """

    def __init__(self, registry: Registry, topic: str, root: object, body: object = None) -> None:
        self.topic, self.envelope = topic, body is not None
        self._registry = registry
        current, schema = registry.current(topic)
        binding = Binding(topic, schema, root, body, strict=False)
        schema = _for_fastavro(binding.schema, binding.names, set())
        self._schema = parse_schema(schema)
        self._plans: dict[int, tuple[Any, Any]] = {current: (self._schema, None)}  # writer's and reader's schema
        self._convert = _converter(schema, root, body, named_types(schema))

    def value(self, data: bytes | None) -> Any:
        """The value of one record."""
        if data is None or len(data) < 5 or data[0] != 0:
            raise UndecodableRecord(f"not in the Confluent wire format: {data!r:.40}")
        (schema_id,) = struct.unpack_from(">I", data, 1)
        if schema_id not in self._plans:
            self._plans[schema_id] = (self._parsed(schema_id), self._schema)
        body = BytesIO(data)
        body.seek(5)
        try:
            read = schemaless_reader(body, *self._plans[schema_id], return_named_type=True)
            message = self._convert(read)
        except Exception as error:  # fastavro raises whatever the bytes lead it to
            raise UndecodableRecord(f"cannot be read as {self.topic}: {error!r:.200}") from error
        if body.tell() != len(data):
            raise UndecodableRecord("the record does not end where its schema says")
        return message

    def _parsed(self, schema_id: int) -> Schema:
        known = self._registry.written_with(schema_id)
        if known is None or known[0] != self.topic:
            raise UndecodableRecord(f"schema id {schema_id} is none of {self.topic}")
        return parse_schema(without_logical_types(known[1]))

    def read(self, entry: Entry) -> tuple[str, Any] | None:
        """Key and message; None for a barrier, or a kind of record without a class. Raises UndecodableRecord."""
        if is_barrier(entry.value, entry.headers):
            return None
        message = self.value(entry.value)
        key = text_key(entry)
        return None if message is None or (self.envelope and message.body is None) else (key, message)


class Readable:
    """The records of a partition that can be read and are followed; the others are the parked topic's matter.

    `since_ms`: once all have been taken, the time from which on the log holds all, where retention has cut it; else 0.
    """

    def __init__(self, history: History, tp: TP, decoder: Decoder) -> None:
        self._history, self._tp, self._decoder = history, tp, decoder
        self.since_ms: float = 0

    def __iter__(self) -> Iterator[tuple[Entry, tuple[str, Any]]]:
        first_ms = math.inf
        for entry in self._history.records(self._tp):
            first_ms = min(first_ms, entry.time_ms)
            try:
                read = self._decoder.read(entry)
            except UndecodableRecord:
                continue
            if read is not None:
                yield entry, read
        if self._history.low(self._tp):
            self.since_ms = first_ms


class InboxDecoder(Decoder):
    """The command topic of an aggregate that asks others, or has unique values: replies stand there, too."""

    def __init__(self, registry: Registry, aggregate: Aggregate[Any, Any, Any]) -> None:
        super().__init__(registry, TopicKind.COMMAND.topic(aggregate.name), CommandMessage, aggregate.command)
        reply = Decoder(registry, TopicKind.REPLY.value, ReplyMessage, Acceptance | Rejected | Parked)
        self._inbox = Inbox(aggregate, super().value, reply.value)

    def value(self, data: bytes | None) -> Any:
        return self._inbox.decode(data)


def command_decoder(registry: Registry, aggregate: Aggregate[Any, Any, Any]) -> Decoder:
    """What reads the command topic of an aggregate."""
    if aggregate.asks or aggregate.unique:
        return InboxDecoder(registry, aggregate)
    return Decoder(registry, TopicKind.COMMAND.topic(aggregate.name), CommandMessage, aggregate.command)


def text_key(entry: Entry) -> str:
    """The key as text. Raises UndecodableRecord if there is none."""
    if not entry.key:
        raise UndecodableRecord("no key")
    try:
        return entry.key.decode()
    except UnicodeDecodeError as error:
        raise UndecodableRecord(f"the key is not text: {error}") from error


def _for_fastavro(schema: Schema, names: Names, done: set[str]) -> Schema:
    """Return a bound schema as fastavro takes it: logical types are there where the classes ask for their values."""
    schema = resolve(schema, names)
    if isinstance(schema, Converted):
        is_list = schema.conversion is LIST
        return _for_fastavro(schema.inner, names, done) if is_list else _once(schema.written, done)
    if isinstance(schema, list):
        return [_for_fastavro(branch, names, done) for branch in schema]
    if isinstance(schema, str):
        return schema
    if schema["type"] == "record":
        if schema["name"] in done:
            return schema["name"]
        done.add(schema["name"])
        types = [(field, _for_fastavro(field["type"], names, done)) for field in schema["fields"]]
        return {**schema, "fields": [field | {"type": type_} for field, type_ in types]}
    for inner in ("items", "values"):
        if inner in schema:
            return {**schema, inner: _for_fastavro(schema[inner], names, done)}
    return _once(without_logical_types(schema), done)


def _once(schema: Schema, done: set[str]) -> Schema:
    """Return a type, or its name if it has been defined further up."""
    if not isinstance(schema, dict) or "name" not in schema:
        return schema
    if schema["name"] in done:
        return schema["name"]
    done.add(schema["name"])
    return schema


def _duration(micros: int, *_: Any) -> timedelta:
    return timedelta(microseconds=micros)


LOGICAL_READERS["long-duration-micros"] = _duration


def _converter(schema: Schema, hint: Any, body: object, names: Names) -> Convert:
    """From what fastavro reads by `schema` to a value of `hint`."""
    schema, hint = resolve(schema, names), unwrapped(hint)
    if isinstance(schema, list):
        return _union(schema, hint, body, names)
    kind = schema["type"] if isinstance(schema, dict) else schema
    if kind == "record":
        return _record(schema, hint, body, names)
    if kind == "array":
        item, made = _converter(schema["items"], get_args(hint)[0], None, names), get_origin(hint)
        return lambda items: made([item(each) for each in items])
    if kind == "map":
        item = _converter(schema["values"], get_args(hint)[1], None, names)
        return lambda items: {key: item(each) for key, each in items.items()}
    if kind == "enum" and isinstance(hint, type) and issubclass(hint, Enum):
        return lambda name: hint[name]
    return lambda value: value


def _record(schema: dict[str, Any], cls: Any, body: object, names: Names) -> Convert:
    types = {field["name"]: field["type"] for field in schema["fields"]}
    fields = [(name, _converter(types[name], hint, None, names)) for name, hint in field_hints(cls, body).items()]
    return lambda record: cls(*[convert(record[name]) for name, convert in fields])


def _union(branches: list[Any], hint: Any, body: object, names: Names) -> Convert:
    """Records, enums and fixed values come from fastavro beside their names, all else as it is."""
    options = alternatives(hint)
    classes = {getattr(cls, "__name__", ""): cls for cls in options}
    named: dict[str, Convert | None] = {}
    plain: dict[type, Convert] = {}
    for branch in branches:
        target = resolve(branch, names)
        kind = target["type"] if isinstance(target, dict) else target
        if kind == "record":
            cls = classes.get(target["name"])
            named[target["name"]] = None if cls is None else _record(target, cls, body, names)
        elif kind == "enum":
            enum = next((each for each in options if _is_enum_of(each, target["symbols"])), str)
            named[target["name"]] = _converter(target, enum, None, names)
        elif kind in ("array", "map"):
            shapes = (tuple, list) if kind == "array" else (dict,)
            option = next((each for each in options if get_origin(each) in shapes), None)
            plain[list if kind == "array" else dict] = _converter(target, option, None, names)

    def convert(value: Any) -> Any:
        if type(value) is tuple:
            name, inner = value
            known = named.get(name.rpartition(".")[2], lambda value: value)
            return None if known is None else known(inner)
        special = plain.get(type(value))
        return value if special is None else special(value)

    return convert


def _is_enum_of(option: Any, symbols: list[str]) -> bool:
    """Return whether a type is an Enum of those names."""
    return isinstance(option, type) and issubclass(option, Enum) and {each.name for each in option} == {*symbols}
