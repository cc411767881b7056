"""The nodes of a task: each runs one pure step of `flow` on a record and hands on what comes out. No I/O here."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Collection, Mapping
from typing import Any, NamedTuple

from pipeline.errors import TopologyError
from pipeline.flow import (
    asked,
    asked_before,
    asked_by,
    command_to_event,
    event_to_command,
    event_to_messages,
    event_to_state,
    fingerprint,
    is_late,
    message_to_row,
    row_to_index,
    too_late,
)
from pipeline.model import (
    Acceptance,
    Aggregate,
    CommandMessage,
    EventMessage,
    Parked,
    Projection,
    Reaction,
    Rejected,
    ReplyMessage,
    Send,
    StateMessage,
    TopicKind,
)
from pipeline.runtime.answers import Answers, answer_key
from pipeline.runtime.asking import Asking, Records
from pipeline.runtime.claims import Claims
from pipeline.runtime.ports import Producer, Record
from pipeline.runtime.stats import LaneStats
from pipeline.runtime.table import Table
from pipeline.runtime.timers import WITHOUT, Place, Rows, Timers

log = logging.getLogger(__name__)

Encode = Callable[[Any], bytes]
Decided = tuple[StateMessage | None, list[bytes]]  # the state after the events, and these as they were sent
REPLY_EVENTS_BYTES_MAX = 64 * 1024  # a reply with more says how many events there are, and leaves them out
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


class CommandCodecs(NamedTuple):
    """How commands are written, and what answers them."""

    command: Encode
    event: Encode
    reply: Encode


class AggregateNode(Node):
    """command -> events, state and reply: `<name>.command` into `<name>.event` and the table `<name>`, same partition.

    With `answers`, a command whose id has been answered gets the same reply, and nothing else happens. With `claims`,
    one that takes a value that is not reserved for it raises Unreserved. With `timers`, one that is scheduled is
    decided, and answered, when it comes again once it is due.
    """

    def __init__(
        self,
        aggregate: Aggregate[Any, Any, Any],
        codecs: CommandCodecs,
        topic: str,
        partition: int,
        table: Table,
        answers: Answers | None,
        timers: Timers,
        asking: Asking,
        out: Outlet,
        claims: Claims | None = None,
    ) -> None:
        self.name = f"decide:{aggregate.name}"
        self.aggregate, self.topic, self.partition = aggregate, topic, partition
        self.table, self.answers, self.claims, self.out = table, answers, claims, out
        self.timers, self.asking = timers, asking
        self._deadlines = timers.table or WITHOUT
        self.encode_command, self.encode_event, self.encode_reply = codecs

    def fold(self, key: bytes, record: Record, message: CommandMessage, placed: Placed | None = None) -> None:
        self.out.stats.commands += 1
        if (mark := self._undecided(key, record, message, placed)) is None:
            return
        timed = message.due_ms is not None or self._deadlines.active
        if timed and self.timers.schedules(key, message, self._place(record)):
            return
        decided = self._decide(key, record, message, placed)
        if timed:
            self.timers.forget(key, message)
        if self.answers is not None or message.reply_to is not None:
            self._answer(key, record, message, self._reply(record, message, mark, decided, placed), placed)

    def settles(self, key: bytes, record: Record, message: CommandMessage) -> bool:
        return self._undecided(key, record, message, None) is None

    def tell_parked(self, record: Record, message: CommandMessage, cause: str) -> None:
        if message.reply_to is not None:
            self.out.reply(message, self._reply(record, message, 0, Parked(cause), None))

    def reject(self, key: bytes, record: Record, message: CommandMessage, placed: Placed, rejected: Rejected) -> None:
        if (mark := self._undecided(key, record, message, placed)) is None:
            return
        self._release(key, record, message, placed)
        if message.due_ms is not None or self._deadlines.active:
            self.timers.forget(key, message)
        self.out.stats.reject(self.aggregate.name, rejected.reason)
        self._answer(key, record, message, self._reply(record, message, mark, rejected, placed), placed)

    def _place(self, record: Record) -> Place:
        return Place(self.partition, record.offset(), record.timestamp()[1])

    def _undecided(self, key: bytes, record: Record, message: CommandMessage, placed: Placed | None) -> int | None:
        """The fingerprint of a command that is to be decided; None where its id is answered, or may have been: told.

        A parked one was looked up when it came. Since then only those before it in its queue can have been answered,
        and these are remembered from then on. Without a memory, the fingerprint is 0.
        """
        time_ms, answers = record.timestamp()[1], self.answers
        mark, forgotten_ms = 0, 0
        earlier = waiting = refused = None
        if answers is not None:
            mark = fingerprint(self.encode_command(asked(message)))
            if placed is None:
                forgotten_ms = answers.at(record.offset(), time_ms)
                earlier = answers.find(answer_key(key, message.id), record.offset(), time_ms)
            else:
                forgotten_ms = answers.forgotten_ms
                earlier = answers.find(answer_key(key, message.id), *placed[:2])
        if earlier is not None:
            self.out.stats.repeated += 1
            if (refused := asked_before(earlier[0], mark)) is None:
                if message.reply_to is not None:
                    self.out.reply(message, earlier[1])
                return None
        else:
            if message.due_ms is not None or self._deadlines.active:
                waiting = self.timers.waiting(key, message)
                refused = self.timers.refuses(message, waiting, time_ms)
            if answers is not None and refused is None and waiting is None and (placed is None or not placed.new):
                refused = too_late(message, answers.idempotency, time_ms, forgotten_ms)
        if refused is None:
            return mark
        # Not remembered: of this id another reply is, or none can be given for certain.
        self.out.stats.reject(self.aggregate.name, refused.reason)
        if message.reply_to is not None:
            self.out.reply(message, self._reply(record, message, mark, refused, placed))
        return None

    def _answer(self, key: bytes, record: Record, message: CommandMessage, reply: bytes, placed: Placed | None) -> None:
        """Remembers a reply, and sends it."""
        if self.answers is not None:
            name = answer_key(key, message.id)
            if placed is None:
                self.answers.remember(name, reply, record.offset(), record.timestamp()[1], message.issued_ms)
            else:
                self.answers.remember(name, reply, *placed[:2], message.issued_ms, record.offset())
        if message.reply_to is not None:
            self.out.reply(message, reply)

    def _decide(self, key: bytes, record: Record, message: CommandMessage, placed: Placed | None) -> Decided | Rejected:
        aggregate, stats = self.aggregate, self.out.stats
        before = state = self.table.get(key)
        decision = command_to_event(aggregate, state, message, record.timestamp()[1])
        if isinstance(decision, Rejected):
            stats.reject(aggregate.name, decision.reason)
            if placed is not None:
                self._release(key, record, message, placed)
            return decision
        decided, effects = decision
        events = []
        for event in decided:
            state = event_to_state(aggregate, state, event)
            events.append(self.encode_event(event))
        timed: Rows = ()
        asks: Records = []
        if effects:
            timed = self.timers.rows(effects, key, message, self._place(record))
            asks = self.asking.records(effects, key, message, self._place(record))
        reserved = () if placed is None else placed.reserved
        if self.claims is not None and (reserved or self.claims.touched(before, state)):
            self.claims.settle(key, record.offset(), message, before, state, reserved)
        if events:
            for data in events:
                self.out.emit(self.topic, key, data, self.partition)
            stats.events += len(events)
            self.table.put(key, state)
        if timed:
            self.timers.keep(timed)
        for topic, to, data in asks:
            self.out.emit(topic, to, data, -1)
        stats.asked += len(asks)
        return state, events

    def _release(self, key: bytes, record: Record, message: CommandMessage, placed: Placed) -> None:
        """Gives up what was reserved for a command that changes nothing."""
        if self.claims is not None and placed.reserved:
            state = self.table.get(key)
            self.claims.settle(key, record.offset(), message, state, state, placed.reserved)

    def _reply(
        self,
        record: Record,
        message: CommandMessage,
        mark: int,
        decided: Decided | Rejected | Parked,
        placed: Placed | None,
    ) -> bytes:
        body: Acceptance | Rejected | Parked
        if isinstance(decided, Rejected | Parked):
            body = decided
        else:
            state, events = decided
            shown = tuple(events) if sum(map(len, events)) <= REPLY_EVENTS_BYTES_MAX else ()
            body = Acceptance(0 if state is None else state.version, len(events), shown)
        place = self.partition, record.offset(), message.issued_ms, record.timestamp()[1]
        later = () if placed is None else placed[:2]
        return self.encode_reply(ReplyMessage(message.id, self.aggregate.name, *place, mark, body, *later))


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
