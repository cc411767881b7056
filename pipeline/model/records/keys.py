"""Keys as bytes: those that a topology's functions give, and those that are asked for, held to what a key can be."""

from __future__ import annotations

from enum import Enum
from typing import Any

from pipeline.errors import BadRequest, TopologyError

KEY_BYTES_MAX = 512  # of an aggregate
ROW_KEY_BYTES_MAX = 2_000  # of a row: PostgreSQL's indexes take 2,700, a URL 8,000, in which a byte takes up to three


def key_bytes(key: Any, bytes_max: int, giver: str, given: str) -> bytes:
    """Encode a key that a topology's function has given.

    Raises TopologyError, in the words `<giver> gives <given> the key …`, if it is no text, empty, too long, or has
    what UTF-8 cannot hold.
    """
    if not isinstance(key, str):
        raise _unfit(giver, given, f"the key {no_text(key)}", bytes_max)
    try:
        data = key.encode()
    except UnicodeEncodeError as error:
        raise _unfit(giver, given, f"the key {key!r:.100}, which UTF-8 cannot hold: {error}", bytes_max) from None
    if not data:
        raise _unfit(giver, given, "an empty key", bytes_max)
    if len(data) > bytes_max:
        raise _unfit(giver, given, f"the key {key!r:.100}…, which has {len(data)} bytes", bytes_max)
    return data


def _unfit(giver: str, given: str, what: str, bytes_max: int) -> TopologyError:
    return TopologyError(f"{giver} gives {given} {what}; give text of 1 to {bytes_max} bytes, or leave {given} out")


def asked_key(key: Any) -> bytes:
    """Encode a key that a reader asks for. Raises BadRequest if no row can have it."""
    if key == "":
        raise BadRequest("the key is empty; give the key of a row")
    return asked_text("the key", key)


def asked_text(what: str, text: Any) -> bytes:
    """Encode a text that a reader gives. Raises BadRequest if it is none, or none that UTF-8 can hold."""
    if not isinstance(text, str):
        raise BadRequest(f"{what} must be text, not {no_text(text)}")
    try:
        return text.encode()
    except UnicodeEncodeError as error:
        raise BadRequest(f"{what} must be text that UTF-8 can hold: {error}") from None


def no_text(value: Any) -> str:
    """Return what an error says of a value that should be text. Of an Enum's two texts none is guessed."""
    shown = f"{value!r:.100}, which is {type(value).__name__} and not str"
    return f"{shown}: take its .name (or .value)" if isinstance(value, Enum) else shown


def named(function: Any) -> str:
    """Return the name of a topology's function as errors show it; a lambda has its place in the file."""
    name = getattr(function, "__qualname__", None)
    if name is None:
        return f"{function!r:.100}"
    place = getattr(function, "__code__", None)
    where = f", line {place.co_firstlineno}" if place is not None and "<lambda>" in name else ""
    return f"{getattr(function, '__module__', None) or 'unknown'}.{name}{where}"
