"""Avro in the Confluent wire format: 0x00, schema id (four bytes, big-endian), Avro body.

The hot path is compiled per schema, for the extension if it is installed, otherwise to Python. Records encoded with an
older version are rewritten to the present one first. fastavro parses the schemas, and tests compare all this with it.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from pipeline.adapters.avro.binding import Binding
from pipeline.adapters.avro.compile_decode import compile_decode
from pipeline.adapters.avro.compile_encode import compile_encode
from pipeline.adapters.avro.compile_native import compile_native, is_native
from pipeline.adapters.avro.explain import explanation
from pipeline.adapters.avro.fitting import Fit, fitting
from pipeline.adapters.avro.registry import Registry
from pipeline.adapters.avro.wire.resolution import Resolution
from pipeline.engine.state.table import Strict
from pipeline.errors import EncodeError, UndecodableRecord
from pipeline.flow.functions.migrating import migrating
from pipeline.flow.functions.upcasting import upcasting
from pipeline.model import EventMessage
from pipeline.model.changes.upcasts import NONE, Upcasts, with_old

# Errors that compiled code may raise on bytes or values that do not fit; any other error is a bug and is not caught.
MISFITS = (IndexError, ValueError, TypeError, AttributeError, KeyError, struct.error, OverflowError)


class Codec:
    """Decodes and encodes the values of one topic as message classes.

    `encode(value)` returns the bytes of one record, `decode(data)` its value. `root`, `body`, `strict`: see Binding. A
    record without a class decodes to None, or to an envelope whose body is None. Raises UndecodableRecord and
    EncodeError. `native=False` does not use the extension. `fit`: see fitting.

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
        self.id, self._schema = registry.current(topic)
        self._registry, self._root = registry, root
        self._body, body = body, with_old(body, upcasts)
        self._header = b"\0" + struct.pack(">I", self.id)
        self._binding = binding = Binding(topic, self._schema, root, body, strict=strict)
        self._older: dict[int, Resolution] = {}  # by schema id
        self.fit = fitting(binding, root, MISFITS, native=native)
        program = None
        if native:
            program = compile_native(
                binding, self._header, MISFITS, self._decode_foreign, self._undecodable, self._explained
            )
        if program is not None:
            self.decode, self.encode = program.decode, program.encode
        else:
            self._read = compile_decode(binding)
            self.decode = self._decode_generated
            self.encode = compile_encode(binding, self._header, MISFITS, self._explained)
        self._decode_present = self.decode
        if upcasts:
            make = upcasting if root is EventMessage else migrating
            self._apply(make(topic, self._body, upcasts), upcasts)

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

    def _decode_generated(self, data: bytes | None) -> Any:
        try:
            if data is None or data[:5] != self._header:
                data = self._rewritten(data)
            return self._read(data, 5)
        except MISFITS as error:
            raise self._undecodable(data, error) from error

    def _decode_foreign(self, data: bytes | None) -> Any:
        """Decode a record that does not begin with today's header."""
        try:
            rewritten = self._rewritten(data)
        except MISFITS as error:
            raise self._undecodable(data, error) from error
        return self._decode_present(rewritten)

    def _rewritten(self, data: bytes | None) -> bytes:
        """Return the record re-encoded with today's schema."""
        if data is None:
            raise UndecodableRecord(f"no value on {self.topic}; each record there must have one")
        if len(data) < 5 or data[0] != 0:
            raise UndecodableRecord(
                f"not in the Confluent wire format, which starts with 0x00 and a schema id: {data[:8]!r}"
            )
        (schema_id,) = struct.unpack_from(">I", data, 1)
        if schema_id not in self._older:
            schema = self._registry.written_with(schema_id, self.topic)
            self._older[schema_id] = Resolution(schema, self._schema, self.topic)
        try:
            return self._header + self._older[schema_id].rewrite(data, 5)
        except MISFITS as error:
            raise UndecodableRecord(f"schema id {schema_id} cannot be read as {self.topic}: {error!s:.300}") from error

    def _undecodable(self, _: bytes | None, error: Exception) -> UndecodableRecord:
        return UndecodableRecord(f"not a {self.topic} record of schema id {self.id}: {error}")

    def _explained(self, value: Any, error: Exception) -> EncodeError:
        """Return an error that names the wrong field if it can be found, otherwise the value."""
        why = explanation(value, self._root, self._binding.schema, self._binding.names, error, self._body)
        return EncodeError(f"{self.topic}: {why}")


def implementation() -> str:
    """Return what encodes and decodes in this process: "native", or "python" if the extension is missing."""
    return "native" if is_native() else "python"


def codecs(schemas: Path) -> Callable[..., Codec]:
    """Return the factory of codecs for a schema directory; its arguments are Codec's without the registry."""
    return partial(Codec, Registry(schemas))
