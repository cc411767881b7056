"""The nodes of a task: each runs one pure step of `flow` on a record and hands on what comes out. No I/O here."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Protocol

from pipeline.errors import TopologyError
from pipeline.flow import command_to_event, event_to_command, event_to_messages, event_to_state, message_to_row
from pipeline.model import Aggregate, CommandMessage, EventMessage, Projection, Reaction, Rejected
from pipeline.runtime.stats import LaneStats
from pipeline.runtime.table import Table

Encode = Callable[[Any], bytes]
Emit = Callable[[str, bytes, bytes, int], None]  # topic, key, value, partition (-1: the key decides)


class Node(Protocol):
    """One step of the flow. `key` is the record's, `time_ms` when the broker stored it."""

    def fold(self, key: bytes, time_ms: int, message: Any) -> None: ...


class AggregateNode:
    """command -> events and state: `<name>.command` into `<name>.event` and the table `<name>`, same partition."""

    def __init__(
        self,
        aggregate: Aggregate[Any, Any, Any],
        table: Table,
        topic: str,
        partition: int,
        encode_event: Encode,
        emit: Emit,
        stats: LaneStats,
    ) -> None:
        self.aggregate, self.table, self.topic, self.partition = aggregate, table, topic, partition
        self.encode_event, self.emit, self.stats = encode_event, emit, stats

    def fold(self, key: bytes, time_ms: int, message: CommandMessage) -> None:
        aggregate, stats = self.aggregate, self.stats
        state = self.table.get(key)
        decision = command_to_event(aggregate, state, message, time_ms)
        stats.commands += 1
        if isinstance(decision, Rejected):
            stats.reject(aggregate.name, decision.reason)
            return
        for event in decision:
            state = event_to_state(aggregate, state, event)
            self.emit(self.topic, key, self.encode_event(event), self.partition)
        if decision:
            stats.events += len(decision)
            self.table.put(key, state)


class ReactionNode:
    """event -> commands to aggregates of the same service, each to its key's partition."""

    def __init__(
        self, reaction: Reaction, targets: Mapping[type, tuple[str, Encode]], emit: Emit, stats: LaneStats
    ) -> None:
        self.reaction, self.targets, self.emit, self.stats = reaction, targets, emit, stats

    def fold(self, key: bytes, time_ms: int, message: EventMessage) -> None:
        for send, command in event_to_command(self.reaction, key.decode(), message):
            target = self.targets.get(type(send.command))
            if target is None:
                raise TopologyError(
                    f"reaction {self.reaction.name!r} sends {type(send.command).__name__}, "
                    "which no aggregate of its service takes"
                )
            topic, encode = target
            self.emit(topic, send.key.encode(), encode(command), -1)


class RouteNode:
    """event -> messages by row key, over the projection's repartition topic."""

    def __init__(self, projection: Projection[Any, Any], topic: str, encode: Encode, emit: Emit) -> None:
        self.projection, self.topic, self.encode, self.emit = projection, topic, encode, emit

    def fold(self, key: bytes, time_ms: int, message: EventMessage) -> None:
        for row_key, part in event_to_messages(self.projection, key.decode(), message):
            self.emit(self.topic, row_key.encode(), self.encode(part), -1)


class ProjectionNode:
    """message -> row: into the projection's table; its changelog `<name>.row` carries the rows downstream."""

    def __init__(self, projection: Projection[Any, Any], table: Table) -> None:
        self.projection, self.table = projection, table
        self.direct = projection.route is None  # fed by events themselves, which come in an envelope

    def fold(self, key: bytes, time_ms: int, message: Any) -> None:
        body = message.body if self.direct else message
        self.table.put(key, message_to_row(self.projection, self.table.get(key), body))
