"""key -> bytes: the keys that a topology's functions give, held to what every store and every client takes."""

from __future__ import annotations

from typing import Any

from pipeline.errors import TopologyError

KEY_BYTES_MAX = 512  # of an aggregate
ROW_KEY_BYTES_MAX = 2_000  # of a row: PostgreSQL's indexes take 2,700, a URL 8,000, in which a byte takes up to three


def key_bytes(key: Any, bytes_max: int, giver: str, given: str) -> bytes:
    """Encode a key that a topology's function has given.

    Raises TopologyError, in the words `<giver> gives <given> the key …`, if it is no text, empty, too long, or has
    what UTF-8 cannot hold.
    """
    if not isinstance(key, str):
        raise _unfit(giver, given, f"the key {key!r:.100}, which is {type(key).__name__} and not str", bytes_max)
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


def named(function: Any) -> str:
    """Return the name of a topology's function as errors show it; a lambda has its place in the file."""
    name = getattr(function, "__qualname__", None)
    if name is None:
        return f"{function!r:.100}"
    place = getattr(function, "__code__", None)
    where = f", line {place.co_firstlineno}" if place is not None and "<lambda>" in name else ""
    return f"{getattr(function, '__module__', None) or 'unknown'}.{name}{where}"
