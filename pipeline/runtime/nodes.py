"""The nodes of a task: each runs one pure step of `flow` on a record and hands on what comes out. No I/O here."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Collection, Mapping
from typing import Any, NamedTuple

from pipeline.errors import TopologyError
from pipeline.flow import (
    asked_by,
    event_to_command,
    event_to_messages,
    is_late,
    message_to_row,
    row_to_index,
)
from pipeline.model import (
    CommandMessage,
    EventMessage,
    Projection,
    Reaction,
    Rejected,
    Send,
    TopicKind,
)
from pipeline.runtime.ports import Producer, Record
from pipeline.runtime.stats import LaneStats
from pipeline.runtime.table import Table

log = logging.getLogger(__name__)

Encode = Callable[[Any], bytes]
REPLY_TOPIC = re.compile(rf"[A-Za-z0-9._-]{{1,240}}\.{TopicKind.REPLY.value}")
INBOX = re.compile(rf"[A-Za-z0-9._-]{{1,240}}\.{TopicKind.COMMAND.value}")
UNDELIVERABLE_KEPT = 1_000  # topics that have been complained of


class Placed(NamedTuple):
    """When a record that was parked is taken up again: the last offset folded, the latest time of a command by then.

    `new`: whether it is a command whose id was looked up when it came, and was not answered. `reserved`: the unique
    values that are reserved for it by now.
    """

    offset: int
    time_ms: int
    new: bool
    reserved: tuple[str, ...] = ()


class Node:
    """One step of the flow. `record`: what is folded, with its key; `message`: its value, decoded.

    Where the topology's code raises, nothing has happened yet: all of it runs before the node's first effect. `name`
    stays the same for as long as what is declared is called the same. What only commands need is empty here.
    """

    name: str

    def fold(self, key: bytes, record: Record, message: Any, placed: Placed | None = None) -> None:
        """Runs the step. `placed`: of a record that was parked."""
        raise NotImplementedError

    def settles(self, key: bytes, record: Record, message: Any) -> bool:
        """Answers what needs no step to be answered, whatever the record's key waits for; True where that was all."""
        return False

    def tell_parked(self, record: Record, message: Any, cause: str) -> None:
        """Tells who waits for an answer that it will take longer."""

    def reject(self, key: bytes, record: Record, message: Any, placed: Placed, rejected: Rejected) -> None:
        """Answers a record on which the step will never be run."""


class Outlet:
    """Where the nodes of a task send what comes out, and count it. `within`: more topics that take replies."""

    def __init__(self, producer: Producer, stats: LaneStats, within: Collection[str] = ()) -> None:
        self.emit = producer.produce  # topic, key, value, partition (-1: the key decides)
        self.stats, self._within = stats, within
        self._partitions = producer.partitions
        self._undeliverable: set[str] = set()

    def reply(self, command: CommandMessage, data: bytes) -> None:
        """Sends the reply to a command; one that cannot be delivered is counted, and said once for each topic."""
        topic, number, key = f"{command.reply_to}//".split("/", 2)
        if (
            key[:-2]
            and number.isascii()
            and number.isdecimal()
            and (
                REPLY_TOPIC.fullmatch(topic)
                or topic in self._within
                or (INBOX.fullmatch(topic) and _is_asker(key[:-2], command))
            )
            and int(number[:9]) < self._partitions(topic)
        ):
            self.emit(topic, key[:-2].encode(), data, int(number))
            self.stats.replies += 1
            return
        self.stats.undeliverable_replies += 1
        if topic not in self._undeliverable and len(self._undeliverable) < UNDELIVERABLE_KEPT:
            self._undeliverable.add(topic)
            log.warning(
                "replies to %.300r cannot be delivered: no `<topic>/<partition>/<key>` of a *.reply topic", topic
            )


def _is_asker(key: str, command: CommandMessage) -> bool:
    """Whether a command says that it was asked by the aggregate `key`, to whose command topic its reply goes."""
    return command.causation_id is not None and asked_by(command.id).partition("/")[2] == key


class ReactionNode(Node):
    """event -> commands to aggregates of the same service, each to its key's partition."""

    def __init__(self, reaction: Reaction, targets: Mapping[type, tuple[str, Encode]], out: Outlet) -> None:
        self.name = f"react:{reaction.name}"
        self.reaction, self.targets, self.emit = reaction, targets, out.emit

    def fold(self, key: bytes, record: Record, message: EventMessage, placed: Placed | None = None) -> None:
        commands = event_to_command(self.reaction, key.decode(), message)
        for topic, to, data in [self._addressed(send, command) for send, command in commands]:
            self.emit(topic, to, data, -1)

    def _addressed(self, send: Send, command: CommandMessage) -> tuple[str, bytes, bytes]:
        target = self.targets.get(type(send.command))
        if target is None:
            raise TopologyError(
                f"reaction {self.reaction.name!r} sends {type(send.command).__name__}, "
                "which no aggregate of its service takes"
            )
        topic, encode = target
        return topic, send.key.encode(), encode(command)


class RouteNode(Node):
    """event -> messages by row key, over the projection's repartition topic."""

    def __init__(self, projection: Projection[Any, Any], topic: str, encode: Encode, out: Outlet) -> None:
        self.name = f"route:{projection.name}"
        self.projection, self.topic, self.encode, self.emit = projection, topic, encode, out.emit
        self.stats = out.stats

    def fold(self, key: bytes, record: Record, message: EventMessage, placed: Placed | None = None) -> None:
        if self.projection.windows is not None and is_late(self.projection, message):
            self.stats.leave_out(self.projection.name)
            return
        parts = event_to_messages(self.projection, key.decode(), message)
        for row_key, data in [(row_key.encode(), self.encode(part)) for row_key, part in parts]:
            self.emit(self.topic, row_key, data, -1)


class ProjectionNode(Node):
    """message -> row: into the projection's table; its changelog `<name>.row` carries the rows downstream."""

    def __init__(self, projection: Projection[Any, Any], table: Table) -> None:
        self.name = f"project:{projection.name}"
        self.projection, self.table = projection, table
        self.indexes = projection.indexes
        self.direct = projection.route is None  # fed by events themselves, which come in an envelope

    def fold(self, key: bytes, record: Record, message: Any, placed: Placed | None = None) -> None:
        body = message.body if self.direct else message
        row = message_to_row(self.projection, self.table.get(key), body)
        if self.indexes and row is not None:
            for _ in row_to_index(self.indexes, row):  # what it raises is to be raised here, and not after the commit
                pass
        self.table.put(key, row)
