"""The partitioner of Kafka's Java clients, so that a reader knows which partition holds a key."""

from __future__ import annotations

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
