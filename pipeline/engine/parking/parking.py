"""The records of one partition that wait: put aside, kept in order behind one another, and taken up again.

A record waits because it has raised (`ERROR`), because one of its key waits before it (`BEHIND`), or until a unique
value is reserved for it (`RESERVING`). All of that is part of the transaction in which it happens.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from pipeline.engine.parking.parking_log import Audit, Notices, describe_error
from pipeline.engine.plan import SourceTopic
from pipeline.engine.ports import TP, Record
from pipeline.engine.state.parked_table import (
    BEHIND,
    ERROR,
    RESERVING,
    ParkedRecord,
    ParkedTable,
    ReplayedRecord,
    queued,
)
from pipeline.engine.steps.step import DecidedAt, Step
from pipeline.engine.steps.unique_values import NeedsReservation, place_of, reserved_by
from pipeline.errors import NeedsOperator, NotParked, PipelineError, Retryable, UndecodableRecord
from pipeline.model import CommandMessage, Parked, Rejected, ReplyMessage, is_barrier

if TYPE_CHECKING:
    from pipeline.engine.context import LaneContext

# What the engine itself raises while a step runs; any other exception is the topology's, and parks the record.
ENGINE = (Retryable, NeedsOperator, MemoryError)


class Drained(NamedTuple):
    """What came of a redrive or a discard. `left`: still in the key's queue; `cause`: of the one that stopped it."""

    done: int
    left: int
    cause: str | None = None


class TakenUp(NamedTuple):
    """When a record that has waited is taken up: after that of `offset` was folded; no earlier than `time_ms`."""

    offset: int
    time_ms: int


TURN = Audit("the engine", "its turn has come, as a value is reserved")


class Refused(PipelineError):
    """A queued record cannot be redriven."""


