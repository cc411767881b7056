"""Writes an export file. In memory: one block. The file appears under its name once it is whole."""

from __future__ import annotations

import json
import os
import secrets
import shutil
import zlib
from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple

from fastavro import parse_schema, schemaless_reader, schemaless_writer

from pipeline.adapters.avro.binding import without_logical_types
from pipeline.adapters.avro.wire.varint import long_bytes
from pipeline.adapters.exported.form import ABOUT, BYTES, MAGIC, NOTHING, VERSION, Schema, head_schema, record_schema

BLOCK_BYTES = 256 * 1024
BLOCK_RECORDS = 10_000
Known = Callable[
    [str, int], tuple[str, Schema] | None
]  # topic, schema id -> the manifest's name for it, and the schema


class Branch(NamedTuple):
    """A schema that values were written with. `number`: in the union. `parsed`: for reading them."""

    number: int
    schema: Schema
    parsed: Schema


class ExportWriter:
    """Writes records to a file at `path`, one partition after another. Use as a context manager.

    `known`: the schema of an id on a topic. The file is given up if the block raises.
    """

    def __init__(self, path: Path, known: Known) -> None:
        self._path, self._known = path, known
        self._new, self._body = (path.with_name(f".{path.name}.{os.getpid()}.{part}") for part in ("new", "body"))
        self._out = self._body.open("wb")
        self._sync = secrets.token_bytes(16)
        self._head = head_schema()
        self._branches: dict[int, Branch] = {}  # by schema id, in the order of their numbers
        self._schemas: dict[tuple[str, int], dict[str, Any]] = {}  # what the manifest says, by topic and id
        self._blocks: dict[str, list[tuple[int, int, int]]] = {}
        self._place = ""  # `<topic>/<partition>` of the block that is being filled
        self._block, self._count, self.records = bytearray(), 0, 0
        self.about: dict[str, Any] = {}

    def __enter__(self) -> ExportWriter:
        return self

    def __exit__(self, kind: type[BaseException] | None, _: BaseException | None, __: TracebackType | None) -> None:
        try:
            if kind is None:
                self._finish()
        finally:
            self._out.close()
            for path in (self._body, self._new):
                path.unlink(missing_ok=True)

    def write(
        self,
        topic: str,
        partition: int,
        offset: int,
        key: bytes | None,
        value: bytes | None,
        time_ms: int,
        headers: tuple[tuple[str, bytes | None], ...],
    ) -> None:
        """Write a record."""
        place = f"{topic}/{partition}"
        if place != self._place or len(self._block) >= BLOCK_BYTES or self._count >= BLOCK_RECORDS:
            self._flush()
            self._place = place
        head = {"topic": topic, "partition": partition, "offset": offset, "time": time_ms, "key": _text(key)}
        out = BytesIO()
        schemaless_writer(out, self._head, head | {"headers": [{"name": n, "value": v} for n, v in headers]})
        self._block += out.getvalue()
        branch = None if value is None else self._branch(topic, value)
        if value is None:
            self._block += long_bytes(NOTHING)
        elif branch is None:
            self._block += long_bytes(BYTES) + long_bytes(len(value)) + value
        else:
            self._block += long_bytes(branch.number) + value[5:]
        self._count += 1
        self.records += 1

    def _branch(self, topic: str, value: bytes) -> Branch | None:
        """Return the branch of a value; None if it is not exactly what a known schema writes."""
        if len(value) < 5 or value[0] != 0:
            return None
        schema_id = int.from_bytes(value[1:5], "big")
        branch = self._branches.get(schema_id)
        if (topic, schema_id) not in self._schemas:
            if (known := self._known(topic, schema_id)) is None:
                return None
            name, schema = known
            self._schemas[topic, schema_id] = {"id": schema_id, "topic": name, "schema": schema}
            if branch is None:
                number = BYTES + 1 + len(self._branches)
                branch = Branch(number, schema, parse_schema(without_logical_types(schema)))
                self._branches[schema_id] = branch
        assert branch is not None
        body = BytesIO(value)
        body.seek(5)
        try:
            schemaless_reader(body, branch.parsed, None)
        except Exception:  # fastavro raises whatever the bytes lead it to
            return None
        return branch if body.tell() == len(value) else None

    def _flush(self) -> None:
        if not self._count:
            return
        packer = zlib.compressobj(wbits=-15)
        data = packer.compress(bytes(self._block)) + packer.flush()
        self._blocks.setdefault(self._place, []).append((self._out.tell(), len(data), self._count))
        self._out.write(long_bytes(self._count) + long_bytes(len(data)) + data + self._sync)
        self._block, self._count = bytearray(), 0

    def _finish(self) -> None:
        """Put the header, which tells of all, before the blocks, and have the file appear."""
        self._flush()
        self._out.flush()
        about = {"version": VERSION, "records": self.records, "size": self._out.tell(), "blocks": self._blocks}
        about |= {"branches": list(self._branches), "schemas": list(self._schemas.values()), **self.about}
        schema = record_schema([(schema_id, each.schema) for schema_id, each in self._branches.items()])
        parse_schema(schema)  # it has to be one, whatever the schemas in it are
        texts = {"avro.schema": json.dumps(schema), "avro.codec": "deflate", ABOUT: json.dumps(about)}
        with self._new.open("wb") as out:
            out.write(MAGIC)
            metadata = {"type": "map", "values": "bytes"}
            schemaless_writer(out, parse_schema(metadata), {name: text.encode() for name, text in texts.items()})
            out.write(self._sync)
            with self._body.open("rb") as body:
                shutil.copyfileobj(body, out, 1 << 20)
            out.flush()
            os.fsync(out.fileno())
        self._new.replace(self._path)


def _text(key: bytes | None) -> str | bytes | None:
    try:
        return None if key is None else key.decode()
    except UnicodeDecodeError:
        return key
