"""Checks and encodes the commands of a topology, from objects or JSON. No I/O except for the schemas."""

from __future__ import annotations

import itertools
import time
import uuid
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import fields
from datetime import UTC, datetime
from typing import Any, NamedTuple

from pipeline.adapters.avro.codec import served_codecs
from pipeline.adapters.json.form import TYPE, VALUE, is_wrapped
from pipeline.adapters.json.reading import from_json, read_back
from pipeline.adapters.json.writing import to_json
from pipeline.client.wire.outcome import Accepted, Decode, Outcome
from pipeline.engine.tracing.port import Span
from pipeline.errors import InvalidCommand, UnfitValue, UnknownAggregate
from pipeline.model import Acceptance, CommandMessage, EventMessage, Parked, Rejected, ReplyMessage, Token, TopicKind
from pipeline.model.deadline import AFTER_S_MAX, TIME_MS_MAX
from pipeline.model.fields import alternatives
from pipeline.model.records.keys import KEY_BYTES_MAX, no_text
from pipeline.topology import Topology

ID_BYTES_MAX = 256
RECORD_BYTES_MAX = 1_000_000  # what librdkafka and brokers take unless they are told otherwise
RECORD_ROOM = 256  # of these, for the record's frame and for the address of a reply


class Kind(NamedTuple):
    """An aggregate as senders of commands see it."""

    topic: str  # its name on the cluster
    encode: Callable[[Any], bytes]
    decode: Decode
    types: Mapping[str, type]  # the command classes, by name
    event: object  # the classes of its events
    deadlines: bool  # whether it takes scheduled commands


class Ready(NamedTuple):
    """A command, checked and encoded."""

    id: str
    aggregate: str
    topic: str  # its name on the cluster
    key: bytes
    value: bytes
    issued_ms: int
    due_ms: int | None = None
    correlation_id: str = ""
    traceparent: bytes | None = None  # a header of the record; None: it belongs to no trace
    span: Span | None = None  # of its sending, which ends when it is stored


