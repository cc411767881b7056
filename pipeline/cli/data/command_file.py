"""Commands of `pipeline send` before they are sent: the lines of a file, read and checked."""

from __future__ import annotations

import codecs
import io
from collections.abc import Iterator
from typing import IO, TYPE_CHECKING, Any

from pipeline.errors import InvalidCommand, PipelineError

if TYPE_CHECKING:
    from pipeline.client import Client

WANTED, POSSIBLE = {"aggregate", "key", "type"}, {"fields", "id", "expect", "issued_ms", "at"}
SAVE = "save the file as UTF-8"
# Longer marks first: that of UTF-32 begins with that of UTF-16.
MARKS = {
    codecs.BOM_UTF32_LE: "UTF-32",
    codecs.BOM_UTF32_BE: "UTF-32",
    codecs.BOM_UTF16_LE: "UTF-16",
    codecs.BOM_UTF16_BE: "UTF-16",
}


def text_of(data: bytes) -> str:
    """Return the text of a file in UTF-8, without its byte order mark. Raises InvalidCommand with line and byte."""
    for mark, name in MARKS.items():
        if data.startswith(mark):
            raise InvalidCommand(f"the file is {name}; {SAVE}")
    data = data.removeprefix(codecs.BOM_UTF8)
    if (at := data.find(b"\0")) >= 0:
        raise InvalidCommand(f"line {_line(data, at)} has a byte 0, as files in UTF-16 have; {SAVE}")
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        at, column = error.start, error.start - data.rfind(b"\n", 0, error.start)
        raise InvalidCommand(
            f"line {_line(data, at)} is not UTF-8: byte {column} is 0x{data[at]:02x}; {SAVE}"
        ) from None


def _line(data: bytes, at: int) -> int:
    return data.count(b"\n", 0, at) + 1


def checked_lines(client: Client, file: IO[bytes]) -> Iterator[dict[str, Any]]:
    """Yield the lines as keyword arguments of Client.send. Raises InvalidCommand with the number of a wrong line."""
    from pipeline.adapters.json.reading import parsed

    try:
        data = file.read()
    except OSError as error:
        raise InvalidCommand(f"--file cannot be read: {error.strerror}; name a file; nothing was sent") from None
    try:
        text = text_of(data)
    except InvalidCommand as error:
        raise InvalidCommand(f"{error}; nothing was sent") from None
    for number, line in enumerate(io.StringIO(text, newline=None), 1):
        if line.strip():
            try:
                yield checked(client, parsed(line))
            except PipelineError as error:
                raise InvalidCommand(f"line {number}: {error}; nothing was sent") from None


def checked(client: Client, line: Any) -> dict[str, Any]:
    """Return a checked command as keyword arguments of Client.send. Raises InvalidCommand and other BadInput."""
    from pipeline.client.wire.as_of import parse_time

    if not isinstance(line, dict) or not WANTED <= line.keys() <= WANTED | POSSIBLE:
        unknown = sorted(line.keys() - WANTED - POSSIBLE) if isinstance(line, dict) else []
        raise InvalidCommand(
            "a command needs aggregate, key and type, and may have fields, id, expect, issued_ms and at"
            + (f"; it has no {unknown[0]!r:.100}" if unknown else "")
        )
    at, issued_ms, expected = line.get("at"), _number(line, "issued_ms"), _number(line, "expect")
    at = parse_time(at) if isinstance(at, str) else at
    command_id = line.get("id")
    if command_id is not None and not (isinstance(command_id, str) and command_id):
        raise InvalidCommand(f"the id {command_id!r:.100} is not text of 1 to 256 bytes; leave it out for a new one")
    made = client.commands.from_json(line["aggregate"], line["type"], line.get("fields", {}))
    to = {"aggregate": line["aggregate"], "key": line["key"], "command": made}
    ready = client.commands.write(
        **to, command_id=command_id or "", expected_version=expected, issued_ms=issued_ms, at=at
    )
    return {**to, "command_id": ready.id, "expected_version": expected, "issued_ms": ready.issued_ms, "at": at}


def _number(line: dict[str, Any], name: str) -> int | None:
    """Return a whole number that a long holds. Raises InvalidCommand."""
    number = line.get(name)
    if number is None or (type(number) is int and 0 <= number < 2**63):
        return number
    raise InvalidCommand(f"{name} must be a whole number from 0 to {2**63 - 1}, not {number!r:.100}")
