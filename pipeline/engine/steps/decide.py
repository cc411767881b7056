"""The step of an aggregate: decides commands, keeps the state, and replies. No I/O here."""

from __future__ import annotations

from typing import Any, NamedTuple

from pipeline.engine.ports import Record
from pipeline.engine.state.replies import ReplyTable, reply_key
from pipeline.engine.state.table import Table
from pipeline.engine.steps.ask import AskSender, Records
from pipeline.engine.steps.scheduler import WITHOUT, CommandPlace, Rows, Scheduler
from pipeline.engine.steps.step import DecidedAt, Encode, Output, Step
from pipeline.engine.steps.unique_values import UniqueValues
from pipeline.flow import (
    Copies,
    asked_before,
    command_to_event,
    event_to_state,
    fingerprint,
    too_late,
    without_metadata,
)
from pipeline.model import Acceptance, Aggregate, CommandMessage, Parked, Rejected, ReplyMessage, StateMessage

Decided = tuple[StateMessage | None, list[bytes]]  # the state after the events, and these as they were sent
REPLY_EVENTS_BYTES_MAX = 64 * 1024  # a reply with more says how many events there are, and leaves them out


class CommandCodecs(NamedTuple):
    """Encoders of commands, events and replies."""

    command: Encode
    event: Encode
    reply: Encode


class Parts(NamedTuple):
    """What an aggregate's step decides with, in one partition.

    With `reply_table`, a command whose id was answered before gets the stored reply, and nothing else happens. With
    `unique_values`, a command that takes a value not reserved for it raises NeedsReservation. `scheduler` puts a
    scheduled command off; it is decided when it comes again once due. With `copies`, `decide` receives them, and
    events and reply record the position that was read.
    """

    table: Table
    reply_table: ReplyTable | None
    scheduler: Scheduler
    ask_sender: AskSender
    unique_values: UniqueValues | None
    copies: Copies | None


