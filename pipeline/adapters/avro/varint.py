"""Avro's numbers: zigzag varints. Helpers that compiled code calls."""

from __future__ import annotations

from functools import lru_cache

SMALL = [bytes([n]) for n in range(128)]


def varint(first: int, data: bytes, at: int) -> tuple[int, int]:
    """The rest of a zigzag varint whose first byte was `first`: its raw value and the place behind it."""
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
    """The rest of a length, still doubled as zigzag has it: refuses negative ones."""
    if first > 127:
        first, at = varint(first, data, at)
    if first & 1:
        raise ValueError("a negative length")
    return first, at


def long_bytes(n: int) -> bytes:
    """Zigzag varint of a 64-bit number."""
    if 64 <= n < 8192:
        return bytes((n << 1 & 127 | 128, n >> 6))
    return any_long_bytes(n)


# Large numbers are mostly times, and the records of a batch share them: the same few come again and again.
@lru_cache(4096)
def any_long_bytes(n: int) -> bytes:
    """Zigzag varint of any 64-bit number."""
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
    """Zigzag varint of a 32-bit number."""
    if not -0x80000000 <= n <= 0x7FFFFFFF:
        raise ValueError(f"{n} does not fit 32 bits")
    return long_bytes(n)
