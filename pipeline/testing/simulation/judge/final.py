"""What must be true once nothing is under way: nothing is held, and the topology's invariants are so."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from pipeline.engine.state.table import RowCodec
from pipeline.model import TopicKind
from pipeline.model.saga.participant import holds, participants
from pipeline.model.saga.saga import IN_FLIGHT
from pipeline.testing.simulation.operators import held
from pipeline.topology import Topology

if TYPE_CHECKING:
    from pipeline.testing.simulation.world import World


def broken(world: World, topology: Topology, codec: Mapping[str, RowCodec]) -> Iterator[str]:
    """What is not so. Nothing while a saga is under way, or something is parked."""
    sagas = topology.sagas
    if not (sagas or topology.invariants):
        return
    states = {name: dict(_rows(world, TopicKind.STATE.topic(name), codec)) for name in sagas}
    if held(world) or any(sagas[n].summary(s).status in IN_FLIGHT for n in sagas for s in states[n].values()):
        return
    aggregates = {a.name: a for service in topology.services.values() for a in service.owned}
    asked = {name for saga in sagas.values() for name in saga.asks}
    for name in sorted(asked & aggregates.keys()):
        if any(participants(aggregates[name])):
            for key, state in _rows(world, TopicKind.STATE.topic(name), codec):
                yield from (f"{name} {key!r}: held for {each.transaction}" for each in holds(aggregates[name], state))
    for invariant in topology.invariants:
        rows = {table: dict(_rows(world, _changelog(table, aggregates), codec)) for table in invariant.tables}
        yield from (f"{invariant.name}: {what}" for what in invariant.broken(rows))


def _changelog(table: str, aggregates: Mapping[str, Any]) -> str:
    return (TopicKind.STATE if table in aggregates else TopicKind.ROW).topic(table)


def _rows(world: World, topic: str, codec: Mapping[str, RowCodec]) -> Iterator[tuple[str, Any]]:
    for log in world.kafka.topics[topic].logs:
        last = {record.key(): record.value() for record in log.records if record.decided}
        for key, data in last.items():
            if data is not None:
                value = codec[topic].decode(data)
                yield key.decode(), value.body if TopicKind.of(topic) is TopicKind.STATE else value
