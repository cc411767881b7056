"""Reads records with fastavro, the contract, instead of the compiled code that the engine reads them with.

Only what turns a record of an older schema into one of the present is shared with the engine: fastavro does not keep to
Avro's rules there (defaults of bytes, branches of unions); tests hold it to a second wording of them.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Callable, Iterator
from io import BytesIO
from typing import Any, get_args, get_origin

from fastavro import parse_schema, schemaless_reader

from pipeline.adapters.avro.binding import (
    Names,
    alternatives,
    field_hints,
    named_types,
    resolve,
    with_read,
    without_logical_types,
)
from pipeline.adapters.avro.registry import Registry, Schema
from pipeline.adapters.avro.wire.resolution import Resolution
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
        self._current, self._present = registry.current(topic)
        schema = with_read(without_logical_types(self._present), root)
        self._schema = parse_schema(schema)
        self._older: dict[int, Resolution] = {}  # by schema id
        self._convert = _converter(schema, root, body, named_types(schema))

    def value(self, data: bytes | None) -> Any:
        """The value of one record."""
        if data is None or len(data) < 5 or data[0] != 0:
            raise UndecodableRecord(f"not in the Confluent wire format: {data!r:.40}")
        (schema_id,) = struct.unpack_from(">I", data, 1)
        try:
            encoded = data[5:] if schema_id == self._current else self._resolution(schema_id).rewrite(data, 5)
            body = BytesIO(encoded)
            read = schemaless_reader(body, self._schema, None, return_record_name=True)
            message = self._convert(read)
        except UndecodableRecord:
            raise
        except Exception as error:  # fastavro raises whatever the bytes lead it to
            raise UndecodableRecord(f"cannot be read as {self.topic}: {error!r:.200}") from error
        if body.tell() != len(encoded):
            raise UndecodableRecord("the record does not end where its schema says")
        return message

    def _resolution(self, schema_id: int) -> Resolution:
        if schema_id not in self._older:
            known = self._registry.written_with(schema_id)
            if known is None or known[0] != self.topic:
                raise UndecodableRecord(f"schema id {schema_id} is none of {self.topic}")
            self._older[schema_id] = Resolution(known[1], self._present, self.topic)
        return self._older[schema_id]

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


def _converter(schema: Schema, hint: Any, body: object, names: Names) -> Convert:
    """From what fastavro reads by `schema` to a value of `hint`."""
    schema = resolve(schema, names)
    if isinstance(schema, list):
        return _union(schema, hint, body, names)
    kind = schema["type"] if isinstance(schema, dict) else schema
    if kind == "record":
        return _record(schema, hint, body, names)
    if kind == "array":
        item = _converter(schema["items"], get_args(hint)[0], None, names)
        return lambda items: tuple([item(each) for each in items])
    if kind == "map":
        item = _converter(schema["values"], get_args(hint)[1], None, names)
        return lambda items: {key: item(each) for key, each in items.items()}
    return lambda value: value


def _record(schema: dict[str, Any], cls: Any, body: object, names: Names) -> Convert:
    types = {field["name"]: field["type"] for field in schema["fields"]}
    fields = [(name, _converter(types[name], hint, None, names)) for name, hint in field_hints(cls, body).items()]
    return lambda record: cls(*[convert(record[name]) for name, convert in fields])


def _union(branches: list[Any], hint: Any, body: object, names: Names) -> Convert:
    """Records come from fastavro beside their names, all else as it is."""
    classes = {getattr(cls, "__name__", ""): cls for cls in alternatives(hint)}
    records: dict[str, Convert] = {}
    plain: dict[type, Convert] = {}
    for branch in branches:
        target = resolve(branch, names)
        kind = target["type"] if isinstance(target, dict) else target
        if kind == "record" and target["name"] in classes:
            records[target["name"]] = _record(target, classes[target["name"]], body, names)
        elif kind in ("array", "map"):
            shape = tuple if kind == "array" else dict
            option = next((each for each in alternatives(hint) if get_origin(each) is shape), None)
            plain[list if kind == "array" else dict] = _converter(target, option, None, names)

    def convert(value: Any) -> Any:
        if type(value) is tuple:
            name, record = value
            known = records.get(name.rpartition(".")[2])
            return None if known is None else known(record)
        special = plain.get(type(value))
        return value if special is None else special(value)

    return convert
