"""Checks of a settled world that only a simulation can make."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from pipeline.engine.state.table import RowCodec
from pipeline.errors import UndecodableRecord
from pipeline.model import Aggregate, CommandMessage, Parked, TopicKind
from pipeline.model.unique import reservation_key
from pipeline.testing.simulation.judge.differences import committed

if TYPE_CHECKING:
    from pipeline.testing.simulation.world import World

LEFT_OPEN_S = 25.0  # a session, and time for a take-over


def answered_once(world: World, a: Aggregate[Any, Any, Any], codec: Mapping[str, RowCodec]) -> Iterator[str]:
    """Yield what an aggregate has asked of others and was not answered exactly once.

    That it is parked is no answer yet: one that stays parked has none.
    """
    asked: Counter[str] = Counter()
    for name in a.asks:
        ids = (command.id for command in _commands(world, name, codec))
        asked += Counter(each for each in ids if each.startswith(f"{a.name}/"))
    replies = [c for c in _commands(world, a.name, codec) if c.id.startswith("reply:")]
    answered = Counter(c.id.removeprefix("reply:") for c in replies if not isinstance(c.body, Parked))
    if not world.schedule.cleared:
        asked -= Counter({c.id.removeprefix("reply:") for c in replies if isinstance(c.body, Parked)} - answered.keys())
    for each in sorted((asked - answered) | (answered - asked)):
        yield f"{each} was asked {asked[each]} times, and answered {answered[each]} times"


def _commands(world: World, aggregate: str, codec: Mapping[str, RowCodec]) -> Iterator[CommandMessage]:
    topic = TopicKind.COMMAND.topic(aggregate)
    for log in world.kafka.topics[topic].logs:
        for record in committed(world, log.tp):
            with suppress(UndecodableRecord):
                if isinstance(read := codec[topic].decode(record.value()), CommandMessage):
                    yield read


def taken_twice(
    world: World, a: Aggregate[Any, Any, Any], codec: Mapping[str, RowCodec], secret: bytes
) -> Iterator[str]:
    """Yield reservations that differ from the values that their owners have. `secret`: the key of reservations."""
    for unique in a.unique:
        owners: dict[str, str] = {}
        for key, state in _states(world, a.states, codec):
            value = unique.value(state)
            if value is not None and owners.setdefault(reservation_key(secret, value), key) != key:
                yield f"{unique.name}: {owners[reservation_key(secret, value)]} and {key} have {value!r}"
        reserved = {
            key: row.owner
            for key, row in _states(world, TopicKind.STATE.topic(unique.name), codec)
            if row.owner is not None
        }
        for key in sorted({*owners, *reserved}):
            if owners.get(key) != reserved.get(key):
                yield f"{unique.name}: {key} is reserved by {reserved.get(key)}, and {owners.get(key)} has it"


def _states(world: World, topic: str, codec: Mapping[str, RowCodec]) -> Iterator[tuple[str, Any]]:
    for log in world.kafka.topics[topic].logs:
        last = {record.key(): record.value() for record in log.records if record.decided}
        for key, value in last.items():
            if value is not None:
                yield key.decode(), codec[topic].decode(value).body


def overdue(world: World, tables: Mapping[str, RowCodec]) -> Iterator[str]:
    """Yield what is committed and due, and has not been sent. `tables`: the codec of each changelog."""
    now_ms = world.kafka.clock.time_ms()
    for topic, codec in tables.items():
        for log in world.kafka.topics[topic].logs:
            last = {record.key(): record.value() for record in log.records if record.decided}
            for key, value in last.items():
                if value is not None and codec.decode(value).due_ms <= now_ms:
                    yield f"{topic}-{log.tp.partition}: {key[4:].decode()} is due"


def left_open(world: World) -> Iterator[str]:
    """Yield transactions of dead workers that are still open long after others have taken over their partitions."""
    before_s = world.kafka.clock.now_s - LEFT_OPEN_S
    for name, began_s in world.kafka.transactions.open_since().items():
        owners = [worker for worker in world.workers if worker.name == name]
        heirs = [w for owner in owners for w in world.workers if w.plan is owner.plan and w.is_level]
        if began_s < before_s and owners and heirs and all(w.state == "down" for w in owners):
            yield f"a transaction of {name} is open since {began_s:.1f} s, though {heirs[0].name} goes on"
