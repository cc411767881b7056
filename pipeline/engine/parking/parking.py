"""The records of one partition that wait: parked, kept in order behind one another, and taken up again.

What is done when stands in `flow.waiting`; here it is applied to the queues, within the open transaction.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import inf
from typing import TYPE_CHECKING, Any, NamedTuple

from pipeline.engine.parking.misplaced import misplaced
from pipeline.engine.parking.parking_log import Audit, Notices, describe_error
from pipeline.engine.plan import SourceTopic
from pipeline.engine.ports import TP, Record
from pipeline.engine.state.parked_table import ParkedRecord, ParkedTable, ReplayedRecord, queued
from pipeline.engine.steps.step import DecidedAt, Step
from pipeline.engine.steps.unique_values import NeedsReservation
from pipeline.errors import Misplaced, NotParked, PipelineError, UndecodableRecord
from pipeline.flow import RULES, Action, KeyEvent, KeyState, ReservationReply, place_of
from pipeline.flow.functions.raised import is_topologys
from pipeline.model import CommandMessage, EventMessage, Rejected, is_barrier
from pipeline.model.records.partitioning import partition_of

if TYPE_CHECKING:
    from pipeline.engine.context import LaneContext

EVENTS = {NeedsReservation: KeyEvent.NEEDS_VALUE, Misplaced: KeyEvent.ELSEWHERE}  # by what was raised
BEHIND_CAUSE = "it waits behind a parked record of its key"


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
        self.partitions = 1  # of the source topic, as the task knows it once it starts
        self._nodes, self._producer, self._stats = steps, context.ports.producer, context.stats
        self._notices = Notices(self._producer, self._stats, context.plan.parked, source_topic.queue)
        self._clock, self._error_rate, self._tracing = context.ports.clock, context.error_rate, context.tracing

    def decode(self, key: bytes | None, record: Record) -> Any:
        """Return a record's message, or a ReservationReply; None for a barrier, and if this service does not follow it.

        Raises UndecodableRecord, also if its key is none.
        """
        try:
            message = self.source_topic.codec.decode(record.value())
        except UndecodableRecord:
            if not is_barrier(record.value(), record.headers()):
                raise
            self._stats.barriers += 1
            return None
        check_key(key)
        return None if message is None or (self.source_topic.envelope and message.body is None) else message

    def state(self, key: bytes) -> KeyState:
        """Return what the first record of a key waits for."""
        first = self.queue.first(key) if key in self.queue.held else None
        return KeyState.FREE if first is None else KeyState(first.reason)

    # --- a record arrives ---------------------------------------------------------------------------------------------

    def queue_up(self, key: bytes, record: Record, *, bare: bool = False, refused: Exception | None = None) -> None:
        """Put a record behind those of its key that wait. A command whose id was answered gets its reply at once.

        `refused`: what the broker said to the effects of the record.
        """
        new, command_id = False, ""
        try:
            message = self.decode(key, record)
        except UndecodableRecord:
            pass  # it shows again when its turn comes
        else:
            if isinstance(message, ReservationReply):
                self.take_reply(key, record, message, refused)
                return
            if message is None or any(node.reply_if_known(key, record, message) for node in self._nodes):
                return
            if RULES[self.state(key), KeyEvent.ARRIVES].action is Action.QUEUE_AND_REPLY:
                self._tell_parked(record, message, BEHIND_CAUSE)
            # One that repeats a command before it is to be looked up when its turn comes, however long that takes.
            command_id = id_of(message)
            new = not self.queue.has(key, command_id)
        reason = KeyState.MISPLACED if self._is_misplaced(key) else KeyState.BEHIND
        self.hold(record, reason, new=new, id=command_id, bare=bare)

    def put_aside(
        self,
        record: Record,
        error: BaseException,
        message: Any = None,
        done: tuple[str, ...] = (),
        *,
        bare: bool = False,
        beside: int | None = None,
    ) -> None:
        """Open the queue of a record's key. `done`: names of the nodes that have folded it already.

        `beside`: where the task is, if the record was folded for nodes that are built beside the others.
        """
        entry = self.hold(record, KeyState.FAILED, done=done, new=message is not None, id=id_of(message), bare=bare)
        cause = self._stop_at(record.key(), entry, error, beside=beside)
        if not isinstance(error, NeedsReservation):
            if message is not None:
                self._tell_parked(record, message, cause)
            self._error_rate.warn(self.tp, record.offset(), record.key() or b"", cause, error, ids_of(message))

    def put_elsewhere(self, key: bytes, record: Record, message: Any) -> None:
        """Park a record whose key belongs to another partition. Nothing here folds it, ever.

        A command whose id was answered here gets its reply at once.
        """
        if not any(node.reply_if_known(key, record, message) for node in self._nodes):
            self._stats.misplaced += 1
            self.put_aside(record, self._misplaced(key), message)

    def skip(self, record: Record, error: Exception, *, bare: bool) -> None:
        """Put aside a record whose effects the broker refuses, as there are too many.

        `bare`: without value and headers, which still stand where the record came from.
        """
        key, message = record.key() or b"", None
        if key in self.queue.held:
            self.queue_up(key, record, bare=bare, refused=error)
            return
        try:
            message = self.decode(key, record)
        except UndecodableRecord as undecodable:
            error = undecodable
        if not isinstance(message, ReservationReply):  # one for a key where nothing waits has no effect
            self.put_aside(record, error, message, bare=bare)

    def hold(self, record: Record, reason: KeyState, **more: Any) -> ParkedRecord:
        """Put a record at the end of its key's queue: from now on all that arrives for the key waits behind it.

        `more`: fields of `ParkedRecord`.
        """
        fields: dict[str, Any] = {"bare": False, "cause": "", "traceback": "", "done": (), "new": False} | more
        entry = queued(record, *self.tp, reason=reason.value, queued_ms=self._clock.time_ms(), **fields)
        self.queue.add(record.key() or b"", entry)
        return entry

    # --- keys of other partitions -------------------------------------------------------------------------------------

    def _is_misplaced(self, key: bytes) -> bool:
        return bool(key) and partition_of(key, self.partitions) != self.tp.partition

    def _misplaced(self, key: bytes) -> Misplaced:
        return misplaced(self.tp, key, self.partitions, self.source_topic)

    def _send_home(self, key: bytes, entry: ParkedRecord, message: Any) -> None:
        """Send a record to the partition of its key. Raises Misplaced if it would be rejected there, unread."""
        if any(node.would_expire(message, self._clock.time_ms()) for node in self._nodes if message is not None):
            raise Misplaced(
                f"the key {key.decode()!r} belongs to another partition, where the command would be rejected as "
                "expired: it has waited here for longer than ids are remembered. Send what it asks for with another "
                "id, and discard it"
            )
        self._producer.park(self.tp.topic, key, entry.value, entry.headers)

    # --- an operator redrives or discards -----------------------------------------------------------------------------

    def redrive(self, key: bytes, limit: int, audit: Audit, now: TakenUp, until_s: float = inf) -> Drained:
        """Fold the records of a key's queue in order until one raises again, `limit` at most. Raises NotParked.

        None is begun once the clock shows `until_s`, but the first.
        """
        self._check_held(key)
        return self._fold_on(key, limit, audit, now, until_s)

    def refuse(self, key: bytes, error: Exception, audit: Audit, now: TakenUp) -> Drained:
        """Keep the first record of a key parked: the broker refuses its effects."""
        entry = self.queue.first(key)
        assert entry is not None
        return Drained(0, self.queue.held[key], self._stop_at(key, entry, error, audit, now))

    def discard(self, key: bytes, offset: int | None, limit: int, audit: Audit, now: TakenUp) -> Drained:
        """Throw away the first record of a key, which must be that of `offset`; None: `limit` of them, from the first.

        Raises NotParked.
        """
        self._check_held(key)
        done = 0
        while done < (limit if offset is None else 1) and (entry := self.queue.first(key)) is not None:
            if RULES[KeyState(entry.reason), KeyEvent.DISCARD].action is Action.REFUSE:
                return self._reserved_first(key, done)
            if offset is not None and entry.offset != offset:
                raise NotParked(f"the first record that waits is that of offset {entry.offset}, not of {offset}")
            self._reject(key, entry, Rejected("discarded", audit._asdict()), now)
            self._stats.discarded += 1
            self._notices.over("discarded", key, entry, audit, _placed(entry, now))
            done += 1
        return Drained(done, self.queue.held.get(key, 0))

    def _reserved_first(self, key: bytes, done: int) -> Drained:
        return Drained(done, self.queue.held[key], "it waits for a reservation, which releases it by itself")

    def _check_held(self, key: bytes) -> None:
        if key not in self.queue.held:
            raise NotParked(f"no record is parked under the key {key!r} of {self.tp.topic}-{self.tp.partition}")

    # --- a reservation is answered ------------------------------------------------------------------------------------

    def take_reply(self, key: bytes, record: Record, reply: ReservationReply, refused: Exception | None) -> None:
        """Go on with the record that waits for a reservation. One that does not wait any more is left alone.

        `refused`: what the broker said to the effects of that.
        """
        rejected = reply.rejected
        event = KeyEvent.GRANTED if rejected is None else KeyEvent.TAKEN
        entry = self.queue.first(key)
        if entry is None or RULES[KeyState(entry.reason), event].action is Action.IGNORE:
            return
        if reply.place != place_of(*self.tp, entry.offset):
            return
        # What is decided now is decided here and then, however the records came, and whoever folds them.
        now = TakenUp(record.offset(), record.timestamp()[1])
        if rejected is None:
            self.queue.change(key, entry._replace(reserved=(*entry.reserved, reply.value)))
        else:
            self._reject(key, entry, rejected, now)
        if refused is None:
            self._fold_on(key, None, TURN, now)
        elif (first := self.queue.first(key)) is not None:
            self._stop_at(key, first, refused, TURN, now)

    # --- what they share ----------------------------------------------------------------------------------------------

    def _fold_on(self, key: bytes, limit: int | None, audit: Audit, now: TakenUp, until_s: float = inf) -> Drained:
        """Fold the records of a queue in order, up to one that has to wait. `limit`: an operator asks for so many."""
        done = 0
        while (limit is None or done < limit) and (entry := self.queue.first(key)) is not None:
            if done and self._clock.monotonic_s() > until_s:
                break
            if limit is not None and RULES[KeyState(entry.reason), KeyEvent.REDRIVE].action is Action.REFUSE:
                return self._reserved_first(key, done)
            if self._tracing is None:
                again, error = self._fold_again(key, entry, now)
            else:
                with self._tracing.record(self.tp, ReplayedRecord(key, entry)):
                    again, error = self._fold_again(key, entry, now)
            if error is not None:
                return Drained(done, self.queue.held[key], self._stop_at(key, again, error, audit, now))
            self.release(key, again)
            if limit is not None:
                self._stats.redriven += 1
                action = "sent" if self.source_topic.own and self._is_misplaced(key) else "redriven"
                self._notices.over(action, key, again, audit, _placed(again, now))
            done += 1
        return Drained(done, self.queue.held.get(key, 0))

    def _fold_again(self, key: bytes, entry: ParkedRecord, now: TakenUp) -> tuple[ParkedRecord, BaseException | None]:
        """Run the nodes that have not folded a queued record. The entry with those that have, and what was raised."""
        record = ReplayedRecord(key, entry)
        try:
            if entry.bare:
                raise Refused(
                    "it is too large to be queued with its value, which stands only at "
                    f"{entry.topic}-{entry.partition} offset {entry.offset}: send what it asks for in smaller parts, "
                    "and discard it"
                )
            message = self.decode(key, record)
            if self._is_misplaced(key):
                if self.source_topic.own:
                    self._send_home(key, entry, message)
                    return entry, None
                if self.source_topic.has_rows:
                    raise self._misplaced(key)
            for node in self._nodes if message is not None else ():
                if node.name not in entry.done:
                    node.fold(key, record, message, _placed(entry, now))
                    entry = entry._replace(done=(*entry.done, node.name))
        except BaseException as error:
            if not is_topologys(error):
                raise
            return entry, error
        return entry, None

    def _stop_at(
        self,
        key: bytes | None,
        entry: ParkedRecord,
        error: BaseException,
        audit: Audit | None = None,
        now: TakenUp | None = None,
        beside: int | None = None,
    ) -> str:
        """Note why the first record of a key cannot be folded, and do something about it. Return the cause.

        `audit`, `now`: who has had it taken up, and when; None if it has just arrived. `beside`: see `put_aside`.
        """
        self.touched = True
        event = EVENTS.get(type(error), KeyEvent.RAISES)
        action, state = RULES[KeyState(entry.reason), event]
        assert state is not None
        cause, trace = (str(error), "") if action is Action.RESERVE else describe_error(error)
        entry = entry._replace(reason=state.value, cause=cause, traceback=trace)
        self.queue.change(key or b"", entry)
        if isinstance(error, NeedsReservation):
            self._reserve(error)
        else:
            self._notices.parked(key, entry, audit, None if now is None else _placed(entry, now), beside)
            if audit is TURN:
                self._tell_queue_parked(key or b"", cause)
        return cause

    def _reserve(self, wanted: NeedsReservation) -> None:
        self._producer.produce(wanted.topic, wanted.key, wanted.value, -1)

    def _reject(self, key: bytes, entry: ParkedRecord, rejected: Rejected, now: TakenUp) -> None:
        """Reject the first record of a key, and take it out of the queue."""
        record = ReplayedRecord(key, entry)
        try:
            message = self.decode(key, record)
        except UndecodableRecord:
            pass  # nobody waits for a reply
        else:
            for node in self._nodes:
                if node.name not in entry.done:
                    node.reject(key, record, message, _placed(entry, now), rejected)
        self.release(key, entry)

    def release(self, key: bytes, entry: ParkedRecord) -> None:
        """Take the first record of a key out of its queue, as it has had its effect, or will have none."""
        self.queue.take(key, entry.offset)
        self.touched = True

    def _tell_queue_parked(self, key: bytes, cause: str) -> None:
        """Reply to all commands of a key that they are parked: while a value was reserved, none was told so."""
        for entry in self.queue.entries(key):
            record = ReplayedRecord(key, entry)
            try:
                message = self.decode(key, record)
            except UndecodableRecord:
                continue
            self._tell_parked(record, message, cause)
            cause = BEHIND_CAUSE

    def _tell_parked(self, record: Record, message: Any, cause: str) -> None:
        for node in self._nodes:
            node.tell_parked(record, message, cause)


def check_key(key: bytes | None) -> None:
    """Raise UndecodableRecord if that is no key."""
    if not key:
        raise UndecodableRecord("no key; the key says which aggregate or row is meant")
    try:
        key.decode()
    except UnicodeDecodeError as error:
        raise UndecodableRecord(f"the key is not text: {error}") from error


def id_of(message: Any) -> str:
    """The id of a command; empty for anything else."""
    return message.id if isinstance(message, CommandMessage) else ""


def ids_of(message: Any) -> dict[str, str]:
    """The ids of a command or event, as log lines name them."""
    if isinstance(message, CommandMessage):
        return {"correlation_id": message.correlation_id, "command_id": message.id}
    if isinstance(message, EventMessage):
        return {"correlation_id": message.correlation_id, "command_id": message.command_id}
    return {}


def _placed(entry: ParkedRecord, now: TakenUp) -> DecidedAt:
    return DecidedAt(now.offset, max(entry.time_ms, now.time_ms), entry.new, entry.reserved)
