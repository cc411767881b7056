"""Avro in the Confluent wire format: 0x00, schema id (four bytes, big-endian), Avro body.

The hot path is compiled per schema, for the extension if it is installed, otherwise to Python. Records encoded with an
older version are rewritten to the present one first; those that are only followed are read as they were written, if the
classes fit that. fastavro parses the schemas, and tests compare all this with it.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

from pipeline.adapters.avro.binding import Binding
from pipeline.adapters.avro.compile_decode import compile_decode
from pipeline.adapters.avro.compile_encode import compile_encode
from pipeline.adapters.avro.compile_native import compile_native, is_native
from pipeline.adapters.avro.conversions import UnknownSymbol, UnknownText
from pipeline.adapters.avro.explain import explanation
from pipeline.adapters.avro.fitting import Fit, fitting
from pipeline.adapters.avro.registry import Registry, Written
from pipeline.adapters.avro.schemas.own import has_kinds_to_come, own_schema
from pipeline.adapters.avro.served import NO_NAMES, open_registry
from pipeline.adapters.avro.wire.resolution import Resolution
from pipeline.adapters.avro.wire.rewriting import NotFollowed, Unreadable
from pipeline.engine.state.table import Strict
from pipeline.errors import EncodeError, NotKnownYet, SchemaError, UndecodableRecord
from pipeline.flow.functions.migrating import migrating
from pipeline.flow.functions.upcasting import as_given, upcasting
from pipeline.model import EventMessage, TopicKind
from pipeline.model.changes.upcasts import NONE, Upcasts, with_old

# Errors that compiled code may raise on bytes or values that do not fit; any other error is a bug and is not caught.
MISFITS = (IndexError, ValueError, TypeError, AttributeError, KeyError, struct.error, OverflowError)
WRITTEN_BACK = (TopicKind.STATE, TopicKind.ROW)  # each value of a key takes the place of the one before


class Codec:
    """Decodes and encodes the values of one topic as message classes.

    `encode(value)` returns the bytes of one record, `decode(data)` its value. `root`, `body`, `strict`: see Binding. A
    record without a class decodes to None, or to an envelope whose body is None. Raises UndecodableRecord,
    NotKnownYet, EncodeError. `native=False` does not use the extension. `fit`: see fitting.

    `upcasts`: of an event topic; what is decoded has none of the old events any more, see upcasting. They cannot be
    encoded. Of a topic of states the migrations, see migrating.
    """

    decode: Callable[[bytes | None], Any]
    encode: Callable[[Any], bytes]
    fit: Fit | None

    def __init__(
        self,
        registry: Registry,
        topic: str,
        root: object,
        body: object = None,
        *,
        strict: Strict = True,
        native: bool = True,
        upcasts: Upcasts = NONE,
    ) -> None:
        self.topic = topic
        today, body = body, with_old(body, upcasts)
        self._follows = strict is False
        present = own_schema(registry, topic, root, body) if self._follows else registry.current(topic, written=True)
        self.id, self._schema = present
        self._registry, self._root, self._body, self._native = registry, root, body, native
        self._binding = binding = Binding(topic, self._schema, root, body, strict=strict)
        self._foreign: dict[int, Callable[[bytes], Any]] = {}  # what decodes records of other schemas, by their id
        self.fit = fitting(binding, root, MISFITS, native=native)
        self.decode, self.encode = self._compiled(binding, self.id)
        self._decode_present = self.decode
        if upcasts:
            make = upcasting if root is EventMessage else migrating
            # A follower's classes may have fewer fields than the topic's records, so they fit no schema.
            fit = as_given if self._follows else fitting(binding, root, MISFITS, native=native, always=True)
            self._apply(make(topic, today, upcasts, fit), upcasts)

    def _apply(self, upcast: Callable[[Any], Any], upcasts: Upcasts) -> None:
        """Give events and states of today out only, and take in no others."""
        what, one = ("event", "an event") if self._root is EventMessage else ("state", "a state")
        decode, encode = self.decode, self.encode

        def encode_today(message: Any) -> bytes:
            if type(message.body) in upcasts:
                name = type(message.body).__name__
                raise EncodeError(f"{self.topic}: {name} is an old {what}, which is read only; give {one} of today")
            return encode(message)

        self.decode, self.encode = lambda data: upcast(decode(data)), encode_today

    def _compiled(self, binding: Binding, number: int) -> tuple[Callable[[bytes | None], Any], Callable[[Any], bytes]]:
        """Return what decodes and encodes records of the schema of that id."""
        header, undecodable = b"\0" + struct.pack(">I", number), partial(self._undecodable, number)
        if self._native:
            program = compile_native(binding, header, MISFITS, self._decode_foreign, undecodable, self._explained)
            if program is not None:
                return program.decode, program.encode
        read = compile_decode(binding)

        def decode(data: bytes | None) -> Any:
            if data is None or data[:5] != header:
                return self._decode_foreign(data)
            try:
                return read(data, 5)
            except MISFITS as error:
                raise undecodable(data, error) from error

        return decode, compile_encode(binding, header, MISFITS, self._explained)

    # --- records of other schemas -------------------------------------------------------------------------------------

    def _decode_foreign(self, data: bytes | None) -> Any:
        """Decode a record that does not begin with today's header."""
        if data is None:
            raise UndecodableRecord(f"no value on {self.topic}; each record there must have one")
        if len(data) < 5 or data[0] != 0:
            raise UndecodableRecord(
                f"not in the Confluent wire format, which starts with 0x00 and a schema id: {data[:8]!r}"
            )
        (number,) = struct.unpack_from(">I", data, 1)
        if number not in self._foreign:
            self._foreign[number] = self._reader_of(number)
        return self._foreign[number](data)

    def _reader_of(self, number: int) -> Callable[[bytes], Any]:
        """Return what decodes records of that schema: the classes as they are, if they fit it; else by rewriting."""
        schema = self._registry.written_with(number, self.topic)
        try:
            is_newer = not self._registry.is_released(number, self.topic)
            skips = self._follows and not has_kinds_to_come(self._registry, self.topic, number, schema)
            if skips:
                with suppress(SchemaError):
                    binding = Binding(self.topic, schema, self._root, self._body, strict=False)
                    if not binding.skips_inside:
                        return self._compiled(binding, number)[0]
            # What newer code has put into a state or a row is not for this code to drop.
            keeps = TopicKind.of(self.topic) in WRITTEN_BACK and is_newer
            unchecked = is_newer or self._follows
            resolution = Resolution(schema, self._schema, self.topic, skips=skips, unchecked=unchecked, keeps=keeps)
            return partial(self._rewritten, number, resolution)
        except SchemaError as error:
            raise UndecodableRecord(f"schema id {number} cannot be read as {self.topic}: {error}") from error

    def _rewritten(self, number: int, resolution: Resolution, data: bytes) -> Any:
        """Decode a record by way of today's schema; None if it is of a kind that is not followed."""
        try:
            rewritten = resolution.rewrite(data, 5)
        except NotFollowed:
            return None
        except MISFITS as error:
            why = f"schema id {number} cannot be read as {self.topic}: {error!s:.300}"
            raise self._told(number, why, error) from error
        try:
            return self._decode_present(b"\0" + struct.pack(">I", self.id) + rewritten)
        except UndecodableRecord as error:  # by whose schema it was written says whether newer code has to come
            cause = error.__cause__
            raise self._undecodable(number, data, cause if isinstance(cause, Exception) else error) from error

    def _undecodable(self, number: int, _: bytes | None, error: Exception) -> UndecodableRecord:
        return self._told(number, f"not a {self.topic} record of schema id {number}: {error}", error)

    def _told(self, number: int, why: str, error: Exception) -> UndecodableRecord:
        """Return the error for a record: whether newer code might read it."""
        is_released = self._registry.is_released(number, self.topic)
        if isinstance(error, (Unreadable, UnknownSymbol, UnknownText)) and not is_released:
            return NotKnownYet(f"{why}; start this service with code that has it", published=True)
        if isinstance(error, UnknownText):  # nothing says whether newer code or another's mistake has written it
            return NotKnownYet(f"{why}; start this service with code that has it", published=False)
        return UndecodableRecord(why)

    def _explained(self, value: Any, error: Exception) -> EncodeError:
        """Return an error that names the wrong field if it can be found, otherwise the value."""
        why = explanation(value, self._root, self._binding.schema, self._binding.names, error, self._body)
        return EncodeError(f"{self.topic}: {why}")


