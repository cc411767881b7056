"""The adapter between the engine's records and those of the side-by-side contract, which know no envelope.

The engine writes an author's value inside a record of its own, with the metadata that it adds. The contract has no room
for that: a topic's record is the value. What the engine needs of a command it finds in the command itself; its own
version, time and correlation of an event are not written, and a state's version is that of the account.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from pipeline.adapters.avro.codec import Codec
from pipeline.adapters.avro.registry import Registry
from pipeline.engine.state.table import Codecs, RowCodec, Strict
from pipeline.model import CommandMessage, EventMessage, StateMessage

# The contract names no time of issue to judge by whether a command comes too late; one with a cause is not judged.
CAUSE = "contract"

new = tuple.__new__  # what a named tuple's own constructor does, in half the time


def _commands(read: Callable[[bytes | None], Any]) -> Callable[[bytes | None], CommandMessage]:
    def decode(data: bytes | None) -> CommandMessage:
        record = read(data)
        command_id = record.command_id
        return new(CommandMessage, (command_id, command_id, CAUSE, record.ts, record, None, None, None))

    return decode


def _events(read: Callable[[bytes | None], Any]) -> Callable[[bytes | None], EventMessage]:
    def decode(data: bytes | None) -> EventMessage:
        record = read(data)
        return EventMessage(record.version, record.command_id, record.command_id, record.ts, record)

    return decode


def _states(read: Callable[[bytes | None], Any]) -> Callable[[bytes | None], StateMessage]:
    def decode(data: bytes | None) -> StateMessage:
        record = read(data)
        return StateMessage(record.version, 0, record)

    return decode


READERS: dict[object, Callable[..., Any]] = {CommandMessage: _commands, EventMessage: _events, StateMessage: _states}


class BareCodec:
    """A codec of a topic whose records are the bodies alone; see Codec for the arguments and errors."""

    decode: Callable[[bytes | None], Any]
    encode: Callable[[Any], bytes]

    def __init__(self, registry: Registry, topic: str, root: object, body: object, *, strict: Strict) -> None:
        codec = Codec(registry, topic, body, strict=strict)
        write = codec.encode
        self.decode = READERS[root](codec.decode)
        self.encode = lambda value: write(value.body)
        self.fit = codec.fit


def bare_codecs(schemas: Path) -> Codecs:
    """What makes the codecs of a schema directory, for `Adapters.codecs`."""
    registry = Registry(schemas)

    def make(topic: str, root: object, body: object = None, *, strict: Strict = True, **_: object) -> RowCodec:
        if root not in READERS:  # the engine's own
            return Codec(registry, topic, root, body, strict=strict)
        return BareCodec(registry, topic, root, body, strict=strict)

    return make