class Commands:
    """Encodes commands of a topology's aggregates, and decodes replies to them."""

    def __init__(self, topology: Topology) -> None:
        write = served_codecs(topology.schemas, topology.names, registers=True)
        read = served_codecs(topology.schemas, topology.names)
        self.registry = read.registry
        self._mine, self._numbers = f"{uuid.uuid4()}.", itertools.count(1)  # a random prefix and a number: command ids
        self.mark = ""  # of a restored cluster: see model.records.token.marked
        self.kinds: dict[str, Kind] = {}
        self.events: dict[str, Decode] = {}
        for service in topology.services.values():
            for aggregate in service.addressed:
                topic = TopicKind.COMMAND.topic(aggregate.name)
                codec = write(topic, CommandMessage, aggregate.command)
                types = {cls.__name__: cls for cls in alternatives(aggregate.command)}
                name = topology.names.get(topic, topic)
                self.kinds[aggregate.name] = Kind(
                    name, codec.encode, codec.decode, types, aggregate.event, aggregate.deadlines
                )
                self.events[aggregate.name] = read(
                    TopicKind.EVENT.topic(aggregate.name), EventMessage, aggregate.event, upcasts=aggregate.upcasts
                ).decode
        topics = [TopicKind.COMMAND.topic(name) for name in self.kinds]
        self.written = write.registry.versions(topics)  # what its commands are, and were, written with
        self.reply = read(TopicKind.REPLY.value, ReplyMessage, Acceptance | Rejected | Parked).decode

    def kind(self, aggregate: str) -> Kind:
        """Return what is known of an aggregate. Raises UnknownAggregate."""
        if not isinstance(aggregate, str) or aggregate not in self.kinds:
            raise UnknownAggregate(f"no aggregate {aggregate!r}; there are {', '.join(sorted(self.kinds))}")
        return self.kinds[aggregate]

    def from_json(self, aggregate: str, name: str, values: Any) -> Any:
        """Return the command of class `name` with these fields from JSON. Raises InvalidCommand."""
        types = self.kind(aggregate).types
        if not isinstance(name, str) or name not in types:
            raise InvalidCommand(f"{aggregate!r} takes no command {name!r}; it takes {', '.join(types)}")
        return from_json(types[name], values, name)

    def from_tagged_json(self, aggregate: str, body: Any) -> Any:
        """Return the command that `body` names as its `type`, with its other fields. Raises InvalidCommand."""
        if not isinstance(body, dict) or not isinstance(body.get(TYPE), str):
            raise InvalidCommand("the body must be an object with the command's fields and its name as `type`")
        cls = self.kind(aggregate).types.get(body[TYPE])
        fields = {name: value for name, value in body.items() if name != TYPE}
        if cls is not None and is_wrapped(cls):
            if fields.keys() != {VALUE}:
                raise InvalidCommand(f"{cls.__name__} has a field `type` of its own: give its fields in `value`")
            fields = fields[VALUE]
        return self.from_json(aggregate, body[TYPE], fields)

    def outcome_from_json(self, aggregate: str, data: dict[str, Any]) -> Outcome:
        """Return the outcome in a worker's response; the reverse of `outcome_json`. The worker's code may be newer."""
        if data["outcome"] == "rejected":
            return Rejected(data["reason"], data["details"])
        told, event, known = data["events"], self.kind(aggregate).event, []
        for each in told:
            with suppress(UnfitValue):
                known.append(read_back(event, each, "event", tagged=True))
        complete = data["complete"] and len(known) == len(told)
        return Accepted(data["version"], tuple(known), Token(data["position"]), complete)

    def write(
        self,
        aggregate: str,
        key: str,
        command: Any,
        *,
        command_id: str = "",
        issued_ms: int | None = None,
        correlation_id: str = "",
        expected_version: int | None = None,
        reply_to: str | None = None,
        at: datetime | int | None = None,
        after: float | None = None,
    ) -> Ready:
        """Check a command against its schema and encode it. Raises UnknownAggregate, InvalidCommand, EncodeError."""
        topic, encode, _, types, *_ = self.kind(aggregate)
        known = types.get(type(command).__name__, type(command))
        if type(command) is not known:
            raise InvalidCommand(
                f"{aggregate!r} takes the class {known.__module__}.{known.__qualname__}, not one of that name in "
                f"{type(command).__module__}; load the topology by the package or module that you import the class from"
            )
        key_bytes = _checked(key, "the key", KEY_BYTES_MAX)
        if command_id:
            _checked(command_id, "the command's id", ID_BYTES_MAX)
        else:
            command_id = f"{self._mine}{next(self._numbers)}"
        if correlation_id:
            _checked(correlation_id, "the correlation id", ID_BYTES_MAX)
        else:
            correlation_id = command_id
        if issued_ms is None:
            issued_ms = time.time_ns() // 1_000_000
        due_ms = None
        if at is not None or after is not None:
            due_ms = _due_ms(at, after)
            if not self.kinds[aggregate].deadlines:
                raise InvalidCommand(f"{aggregate!r} takes no scheduled commands; it is declared with deadlines=False")
        message = CommandMessage(
            command_id, correlation_id, None, issued_ms, command, expected_version, reply_to, due_ms
        )
        value = encode(message)
        if len(value) + len(key_bytes) > (most := RECORD_BYTES_MAX - RECORD_ROOM):
            raise InvalidCommand(
                f"the command takes {len(value):,} bytes, and with its key may take {most:,}; split it"
            )
        return Ready(command_id, aggregate, topic, key_bytes, value, issued_ms, due_ms, correlation_id)


def outcome_json(outcome: Outcome) -> dict[str, Any]:
    """Return an outcome as HTTP and the command line show it."""
    if isinstance(outcome, Rejected):
        return {"outcome": "rejected", "reason": outcome.reason, "details": outcome.details}
    told = {field.name: to_json(getattr(outcome, field.name), tagged=True) for field in fields(outcome)}
    return {"outcome": "accepted", **told}


def _due_ms(at: datetime | int | None, after: float | None) -> int:
    """Return when a scheduled command is due, in milliseconds since the epoch. Raises InvalidCommand."""
    if at is not None and after is not None:
        raise InvalidCommand("give at or after, not both")
    if isinstance(at, datetime):
        at = int((at if at.tzinfo else at.replace(tzinfo=UTC)).timestamp() * 1000)
    elif isinstance(after, int | float) and 0 <= after <= AFTER_S_MAX:
        at = time.time_ns() // 1_000_000 + round(1000 * after)
    if type(at) is not int or not 0 <= at <= TIME_MS_MAX:
        given = f"after {after!r:.100} seconds" if after is not None else f"at {at!r:.100}"
        raise InvalidCommand(f"{given} is not a valid time; give a time before the year 10000, or seconds from now")
    return at


def _checked(text: str, what: str, bytes_max: int) -> bytes:
    if not isinstance(text, str):
        raise InvalidCommand(f"{what} must be text, not {no_text(text)}")
    try:
        data = text.encode()
    except UnicodeEncodeError as error:
        raise InvalidCommand(f"{what} must be text that UTF-8 can hold: {error}") from None
    if not 0 < len(data) <= bytes_max:
        raise InvalidCommand(f"{what} has {len(data)} bytes; give 1 to {bytes_max}")
    return data