def implementation() -> str:
    """Return what encodes and decodes in this process: "native", or "python" if the extension is missing."""
    return "native" if is_native() else "python"


class CodecFactory:
    """Makes the codecs of a registry; called with Codec's arguments without the registry."""

    def __init__(self, registry: Registry) -> None:
        self.registry = registry
        self._topics: set[str] = set()  # those with codecs that may write

    def __call__(
        self,
        topic: str,
        root: object,
        body: object = None,
        *,
        strict: Strict = True,
        native: bool = True,
        upcasts: Upcasts = NONE,
    ) -> Codec:
        codec = Codec(self.registry, topic, root, body, strict=strict, native=native, upcasts=upcasts)
        if strict:
            self._topics.add(topic)
        return codec

    def written(self) -> list[Written]:
        """Return the schemas of all that was and may be written by its codecs."""
        return self.registry.versions(t for t in self._topics if TopicKind.of(t) is not TopicKind.REPLICA)


def codecs(schemas: Path) -> CodecFactory:
    """Return the factory of codecs for a schema directory."""
    return CodecFactory(Registry(schemas))


def served_codecs(schemas: Path, names: Mapping[str, str] = NO_NAMES, *, registers: bool = False) -> CodecFactory:
    """Return the same with the ids of the schema registry in use, if there is one; see `open_registry`."""
    return CodecFactory(open_registry(schemas, names, registers=registers))
