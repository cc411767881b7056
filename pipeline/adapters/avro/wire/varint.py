"""Avro's numbers, zigzag varints: helpers that compiled code calls."""

from __future__ import annotations

from functools import lru_cache

SMALL = [bytes([n]) for n in range(128)]


def varint(first: int, data: bytes, at: int) -> tuple[int, int]:
    """Decode a zigzag varint after its first byte. Return its raw value and the position after it."""
    byte = data[at]
    at += 1
    if byte < 128:  # two bytes: most lengths, quantities and prices
        return first & 127 | byte << 7, at
    value, shift = first & 127 | (byte & 127) << 7, 14
    while True:
        byte = data[at]
        at += 1
        value |= (byte & 127) << shift
        if byte < 128:
            if value >> 64:
                raise ValueError("a number of more than 64 bits")
            return value, at
        shift += 7
        if shift > 63:
            raise ValueError("a number of more than 64 bits")


def length(first: int, data: bytes, at: int) -> tuple[int, int]:
    """Decode a length after its first byte. Return it doubled, as zigzag has it. Raises ValueError if negative."""
    if first > 127:
        first, at = varint(first, data, at)
    if first & 1:
        raise ValueError("a negative length")
    return first, at


def long_bytes(n: int) -> bytes:
    """Encode a 64-bit number as a zigzag varint."""
    if 64 <= n < 8192:
        return bytes((n << 1 & 127 | 128, n >> 6))
    return any_long_bytes(n)


# Large numbers are mostly times, which the records of a batch share; so the same few recur.
@lru_cache(4096)
def any_long_bytes(n: int) -> bytes:
    """Encode a number as a zigzag varint. Raises ValueError if it does not fit 64 bits."""
    if not -0x8000000000000000 <= n <= 0x7FFFFFFFFFFFFFFF:
        raise ValueError(f"{n} does not fit 64 bits")
    n = (n << 1) ^ (n >> 63)
    out = bytearray()
    while n > 127:
        out.append(n & 127 | 128)
        n >>= 7
    out.append(n)
    return bytes(out)


def int_bytes(n: int) -> bytes:
    """Encode a number as a zigzag varint. Raises ValueError if it does not fit 32 bits."""
    if not -0x80000000 <= n <= 0x7FFFFFFF:
        raise ValueError(f"{n} does not fit 32 bits")
    return long_bytes(n)
