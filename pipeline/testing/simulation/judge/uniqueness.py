"""Unique values, once all is settled: each is reserved by the one aggregate that has it, and nothing else is."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from pipeline.engine.state.table import RowCodec
from pipeline.model import Aggregate, TopicKind
from pipeline.model.unique import reservation_key

if TYPE_CHECKING:
    from pipeline.testing.simulation.world import World


def taken_twice(
    world: World, a: Aggregate[Any, Any, Any], codec: Mapping[str, RowCodec], secret: bytes
) -> Iterator[str]:
    """Values that two have, that nobody has reserved, or that nobody has and somebody has reserved."""
    for unique in a.unique:
        owners: dict[str, str] = {}
        for key, state in _states(world, a.name, codec):
            value = unique.value(state)
            if value is not None and owners.setdefault(reservation_key(secret, value), key) != key:
                yield f"{unique.name}: {owners[reservation_key(secret, value)]} and {key} have {value!r}"
        reserved = {key: row.owner for key, row in _states(world, unique.name, codec) if row.owner is not None}
        for key in sorted({*owners, *reserved}):
            if owners.get(key) != reserved.get(key):
                yield f"{unique.name}: {key} is reserved by {reserved.get(key)}, and {owners.get(key)} has it"


def _states(world: World, aggregate: str, codec: Mapping[str, RowCodec]) -> Iterator[tuple[str, Any]]:
    topic = TopicKind.STATE.topic(aggregate)
    for log in world.kafka.topics[topic].logs:
        last = {record.key(): record.value() for record in log.records if record.decided}
        for key, value in last.items():
            if value is not None:
                yield key.decode(), codec[topic].decode(value).body
