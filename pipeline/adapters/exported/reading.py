"""Reads an export file, a partition at a time. In memory: one block."""

from __future__ import annotations

import json
import zlib
from collections.abc import Iterator
from functools import cached_property
from io import BytesIO
from pathlib import Path
from typing import IO, Any

from fastavro import parse_schema, schemaless_reader

from pipeline.adapters.avro.binding import without_logical_types
from pipeline.adapters.exported.form import ABOUT, BYTES, MAGIC, NOTHING, VERSION, head_schema
from pipeline.errors import ExportFileError

ANEW = "export it anew, or copy it again"
Exported = tuple[int, bytes | None, bytes | None, int, tuple[tuple[str, bytes | None], ...]]


class ExportFile:
    """An export file: what it says of itself, and its records.

    Raises ExportFileError if it is none, or is damaged.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        with path.open("rb") as file:
            self.about, self._body = self._header(file)
            size = file.seek(0, 2) - self._body
        if size != self.about["size"]:
            raise ExportFileError(f"{path} has {size} bytes of records, and should have {self.about['size']}; {ANEW}")
        self._head = head_schema()
        of_id = {entry["id"]: entry["schema"] for entry in self.schemas}
        parsed = [parse_schema(without_logical_types(of_id[schema_id])) for schema_id in self.about["branches"]]
        self._branches = list(zip(self.about["branches"], parsed, strict=True))

    def _header(self, file: IO[bytes]) -> tuple[dict[str, Any], int]:
        try:
            if file.read(4) != MAGIC:
                raise ValueError("it is no Avro container file")
            metadata: Any = schemaless_reader(file, parse_schema({"type": "map", "values": "bytes"}), None)
            about = json.loads(metadata[ABOUT]) if ABOUT in metadata else {}
            if about.get("version") != VERSION:
                raise ValueError("it was not written by this version of pipeline export")
        except Exception as error:  # fastavro raises whatever the bytes lead it to
            why = str(error) if isinstance(error, ValueError) else f"its header is damaged: {error!r:.100}"
            raise ExportFileError(f"{self.path} cannot be read: {why}; {ANEW}") from error
        return about, file.tell() + 16

    @property
    def schemas(self) -> list[dict[str, Any]]:
        """All schemas that values were written with, as a manifest has them."""
        found: list[dict[str, Any]] = self.about["schemas"]
        return found

    @cached_property
    def topics(self) -> dict[str, int]:
        """The topics that were exported, with the number of their partitions."""
        return dict(self.about["topics"])

    def records(self, topic: str, partition: int) -> Iterator[Exported]:
        """Yield offset, key, value, time and headers of each record of a partition, in its order."""
        with self.path.open("rb") as file:
            for place, size, count in self.about["blocks"].get(f"{topic}/{partition}", ()):
                try:
                    data = self._block(file, place, size, count)
                    found = [self._record(data) for _ in range(count)]
                    if data.read(1):
                        raise ValueError("a block is longer than its records")
                except Exception as error:  # fastavro and zlib raise whatever the bytes lead them to
                    why = f"is damaged in the records of {topic}-{partition}: {error!r:.100}"
                    raise ExportFileError(f"{self.path} {why}; {ANEW}") from error
                yield from found

    def _block(self, file: IO[bytes], place: int, size: int, count: int) -> BytesIO:
        file.seek(self._body + place)
        if (self._long(file), self._long(file)) != (count, size):
            raise ValueError("a block is not where it should be")
        return BytesIO(zlib.decompress(file.read(size), -15))

    @staticmethod
    def _long(file: IO[bytes]) -> int:
        number: Any = schemaless_reader(file, "long", None)
        return int(number)

    def _record(self, data: BytesIO) -> Exported:
        head: Any = schemaless_reader(data, self._head, None)
        key = head["key"].encode() if isinstance(head["key"], str) else head["key"]
        headers = tuple((each["name"], each["value"]) for each in head["headers"])
        return head["offset"], key, self._value(data), head["time"], headers

    def _value(self, data: BytesIO) -> bytes | None:
        number = self._long(data)
        if number == NOTHING:
            return None
        if number == BYTES:
            return bytes(data.read(self._long(data)))
        schema_id, schema = self._branches[number - BYTES - 1]
        begin = data.tell()
        schemaless_reader(data, schema, None)
        header: bytes = b"\0" + schema_id.to_bytes(4, "big")
        return header + data.getbuffer()[begin : data.tell()]
