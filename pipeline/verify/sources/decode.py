"""Reads records with fastavro, the contract, instead of the compiled code that the engine reads them with.

Three things are shared with the engine. What turns a record of an older schema into one of the present: fastavro does
not keep to Avro's rules there (defaults of bytes, branches of unions); tests hold it to a second wording of them. What
makes decimals, times and ids of the values that Avro has for them; tests compare that with fastavro. And how deep a
record may be nested, which fastavro does not ask before it has used up the stack.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Callable, Iterator
from functools import partial
from io import BytesIO
from typing import Any, NamedTuple, get_args, get_origin

from fastavro import parse_schema, schemaless_reader
from fastavro.read import LOGICAL_READERS

from pipeline.adapters.avro.binding import (
    MAKE,
    Binding,
    Names,
    alternatives_for,
    definition,
    field_hints,
    named_types,
    recursive_records,
    resolve,
    unwrapped,
    with_read,
)
from pipeline.adapters.avro.compile_decode import compile_decode
from pipeline.adapters.avro.conversions import CONVERSIONS, conversion_for, is_converted
from pipeline.adapters.avro.registry import Registry, Schema
from pipeline.adapters.avro.schemas.own import has_kinds_to_come, own_schema
from pipeline.adapters.avro.wire.resolution import Resolution
from pipeline.adapters.avro.wire.rewriting import NotFollowed
from pipeline.engine.ports import TP
from pipeline.errors import SchemaError, UndecodableRecord, UpcastFailed
from pipeline.flow import Inbox
from pipeline.flow.functions.migrating import migrating
from pipeline.flow.functions.upcasting import upcasting
from pipeline.model import (
    Acceptance,
    Aggregate,
    CommandMessage,
    EventMessage,
    Parked,
    Rejected,
    ReplyMessage,
    Source,
    StateMessage,
    TopicKind,
    is_barrier,
)
from pipeline.model.changes.upcasts import NONE, Upcasts, with_old
from pipeline.model.fields import alternatives
from pipeline.verify.sources.history import Entry, History

Convert = Callable[[Any], Any]
Read = Callable[[bytes], Any]
TAG = "tagged-"
RAW_TYPES = {  # of what fastavro reads
    "null": type(None),
    "boolean": bool,
    "int": int,
    "long": int,
    "float": float,
    "double": float,
    "string": str,
    "bytes": bytes,
    "array": list,
    "map": dict,
}


class Tagged(NamedTuple):
    """A value as it is written, beside the logical type that it has: fastavro says no other way what it has read."""

    logical_type: str
    value: Any


for needs, _ in CONVERSIONS.values():
    for avro, logical_type in needs:
        LOGICAL_READERS[f"{avro}-{TAG}{logical_type}"] = partial(
            lambda logical_type, value, *_: Tagged(logical_type, value), logical_type
        )


class Decoder:
    """Turns the records of one topic into message classes; `root` and `body` as in adapters.avro.Codec.

    A record without a class becomes None, or an envelope whose body is None. Raises UndecodableRecord. `upcasts`: of an
    event topic; the functions are the author's, and so are the same as the engine's.
    """

    def __init__(
        self,
        registry: Registry,
        topic: str,
        root: object,
        body: object = None,
        upcasts: Upcasts = NONE,
        *,
        follows: bool = False,
    ) -> None:
        """`follows`: whether it is another's topic, whose schemas are read as the codec of a follower reads them."""
        self.topic, self.envelope, self._follows = topic, body is not None, follows
        self._registry, self._root, self._body = registry, root, with_old(body, upcasts)
        self._current, self._present = (own_schema if follows else _registered)(registry, topic, root, self._body)
        self._plain = self._by(self._present)
        self._readers: dict[int, Read] = {self._current: lambda data: self._plain(data[5:])}  # by schema id
        make = upcasting if root is EventMessage else migrating
        self._upcast: Convert | None = make(topic, body, upcasts) if upcasts else None

    def value(self, data: bytes | None) -> Any:
        """The value of one record; None if it is of a kind that is not followed."""
        if data is None or len(data) < 5 or data[0] != 0:
            raise UndecodableRecord(f"not in the Confluent wire format: {data!r:.40}")
        (schema_id,) = struct.unpack_from(">I", data, 1)
        if schema_id not in self._readers:
            self._readers[schema_id] = self._reader(schema_id)
        message = self._readers[schema_id](data)
        try:
            return message if self._upcast is None else self._upcast(message)
        except UpcastFailed as error:  # of a migration
            raise UndecodableRecord(str(error)) from error

    def _reader(self, schema_id: int) -> Read:
        """What reads records of another schema."""
        schema = self._registry.written_with(schema_id, self.topic)
        skips = self._follows and not has_kinds_to_come(self._registry, self.topic, schema_id, schema)
        unchecked = self._follows or not self._registry.is_released(schema_id, self.topic)
        if skips:
            try:
                fits = not Binding(self.topic, schema, self._root, self._body, strict=False).skips_inside
            except SchemaError:
                fits = False
            if fits:
                by_writers = self._by(schema)
                return lambda data: by_writers(data[5:])
        resolution = Resolution(schema, self._present, self.topic, skips=skips, unchecked=unchecked)

        def read(data: bytes) -> Any:
            try:
                rewritten = resolution.rewrite(data, 5)
            except NotFollowed:
                return None
            except Exception as error:
                raise UndecodableRecord(f"cannot be read as {self.topic}: {error!r:.200}") from error
            return self._plain(rewritten)

        return read

    def _by(self, written: Schema) -> Read:
        """What makes messages of bytes without header that were written with a schema."""
        schema = with_read(written, self._root)
        parsed = parse_schema(tagged(schema))
        names = named_types(schema)
        convert = _converter(schema, self._root, self._body, _Scope(names, {}))
        walk = None
        if recursive_records(schema, names):
            walk = compile_decode(Binding(self.topic, written, self._root, self._body, strict=False))

        def read(encoded: bytes) -> Any:
            source = BytesIO(encoded)
            try:
                if walk is not None:
                    walk(encoded, 0)
                message = convert(schemaless_reader(source, parsed, None, return_named_type=True))
            except Exception as error:  # fastavro raises whatever the bytes lead it to
                raise UndecodableRecord(f"cannot be read as {self.topic}: {error!r:.200}") from error
            if source.tell() != len(encoded):
                raise UndecodableRecord("the record does not end where its schema says")
            return message

        return read

    def read(self, entry: Entry) -> tuple[str, Any] | None:
        """Key and message; None for a barrier, or a kind of record without a class. Raises UndecodableRecord."""
        if is_barrier(entry.value, entry.headers):
            return None
        message = self.value(entry.value)
        key = text_key(entry)
        return None if message is None or (self.envelope and message.body is None) else (key, message)