class DecideStep(Step):
    """command -> events, state and reply: `<name>.command` into `<name>.event` and the table `<name>`, same partition.

    `topic`: of the events.
    """

    def __init__(
        self,
        aggregate: Aggregate[Any, Any, Any],
        codecs: CommandCodecs,
        topic: str,
        partition: int,
        parts: Parts,
        out: Output,
    ) -> None:
        self.name = f"decide:{aggregate.name}"
        self.aggregate, self.topic, self.partition, self.out = aggregate, topic, partition, out
        self.table, self.reply_table, self.scheduler, self.ask_sender, self.unique_values, self._copies = parts
        self._deadlines = self.scheduler.table or WITHOUT
        self.encode_command, self.encode_event, self.encode_reply = codecs

    def fold(self, key: bytes, record: Record, message: CommandMessage, placed: DecidedAt | None = None) -> None:
        self.out.stats.commands += 1
        if (mark := self._admit(key, record, message, placed)) is None:
            return
        timed = message.due_ms is not None or self._deadlines.active
        if timed and self.scheduler.put_off_if_early(key, message, self._place(record)):
            return
        decided = self._decide(key, record, message, placed)
        if timed:
            self.scheduler.forget(key, message)
        if self.reply_table is not None or message.reply_to is not None:
            read = None if self._copies is None else self._copies.position
            self._answer(key, record, message, self._reply(record, message, mark, decided, placed, read), placed)

    def reply_if_known(self, key: bytes, record: Record, message: CommandMessage) -> bool:
        return self._admit(key, record, message, None) is None

    def tell_parked(self, record: Record, message: CommandMessage, cause: str) -> None:
        if message.reply_to is not None:
            self.out.reply(message, self._reply(record, message, 0, Parked(cause), None))

    def would_expire(self, message: CommandMessage, time_ms: int) -> bool:
        table = self.reply_table
        return table is not None and too_late(message, table.idempotency, time_ms, 0) is not None

    def reject(
        self, key: bytes, record: Record, message: CommandMessage, placed: DecidedAt, rejected: Rejected
    ) -> None:
        if (mark := self._admit(key, record, message, placed)) is None:
            return
        self._release(key, record, message, placed)
        if message.due_ms is not None or self._deadlines.active:
            self.scheduler.forget(key, message)
        self.out.stats.reject(self.aggregate.name, rejected.reason)
        self._answer(key, record, message, self._reply(record, message, mark, rejected, placed), placed)

    def _place(self, record: Record) -> CommandPlace:
        return CommandPlace(self.partition, record.offset(), record.timestamp()[1])

    def _admit(self, key: bytes, record: Record, message: CommandMessage, placed: DecidedAt | None) -> int | None:
        """Return the command's fingerprint if it must be decided; 0 if no replies are kept.

        Otherwise send the stored reply, or the rejection `expired` or `id_reused`, and return None. A parked command
        was looked up on arrival. Since then only commands before it in its queue can have been answered.
        """
        time_ms, reply_table = record.timestamp()[1], self.reply_table
        mark, forgotten_ms = 0, 0
        earlier = waiting = refused = None
        if reply_table is not None:
            mark = fingerprint(self.encode_command(without_metadata(message)))
            if placed is None:
                forgotten_ms = reply_table.expire_up_to(record.offset(), time_ms)
                earlier = reply_table.find(reply_key(key, message.id), record.offset(), time_ms)
            else:
                forgotten_ms = reply_table.forgotten_ms
                earlier = reply_table.find(reply_key(key, message.id), *placed[:2])
        if earlier is not None:
            self.out.stats.repeated += 1
            if (refused := asked_before(earlier[0], mark)) is None:
                if message.reply_to is not None:
                    self.out.reply(message, earlier[1])
                return None
        else:
            if message.due_ms is not None or self._deadlines.active:
                waiting = self.scheduler.waiting(key, message)
                refused = self.scheduler.rejection(message, waiting, time_ms)
            if reply_table is not None and refused is None and waiting is None and (placed is None or not placed.new):
                refused = too_late(message, reply_table.idempotency, time_ms, forgotten_ms)
        if refused is None:
            return mark
        # Not stored: another reply of this id is, or none can be given for certain.
        self.out.stats.reject(self.aggregate.name, refused.reason)
        if message.reply_to is not None:
            self.out.reply(message, self._reply(record, message, mark, refused, placed))
        return None

    def _answer(
        self, key: bytes, record: Record, message: CommandMessage, reply: bytes, placed: DecidedAt | None
    ) -> None:
        """Store a reply, and send it if the command asks for one."""
        if self.reply_table is not None:
            name = reply_key(key, message.id)
            if placed is None:
                self.reply_table.add(name, reply, record.offset(), record.timestamp()[1], message.issued_ms)
            else:
                self.reply_table.add(name, reply, *placed[:2], message.issued_ms, record.offset())
        if message.reply_to is not None:
            self.out.reply(message, reply)

    def _decide(
        self, key: bytes, record: Record, message: CommandMessage, placed: DecidedAt | None
    ) -> Decided | Rejected:
        aggregate, stats = self.aggregate, self.out.stats
        before = state = self.table.get(key)
        decision = command_to_event(aggregate, key, state, message, record.timestamp()[1], self._copies)
        if isinstance(decision, Rejected):
            stats.reject(aggregate.name, decision.reason)
            if placed is not None:
                self._release(key, record, message, placed)
            return decision
        decided, effects = decision
        events = []
        for event in decided:
            state = event_to_state(aggregate, key, state, event)
            events.append(self.encode_event(event))
        timed: Rows = ()
        asks: Records = []
        if effects:
            timed = self.scheduler.rows(effects, key, message, self._place(record))
            asks = self.ask_sender.records(effects, key, message, self._place(record))
        reserved = () if placed is None else placed.reserved
        if self.unique_values is not None and (reserved or self.unique_values.touched(before, state)):
            self.unique_values.check_and_release(key, record.offset(), message, before, state, reserved)
        if events:
            for data in events:
                self.out.emit(self.topic, key, data, self.partition)
            stats.events += len(events)
            self.table.put(key, state)
        if timed:
            self.scheduler.keep(timed)
        for topic, to, data in asks:
            self.out.emit(topic, to, data, -1)
        stats.asked += len(asks)
        return state, events

    def _release(self, key: bytes, record: Record, message: CommandMessage, placed: DecidedAt) -> None:
        """Release the values reserved for a command that changes nothing."""
        if self.unique_values is not None and placed.reserved:
            state = self.table.get(key)
            self.unique_values.check_and_release(key, record.offset(), message, state, state, placed.reserved)

    def _reply(
        self,
        record: Record,
        message: CommandMessage,
        mark: int,
        decided: Decided | Rejected | Parked,
        placed: DecidedAt | None,
        read: str | None = None,
    ) -> bytes:
        body: Acceptance | Rejected | Parked
        if isinstance(decided, Rejected | Parked):
            body = decided
        else:
            state, events = decided
            shown = tuple(events) if sum(map(len, events)) <= REPLY_EVENTS_BYTES_MAX else ()
            body = Acceptance(0 if state is None else state.version, len(events), shown)
        place = self.partition, record.offset(), message.issued_ms, record.timestamp()[1]
        later = (-1, -1) if placed is None else placed[:2]
        # Only who asks within the pipeline decides on a reply; what comes of that belongs to the same request.
        asked = message.causation_id is not None and message.reply_to is not None
        request = message.correlation_id if asked else None
        return self.encode_reply(
            ReplyMessage(message.id, self.aggregate.name, *place, mark, body, *later, read, request)
        )
