"""The partitioner of Kafka's Java clients, so that a reader knows which partition holds a key."""

from __future__ import annotations

from functools import lru_cache

try:
    from pipeline.model.records import _murmur2
except ImportError:  # it is optional
    _murmur2 = None  # type: ignore[assignment]

KEYS_KNOWN_MAX = 100_000  # of which the partition is remembered, where it is not computed in C
MASK = 0xFFFFFFFF
M = 0x5BD1E995


def murmur2(data: bytes) -> int:
    """32-bit MurmurHash2 with the seed that Kafka uses."""
    h = (0x9747B28C ^ len(data)) & MASK
    whole = len(data) & ~3
    for at in range(0, whole, 4):
        k = int.from_bytes(data[at : at + 4], "little") * M & MASK
        k = (k ^ (k >> 24)) * M & MASK
        h = (h * M & MASK) ^ k
    if rest := data[whole:]:
        h = (h ^ int.from_bytes(rest, "little")) * M & MASK
    h = (h ^ (h >> 13)) * M & MASK
    return h ^ (h >> 15)


def partition_of(key: bytes, partitions: int) -> int:
    """The partition of a topic with that many partitions in which records of `key` stand."""
    return (murmur2(key) & 0x7FFFFFFF) % partitions


in_python = lru_cache(KEYS_KNOWN_MAX)(partition_of)
partition_of = in_python if _murmur2 is None else _murmur2.partition_of  # type: ignore[assignment]