def state_decoder(registry: Registry, aggregate: Aggregate[Any, Any, Any]) -> Decoder:
    """Return what reads the states of an aggregate."""
    return Decoder(registry, aggregate.states, StateMessage, type(aggregate.initial), aggregate.migrate)


def event_decoder(registry: Registry, source: Source, *, follows: bool) -> Decoder:
    """Return what reads an event topic as its follower declares it, or its owner."""
    return Decoder(registry, source.topic, EventMessage, source.event, source.upcasts, follows=follows)


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


def _registered(registry: Registry, topic: str, *_: object) -> tuple[int, Schema]:
    return registry.current(topic)


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


def tagged(schema: Schema) -> Schema:
    """Return the schema for fastavro, which then gives values as they are written, and Tagged if classes may ask it."""
    if isinstance(schema, list):
        return [tagged(branch) for branch in schema]
    if not isinstance(schema, dict):
        return schema
    tag = f"{TAG}{schema.get('logicalType')}"
    kept = {name: tagged(part) for name, part in schema.items() if name != "logicalType"}
    return kept | ({"logicalType": tag} if f"{schema.get('type')}-{tag}" in LOGICAL_READERS else {})


def _raw(value: Any) -> Any:
    return value.value if type(value) is Tagged else value


class _Scope(NamedTuple):
    """The types of a schema by name, and the fields of its records in each class, with what converts them."""

    names: Names
    records: dict[tuple[str, Any], list[tuple[str, Convert]]]


def _converter(written: Schema, hint: Any, body: object, scope: _Scope) -> Convert:
    """From what fastavro reads by a schema to a value of `hint`."""
    schema, hint = resolve(written, scope.names), unwrapped(hint)
    if isinstance(schema, list):
        return _union(schema, hint, body, scope)
    kind = schema["type"] if isinstance(schema, dict) else schema
    if kind == "record":
        return _record(schema, hint, body, scope)
    if is_converted(hint):
        convert = conversion_for(hint, definition(written, scope.names), follows=True).from_avro
        return lambda value: convert(_raw(value))
    if kind == "array":
        item, make = _converter(schema["items"], get_args(hint)[0], None, scope), get_origin(hint) or tuple
        return lambda items: make([item(each) for each in items])
    if kind == "map":
        item = _converter(schema["values"], get_args(hint)[1], None, scope)
        return lambda items: {key: item(each) for key, each in items.items()}
    return _raw


def _record(schema: dict[str, Any], cls: Any, body: object, scope: _Scope) -> Convert:
    if (known := scope.records.get((schema["name"], cls))) is None:
        known = scope.records[schema["name"], cls] = []  # here, as a field may contain such a record
        types = {field["name"]: field["type"] for field in schema["fields"]}
        hints = field_hints(cls, body)
        if missing := sorted(hints.keys() - types.keys()):
            why = f"record {schema['name']!r} has no field {', '.join(missing)}, which its class has"
            raise SchemaError(f"{why}; bring the schemas up to date with: {MAKE}")
        known += [(name, _converter(types[name], hint, None, scope)) for name, hint in hints.items()]
    return lambda record: cls(*[convert(record[name]) for name, convert in known])


def _union(branches: list[Any], hint: Any, body: object, scope: _Scope) -> Convert:
    """Named types come from fastavro beside their names, all else as it is, or Tagged."""
    options = list(alternatives(hint))
    records = {target["name"] for each in branches if (target := definition(each, scope.names)) and _is_record(target)}
    by_name: dict[str, Convert] = {}
    by_kind: dict[Any, Convert] = {}
    for branch in branches:
        if not (chosen := alternatives_for(branch, options, scope.names, follows=True)):
            continue
        options.remove(chosen[0])
        target, described = resolve(branch, scope.names), definition(branch, scope.names)
        made = _converter(branch, chosen[0], body if _is_record(target) else None, scope)
        if isinstance(target, dict) and "name" in target:
            by_name[target["name"]] = made
        else:
            logical = described.get("logicalType") if isinstance(described, dict) else None
            kind = target["type"] if isinstance(target, dict) else target
            by_kind[logical if f"{kind}-{TAG}{logical}" in LOGICAL_READERS else RAW_TYPES[kind]] = made

    def convert(value: Any) -> Any:
        if type(value) is tuple:
            name, inner = value
            name = name.rpartition(".")[2]
            known = by_name.get(name)
            return known(inner) if known else None if name in records else _raw(inner)
        known = by_kind.get(value.logical_type if type(value) is Tagged else type(value))
        return known(value) if known else _raw(value)

    return convert


def _is_record(target: Schema) -> bool:
    return isinstance(target, dict) and target["type"] == "record"