class Parking:
    """Keeps the `queue` of a partition. `touched`: whether that has changed since the last commit."""

    def __init__(
        self, tp: TP, source_topic: SourceTopic, steps: Sequence[Step], queue: ParkedTable, context: LaneContext
    ) -> None:
        self.tp, self.source_topic, self.queue = tp, source_topic, queue
        self.touched = False
        self._nodes, self._producer, self._stats = steps, context.ports.producer, context.stats
        self._notices = Notices(self._producer, self._stats, context.plan.parked, source_topic.queue)
        self._clock, self._error_rate = context.ports.clock, context.error_rate

    def decode(self, key: bytes | None, record: Record) -> Any:
        """A record's value; None for a kind that this service does not follow.

        Raises UndecodableRecord, also if its key is none.
        """
        message = self.source_topic.codec.decode(record.value())
        check_key(key)
        return None if message is None or (self.source_topic.envelope and message.body is None) else message

    def take_control_record(self, key: bytes | None, record: Record) -> bool:
        """Whether a record that cannot be decoded is one of the engine's own, and has had its effect."""
        if is_barrier(record.value(), record.headers()):
            self._stats.barriers += 1
            return True
        return self._take_reservation_reply(key, record)

    # --- put aside ----------------------------------------------------------------------------------------------------

    def queue_up(self, key: bytes, record: Record, *, bare: bool = False) -> None:
        """Puts a record behind those of its key that wait; a command that needs no decision is answered at once."""
        new, command_id, cause = False, "", "it waits behind a parked record of its key"
        try:
            message = self.decode(key, record)
        except UndecodableRecord:
            if self.take_control_record(key, record):
                return
            # That shows again when its turn comes.
        else:
            if message is None or any(node.reply_if_known(key, record, message) for node in self._nodes):
                return
            if not self._is_reserving(key):  # it will not be long
                for node in self._nodes:
                    node.tell_parked(record, message, cause)
            # One that repeats a command before it is to be looked up when its turn comes, however long that takes.
            command_id = id_of(message)
            new = not self.queue.has(key, command_id)
        self.hold(record, BEHIND, new=new, id=command_id, bare=bare)

    def put_aside(
        self, record: Record, error: Exception, message: Any = None, done: tuple[str, ...] = (), *, bare: bool = False
    ) -> None:
        """Opens the queue of a record's key. `done`: names of the nodes that have folded it already."""
        if isinstance(error, NeedsReservation):
            self.hold(record, RESERVING, cause=str(error), done=done, new=True, id=id_of(message))
            self._reserve(error)
            return
        cause, trace = describe_error(error)
        new = message is not None
        entry = self.hold(record, ERROR, cause=cause, traceback=trace, done=done, new=new, id=id_of(message), bare=bare)
        if new:
            for node in self._nodes:
                node.tell_parked(record, message, cause)
        self._notices.parked(record.key(), entry)
        self._error_rate.warn(self.tp, record.offset(), record.key() or b"", cause)

    def skip(self, record: Record, error: Exception, *, bare: bool) -> None:
        """Puts a record aside of which came more than the broker takes.

        `bare`: without value and headers, which still stand where the record came from.
        """
        key = record.key() or b""
        if self._take_reservation_reply(key, record, error):
            return
        if key in self.queue.held:
            self.queue_up(key, record, bare=bare)
            return
        try:
            message = self.decode(key, record)
        except UndecodableRecord as undecodable:
            self.put_aside(record, undecodable, bare=bare)
        else:
            self.put_aside(record, error, message, bare=bare)

    def hold(self, record: Record, reason: str, **more: Any) -> ParkedRecord:
        """Puts a record at the end of its key's queue: from now on all that comes for the key waits behind it.

        `more`: fields of `ParkedRecord`.
        """
        fields: dict[str, Any] = {
            "bare": False,
            "cause": "",
            "traceback": "",
            "done": (),
            "new": False,
            "reserved": (),
            "id": "",
        } | more
        entry = queued(record, *self.tp, reason=reason, queued_ms=self._clock.time_ms(), **fields)
        self.queue.add(record.key() or b"", entry)
        return entry

    # --- taken up again by hand ---------------------------------------------------------------------------------------

    def redrive(self, key: bytes, limit: int, audit: Audit, now: TakenUp) -> Drained:
        """Folds the records of a key's queue in order, `limit` at most, until one raises again. Raises NotParked."""
        self._check_held(key)
        done = 0
        while done < limit and (entry := self.queue.first(key)) is not None:
            if entry.reason == RESERVING:
                return self._reserved_first(key, done)
            again, error = self._folded_again(key, entry, now)
            if error is not None:
                self._stop_at(key, again, error, audit, now)
                return Drained(done, self.queue.held[key], describe_error(error)[0])
            self.release(key, again)
            self._stats.redriven += 1
            self._notices.over("redriven", key, again, audit, _placed(again, now))
            done += 1
        return Drained(done, self.queue.held.get(key, 0))

    def refuse(self, key: bytes, error: Exception, audit: Audit, now: TakenUp) -> Drained:
        """Keep the first record of a key parked: the broker refuses its effects."""
        entry = self.queue.first(key)
        assert entry is not None
        self._stop_at(key, entry, error, audit, now)
        return Drained(0, self.queue.held[key], describe_error(error)[0])

    def discard(self, key: bytes, offset: int | None, limit: int, audit: Audit, now: TakenUp) -> Drained:
        """Throws the first record of a key away, which must be that of `offset`; None: `limit` of them, from the first.

        Raises NotParked.
        """
        self._check_held(key)
        done = 0
        while done < (limit if offset is None else 1) and (entry := self.queue.first(key)) is not None:
            if entry.reason == RESERVING:
                return self._reserved_first(key, done)
            if offset is not None and entry.offset != offset:
                raise NotParked(f"the first record that waits is that of offset {entry.offset}, not of {offset}")
            self._reject(key, entry, Rejected("discarded", audit._asdict()), now)
            self.release(key, entry)
            self._stats.discarded += 1
            self._notices.over("discarded", key, entry, audit, _placed(entry, now))
            done += 1
        return Drained(done, self.queue.held.get(key, 0))

    def release(self, key: bytes, entry: ParkedRecord) -> None:
        """Takes the first record of a key out of its queue, as it has had its effect; or will have none."""
        self.queue.take(key, entry.offset)
        self.touched = True

    def _reserved_first(self, key: bytes, done: int) -> Drained:
        return Drained(done, self.queue.held[key], "it waits for a reservation, which releases it by itself")

    def _check_held(self, key: bytes) -> None:
        if key not in self.queue.held:
            raise NotParked(f"no record is parked under the key {key!r} of {self.tp.topic}-{self.tp.partition}")

    # --- taken up again as a value is reserved ------------------------------------------------------------------------

    def _is_reserving(self, key: bytes) -> bool:
        first = self.queue.first(key)
        return first is not None and first.reason == RESERVING

    def _reserve(self, wanted: NeedsReservation) -> None:
        self._producer.produce(wanted.topic, wanted.key, wanted.value, -1)

    def _take_reservation_reply(self, key: bytes | None, record: Record, refused: Exception | None = None) -> bool:
        """Whether a record is no command but the answer to one that reserves a value; the record that waits goes on.

        `refused`: what the broker has said to what came of it.
        """
        if self.source_topic.reply is None or not key:
            return False
        try:
            reply: ReplyMessage = self.source_topic.reply.decode(record.value())
        except UndecodableRecord:
            return False
        entry = self.queue.first(key) if key in self.queue.held else None
        if entry is None or entry.reason != RESERVING or isinstance(reply.body, Parked):
            return True
        claim = reserved_by(place_of(*self.tp, entry.offset), reply.command_id)
        if claim is None:
            return True
        # What is decided now is decided here and then, however the records came, and whoever folds them.
        now = TakenUp(record.offset(), record.timestamp()[1])
        if isinstance(reply.body, Rejected):
            unique, _, _ = claim.partition("/")
            self._reject(key, entry, Rejected(reply.body.reason, {"unique": unique}), now)
            self.release(key, entry)
        else:
            self.queue.change(key, entry._replace(reserved=(*entry.reserved, claim)))
        if refused is None:
            self._go_on(key, now)
        elif (first := self.queue.first(key)) is not None:
            self._stop_at(key, first, refused, TURN, now)
        return True

    def _go_on(self, key: bytes, now: TakenUp) -> None:
        """Folds the records of a key, up to one that has to wait again."""
        while (entry := self.queue.first(key)) is not None:
            again, error = self._folded_again(key, entry, now)
            if error is not None:
                self._stop_at(key, again, error, TURN, now)
                return
            self.release(key, again)

    # --- both ---------------------------------------------------------------------------------------------------------

    def _folded_again(self, key: bytes, entry: ParkedRecord, now: TakenUp) -> tuple[ParkedRecord, Exception | None]:
        """Runs the nodes that have not folded a queued record. The entry with those that have, and what was raised."""
        record = ReplayedRecord(key, entry)
        try:
            if entry.bare:
                raise Refused(
                    "it is too large to be queued with its value, which stands only at "
                    f"{entry.topic}-{entry.partition} offset {entry.offset}: send what it asks for in smaller parts, "
                    "and discard it"
                )
            message = self.decode(key, record)
            for node in self._nodes if message is not None else ():
                if node.name not in entry.done:
                    node.fold(key, record, message, _placed(entry, now))
                    entry = entry._replace(done=(*entry.done, node.name))
        except ENGINE:
            raise
        except Exception as error:
            return entry, error
        return entry, None

    def _stop_at(self, key: bytes, entry: ParkedRecord, error: Exception, audit: Audit, now: TakenUp) -> None:
        """A record has raised again, or for the first time, now that its turn has come."""
        self.touched = True
        if isinstance(error, NeedsReservation):
            self.queue.change(key, entry._replace(reason=RESERVING, cause=str(error), traceback=""))
            self._reserve(error)
            return
        cause, trace = describe_error(error)
        entry = entry._replace(reason=ERROR, cause=cause, traceback=trace)
        self.queue.change(key, entry)
        self._notices.parked(key, entry, audit, _placed(entry, now))

    def _reject(self, key: bytes, entry: ParkedRecord, rejected: Rejected, now: TakenUp) -> None:
        record = ReplayedRecord(key, entry)
        try:
            message = self.decode(key, record)
        except UndecodableRecord:
            return  # nobody waits for an answer
        for node in self._nodes:
            if node.name not in entry.done:
                node.reject(key, record, message, _placed(entry, now), rejected)


def check_key(key: bytes | None) -> None:
    """Raises UndecodableRecord if that is no key."""
    if not key:
        raise UndecodableRecord("no key; the key says which aggregate or row is meant")
    try:
        key.decode()
    except UnicodeDecodeError as error:
        raise UndecodableRecord(f"the key is not text: {error}") from error


def id_of(message: Any) -> str:
    """The id of a command; empty for anything else."""
    return message.id if isinstance(message, CommandMessage) else ""


def _placed(entry: ParkedRecord, now: TakenUp) -> DecidedAt:
    return DecidedAt(now.offset, max(entry.time_ms, now.time_ms), entry.new, entry.reserved)
