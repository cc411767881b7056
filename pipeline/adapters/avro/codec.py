"""Avro in the Confluent wire format: 0x00, schema id (four bytes, big-endian), Avro body.

The hot path is compiled per schema, for the extension where that is there, else to Python; fastavro parses the schemas,
resolves records that were written with an older version, and is what the tests hold the compiled code to.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from functools import partial
from io import BytesIO
from pathlib import Path
from typing import Any

from fastavro import parse_schema, schemaless_reader, schemaless_writer

from pipeline.adapters.avro.binding import Binding
from pipeline.adapters.avro.compile_decode import compile_decode
from pipeline.adapters.avro.compile_encode import compile_encode
from pipeline.adapters.avro.compile_native import compile_native, is_native
from pipeline.adapters.avro.explain import misfit
from pipeline.adapters.avro.registry import Registry
from pipeline.engine.state.table import Strict
from pipeline.errors import EncodeError, UndecodableRecord

# What compiled code may raise on bytes or values that do not fit; anything else is a bug and stays one.
MISFITS = (IndexError, ValueError, TypeError, AttributeError, KeyError, struct.error, OverflowError)


class Codec:
    """Reads and writes the values of one topic as message classes.

    `encode(value)` gives the bytes of one record, `decode(data)` its value. `root`, `body`, `strict`: see Binding. A
    record without a class decodes to None, or to an envelope whose body is None. Raises UndecodableRecord and
    EncodeError. `native=False` does without the extension.
    """

    decode: Callable[[bytes | None], Any]
    encode: Callable[[Any], bytes]

    def __init__(
        self,
        registry: Registry,
        topic: str,
        root: object,
        body: object = None,
        *,
        strict: Strict = True,
        native: bool = True,
    ) -> None:
        self.topic = topic
        self.id, self._schema = registry.current(topic)
        self._registry, self._root, self._body = registry, root, body
        self._header = b"\0" + struct.pack(">I", self.id)
        binding = Binding(topic, self._schema, root, body, strict=strict)
        self._names = binding.names
        self._parsed: dict[int, Any] = {self.id: parse_schema(self._schema)}
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

    def _decode_generated(self, data: bytes | None) -> Any:
        try:
            if data is None or data[:5] != self._header:
                data = self._rewritten(data)
            return self._read(data, 5)
        except MISFITS as error:
            raise self._undecodable(data, error) from error

    def _decode_foreign(self, data: bytes | None) -> Any:
        """The value of a record that does not begin with today's header."""
        try:
            rewritten = self._rewritten(data)
        except MISFITS as error:
            raise self._undecodable(data, error) from error
        return self.decode(rewritten)

    def _rewritten(self, data: bytes | None) -> bytes:
        """The record as if written with today's schema."""
        if data is None:
            raise UndecodableRecord(f"no value on {self.topic}, where each record must have one")
        if len(data) < 5 or data[0] != 0:
            raise UndecodableRecord(
                f"not in the Confluent wire format, which starts with 0x00 and a schema id: {data[:8]!r}"
            )
        (schema_id,) = struct.unpack_from(">I", data, 1)
        known = self._registry.written_with(schema_id)
        if known is None:
            raise UndecodableRecord(f"unknown schema id {schema_id}; the manifest does not hold it")
        topic, schema = known
        if topic != self.topic:
            raise UndecodableRecord(f"schema id {schema_id} is that of {topic}, not of {self.topic}")
        if schema_id not in self._parsed:
            self._parsed[schema_id] = parse_schema(schema)
        writer = self._parsed[schema_id]
        body, out = BytesIO(data[5:]), BytesIO()
        try:
            value = schemaless_reader(body, writer, self._parsed[self.id], return_record_name=True)
            schemaless_writer(out, self._parsed[self.id], value)
        except Exception as error:  # fastavro raises whatever the bytes lead it to
            raise UndecodableRecord(f"schema id {schema_id} cannot be read as {self.topic}: {error!r:.300}") from error
        if body.read(1):
            raise UndecodableRecord(f"schema id {schema_id}: the record does not end where its schema says")
        return self._header + out.getvalue()

    def _undecodable(self, _: bytes | None, error: Exception) -> UndecodableRecord:
        return UndecodableRecord(f"not a {self.topic} record of schema id {self.id}: {error}")

    def _explained(self, value: Any, error: Exception) -> EncodeError:
        """Names the field at fault where that can be found, else the value."""
        found = misfit(value, self._root, self._schema, self._names, self._body)
        return EncodeError(f"{self.topic}: {found or f'{type(value).__name__} cannot be written: {error}'}")


def implementation() -> str:
    """What reads and writes records in this process: "native", or "python" where the extension is missing."""
    return "native" if is_native() else "python"


def codecs(schemas: Path) -> Callable[..., Codec]:
    """What makes the codecs of a schema directory; see Codec for the arguments, less the registry."""
    return partial(Codec, Registry(schemas))
