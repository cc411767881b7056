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
from pipeline.model import CommandMessage, EventMessage, StateMessage
from pipeline.runtime.wiring import Codecs


def _command(record: Any) -> CommandMessage:
    return CommandMessage(record.command_id, record.command_id, None, record.ts, record)


def _event(record: Any) -> EventMessage:
    return EventMessage(record.version, record.command_id, record.command_id, record.ts, record)


def _state(record: Any) -> StateMessage:
    return StateMessage(record.version, 0, record)


MESSAGES: dict[object, Callable[[Any], Any]] = {CommandMessage: _command, EventMessage: _event, StateMessage: _state}


class BareCodec:
    """A codec of a topic whose records are the bodies alone; see Codec for the arguments and errors."""

    decode: Callable[[bytes | None], Any]
    encode: Callable[[Any], bytes]

    def __init__(self, registry: Registry, topic: str, root: object, body: object, *, strict: bool) -> None:
        message = MESSAGES[root]
        codec = Codec(registry, topic, body, strict=strict)
        read, write = codec.decode, codec.encode
        self.decode = lambda data: message(read(data))
        self.encode = lambda value: write(value.body)


def bare_codecs(schemas: Path) -> Codecs:
    """What makes the codecs of a schema directory, for `Adapters.codecs`."""
    registry = Registry(schemas)

    def make(topic: str, root: object, body: object = None, *, strict: bool = True) -> BareCodec:
        return BareCodec(registry, topic, root, body, strict=strict)

    return make
