"""The task: one source partition, the tables it feeds and the nodes that fold its records."""

from __future__ import annotations

import traceback
from collections.abc import Sequence
from typing import Any, NamedTuple

from pipeline.errors import (
    BrokerUnreachable,
    DatabaseUnusable,
    LaneFatal,
    NotParked,
    PipelineError,
    StateDirectoryError,
    TableUnavailable,
    TransactionAborted,
    UndecodableRecord,
)
from pipeline.model import NEVER, CommandMessage, Parked, Rejected, ReplyMessage, is_barrier
from pipeline.runtime.answers import Answers
from pipeline.runtime.claims import Unreserved, place_of, reserved_by
from pipeline.runtime.deadlines import Deadlines, Fired
from pipeline.runtime.nodes import Placed
from pipeline.runtime.ports import TP, Clock, Producer, Record, Store
from pipeline.runtime.queue import BEHIND, ERROR, RESERVING, Queue, Queued, Waiting, queued
from pipeline.runtime.raising import Raising
from pipeline.runtime.stats import LaneStats
from pipeline.runtime.table import SharedTable
from pipeline.runtime.wiring import Inlet

CAUSE_BYTES_MAX = 2000  # of the explanation of a parked record
TRACEBACK_CHARACTERS_MAX = 4000  # its end
TRIES_MAX = 5  # of a record that raises a transient error
# What the engine raises of itself; anything else that comes out of a node is the topology's.
ENGINE = (
    TransactionAborted,
    LaneFatal,
    StateDirectoryError,
    TableUnavailable,
    BrokerUnreachable,
    DatabaseUnusable,
    MemoryError,
)


class Drained(NamedTuple):
    """What came of a redrive or a discard. `left`: still in the key's queue; `cause`: of the one that stopped it."""

    done: int
    left: int
    cause: str | None = None


class Audit(NamedTuple):
    """Who has a parked record redriven or discarded, and why."""

    by: str
    why: str


TURN = Audit("the engine", "its turn has come, as a value is reserved")


def id_of(message: Any) -> str:
    """The id of a command; empty for anything else."""
    return message.id if isinstance(message, CommandMessage) else ""


class Refused(PipelineError):
    """A queued record cannot be redriven."""


class Task:
    """Folds one partition. `position` is the next offset to fold, `committed` the last one that was committed.

    Both are None until the task has started, and where the group has no offset yet.
    """

    def __init__(
        self,
        tp: TP,
        inlet: Inlet,
        store: Store,
        producer: Producer,
        stats: LaneStats,
        parked: str,
        clock: Clock,
        raising: Raising,
    ) -> None:
        self.tp, self.inlet, self.store = tp, inlet, store
        self._producer, self._stats, self._parked = producer, stats, parked
        self._clock, self._raising = clock, raising
        tables, self._nodes = inlet.nodes(tp.partition, store, producer, stats)
        self.tables = list(tables.values())
        self._shared = [table for table in self.tables if isinstance(table, SharedTable)]
        queue = tables[inlet.queue]
        assert isinstance(queue, Queue)
        self.queue = queue
        self._answers = next((table for table in self.tables if isinstance(table, Answers)), None)
        self._deadlines = [table for table in self.tables if isinstance(table, Deadlines)]
        self.position: int | None = None
        self.committed: int | None = None
        self.changelogs: dict[str, tuple[int, int]] = {}  # as committed beside it; see Position
        self.running = False
        self.touched = False  # whether something has happened that no record stands for; it is committed like one
        self.tried = -1, 0  # the record that has raised a transient error, and how often
        self._turn_ms: int | None = None  # of the answer to a reservation, while it is dealt with
        self.stalled = False  # whether the fold has stopped before that record, which is to be tried again
        self.unflushed = 0  # rows written to the store since its last flush
        self.flushed_s = 0.0

    def fold(self, records: Sequence[Record]) -> None:
        """Runs every node on every record, in order. One that raises is put aside, and with it its key.

        Stops before a record that raises a transient error and is `stalled`. TransactionAborted where some nodes have
        folded that record already, as only an abort takes that back.
        """
        for table in self._shared:
            table.expect(key for record in records if (key := record.key()))
        decode, nodes, envelope, held = self.inlet.codec.decode, self._nodes, self.inlet.envelope, self.queue.held
        for number, record in enumerate(records):
            key = record.key()
            if held and (key or b"") in held:
                self._queue_up(key or b"", record)
                continue
            try:
                message = self._decoded(decode, key, record)
            except UndecodableRecord as error:
                if not self._steps_over(key, record):
                    self._put_aside(record, error)
                continue
            if message is None or (envelope and message.body is None):
                continue  # a kind of event that this service does not follow
            try:
                for node in nodes:
                    node.fold(key, record, message)
            except ENGINE:
                raise
            except Unreserved as wanted:
                done = tuple(before.name for before in nodes[: nodes.index(node)])
                self.hold(record, RESERVING, cause=str(wanted), done=done, new=True, id=id_of(message))
                self._reserve(wanted)
            except Exception as error:
                done = tuple(before.name for before in nodes[: nodes.index(node)])
                if self._is_to_be_tried_again(record, error):
                    self.position, self.stalled = record.offset(), True
                    self._stats.records += number
                    if done:
                        raise TransactionAborted(f"a transient error: {error!r}") from error
                    return
                self._raising.add(self.tp, record.offset(), error)
                self._put_aside(record, error, message, done)
        self.position = records[-1].offset() + 1
        self._stats.records += len(records)

    def _steps_over(self, key: bytes | None, record: Record) -> bool:
        """Whether a record that cannot be decoded is one of the engine's own, and has had its effect."""
        if is_barrier(record.value(), record.headers()):
            self._stats.barriers += 1
            return True
        return self._takes_answer(key, record)

    @staticmethod
    def _decoded(decode: Any, key: bytes | None, record: Record) -> Any:
        """A record's value. Raises UndecodableRecord, also where its key is none."""
        message = decode(record.value())
        if not key:
            raise UndecodableRecord("no key; the key says which aggregate or row is meant")
        try:
            key.decode()
        except UnicodeDecodeError as error:
            raise UndecodableRecord(f"the key is not text: {error}") from error
        return message

    def _is_to_be_tried_again(self, record: Record, error: Exception) -> bool:
        if not isinstance(error, self.inlet.transient):
            return False
        offset, times = self.tried
        self.tried = record.offset(), times + 1 if offset == record.offset() else 1
        if self.tried[1] >= TRIES_MAX:
            return False
        self._stats.tried_again += 1
        return True

    # --- records that are put aside -----------------------------------------------------------------------------------

    def _queue_up(self, key: bytes, record: Record, *, bare: bool = False) -> None:
        """Puts a record behind those of its key that wait; a command that needs no decision is answered at once."""
        new, command_id, cause = False, "", "it waits behind a parked record of its key"
        try:
            message = self._decoded(self.inlet.codec.decode, key, record)
        except UndecodableRecord:
            if self._steps_over(key, record):
                return
            # That shows again when its turn comes.
        else:
            if message is None or (self.inlet.envelope and message.body is None):
                return
            if any(node.settles(key, record, message) for node in self._nodes):
                return
            if not self._is_reserving(key):  # it will not be long
                for node in self._nodes:
                    node.tell_parked(record, message, cause)
            # One that repeats a command before it is to be looked up when its turn comes, however long that takes.
            command_id = id_of(message)
            new = not self.queue.has(key, command_id)
        self.hold(record, BEHIND, new=new, id=command_id, bare=bare)

    def hold(self, record: Record, reason: str, **more: Any) -> Queued:
        """Puts a record at the end of its key's queue: from now on all that comes for the key waits behind it.

        `reason`: one of queue.ERROR, BEHIND and RESERVING, the last for a record that waits for another one, which
        releases it by `release`. `more`: fields of `Queued`.
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

    def _put_aside(
        self, record: Record, error: Exception, message: Any = None, done: tuple[str, ...] = (), *, bare: bool = False
    ) -> None:
        """Opens the queue of a record's key, in the same transaction as everything else."""
        cause, trace = told(error)
        new = message is not None
        entry = self.hold(record, ERROR, cause=cause, traceback=trace, done=done, new=new, id=id_of(message), bare=bare)
        if new:
            for node in self._nodes:
                node.tell_parked(record, message, cause)
        self._notice("parked", record.key(), entry)
        self._raising.tell(self.tp, record.offset(), record.key() or b"", cause)

    def skip(self, record: Record, error: Exception, *, bare: bool) -> None:
        """Puts a record aside of which came more than the broker takes.

        `bare`: without value and headers, which still stand where the record came from.
        """
        key = record.key() or b""
        if self._takes_answer(key, record, error):
            pass
        elif key in self.queue.held:
            self._queue_up(key, record, bare=bare)
        else:
            try:
                message = self._decoded(self.inlet.codec.decode, key, record)
            except UndecodableRecord as undecodable:
                self._put_aside(record, undecodable, bare=bare)
            else:
                self._put_aside(record, error, message, bare=bare)
        self.position = record.offset() + 1

    def _notice(self, action: str, key: bytes | None, entry: Queued, audit: Audit | None = None) -> None:
        """Says on the service's parked topic what has become of a record: a copy with its cause, or who did what."""
        told: dict[str, object] = {
            "action": action,
            "source-topic": entry.topic,
            "source-partition": entry.partition,
            "source-offset": entry.offset,
            "done": ",".join(entry.done),
        }
        value: bytes | None = None
        headers: list[tuple[str, str | bytes | None]] = []
        if action == "parked":
            self._stats.parked += 1
            value, headers = entry.value, [(name, data) for name, data in entry.headers]
            told |= {"cause": entry.cause, "traceback": entry.traceback}
            told["queue"] = f"{self.inlet.queue}/{entry.partition}/{entry.offset}"
        if audit is not None:
            told |= {"at": self._placed(entry).offset, "at-ms": self._placed(entry).time_ms, **audit._asdict()}
        headers += [(f"parked-{name}", str(text).encode()) for name, text in told.items()]
        if entry.bare:
            headers.append(("parked-without-value", b"too large"))
        self._producer.park(self._parked, key, value, headers)

    # --- and taken up again -------------------------------------------------------------------------------------------

    def redrive(self, key: bytes, limit: int, audit: Audit) -> Drained:
        """Folds the records of a key's queue in order, `limit` at most, until one raises again. Raises NotParked."""
        self._check_held(key)
        done = 0
        while done < limit and (entry := self.queue.first(key)) is not None:
            if entry.reason == RESERVING:
                return Drained(done, self.queue.held[key], "it waits for a reservation, which releases it by itself")
            again, error = self._folded_again(key, entry)
            if error is not None:
                self._stop_at(key, again, error, audit)
                return Drained(done, self.queue.held[key], told(error)[0])
            self.release(key, again)
            self._stats.redriven += 1
            self._notice("redriven", key, again, audit)
            done += 1
        return Drained(done, self.queue.held.get(key, 0))

    # --- records that wait for a reservation --------------------------------------------------------------------------

    def _is_reserving(self, key: bytes) -> bool:
        first = self.queue.first(key)
        return first is not None and first.reason == RESERVING

    def _reserve(self, wanted: Unreserved) -> None:
        self._producer.produce(wanted.topic, wanted.key, wanted.value, -1)

    def _takes_answer(self, key: bytes | None, record: Record, refused: Exception | None = None) -> bool:
        """Whether a record is no command but the answer to one that reserves a value; the record that waits goes on.

        `refused`: what the broker has said to what came of it.
        """
        if self.inlet.reply is None or not key:
            return False
        try:
            reply: ReplyMessage = self.inlet.reply.decode(record.value())
        except UndecodableRecord:
            return False
        entry = self.queue.first(key) if key in self.queue.held else None
        if entry is None or entry.reason != RESERVING or isinstance(reply.body, Parked):
            return True
        claim = reserved_by(place_of(*self.tp, entry.offset), reply.command_id)
        if claim is None:
            return True
        # What is decided now is decided here and then, however the records came, and whoever folds them.
        self.position, self._turn_ms = record.offset() + 1, record.timestamp()[1]
        if isinstance(reply.body, Rejected):
            unique, _, _ = claim.partition("/")
            self._reject(key, entry, Rejected(reply.body.reason, {"unique": unique}))
            self.release(key, entry)
        else:
            entry = entry._replace(reserved=(*entry.reserved, claim))
            self.queue.change(key, entry)
        if refused is None:
            self._go_on(key)
        elif (first := self.queue.first(key)) is not None:
            self._stop_at(key, first, refused, TURN)
        self._turn_ms = None
        return True

    def _go_on(self, key: bytes) -> None:
        """Folds the records of a key, up to one that has to wait again."""
        while (entry := self.queue.first(key)) is not None:
            again, error = self._folded_again(key, entry)
            if error is not None:
                self._stop_at(key, again, error, TURN)
                return
            self.release(key, again)

    def release(self, key: bytes, entry: Queued) -> None:
        """Takes the first record of a key out of its queue, as it has had its effect; or will have none."""
        self.queue.take(key, entry.offset)
        self.touched = True

    def refuse(self, key: bytes, error: Exception, audit: Audit) -> Drained:
        """The broker has refused what came of the first record of a key."""
        entry = self.queue.first(key)
        assert entry is not None
        self._stop_at(key, entry, error, audit)
        return Drained(0, self.queue.held[key], told(error)[0])

    def discard(self, key: bytes, offset: int | None, limit: int, audit: Audit) -> Drained:
        """Throws the first record of a key away, which must be that of `offset`; None: `limit` of them, from the first.

        Raises NotParked.
        """
        self._check_held(key)
        done = 0
        while done < (limit if offset is None else 1) and (entry := self.queue.first(key)) is not None:
            if entry.reason == RESERVING:
                return Drained(done, self.queue.held[key], "it waits for a reservation, which releases it by itself")
            if offset is not None and entry.offset != offset:
                raise NotParked(f"the first record that waits is that of offset {entry.offset}, not of {offset}")
            self._reject(key, entry, Rejected("discarded", audit._asdict()))
            self.release(key, entry)
            self._stats.discarded += 1
            self._notice("discarded", key, entry, audit)
            done += 1
        return Drained(done, self.queue.held.get(key, 0))

    def _reject(self, key: bytes, entry: Queued, rejected: Rejected) -> None:
        record = Waiting(key, entry)
        try:
            message = self._decoded(self.inlet.codec.decode, key, record)
        except UndecodableRecord:
            return  # nobody waits for an answer
        for node in self._nodes:
            if node.name not in entry.done:
                node.reject(key, record, message, self._placed(entry), rejected)

    def _check_held(self, key: bytes) -> None:
        if key not in self.queue.held:
            raise NotParked(f"nothing waits under the key {key!r} of {self.tp.topic}-{self.tp.partition}")

    def _placed(self, entry: Queued) -> Placed:
        assert self.position is not None, "what waits has been folded past"
        latest_ms = self._turn_ms
        if latest_ms is None:
            latest_ms = 0 if self._answers is None else self._answers.latest_ms
        return Placed(self.position - 1, max(entry.time_ms, latest_ms), entry.new, entry.reserved)

    def _folded_again(self, key: bytes, entry: Queued) -> tuple[Queued, Exception | None]:
        """Runs the nodes that have not folded a queued record. The entry with those that have, and what was raised."""
        record = Waiting(key, entry)
        try:
            if entry.bare:
                raise Refused(
                    "it is too large to be queued with its value, which stands only at "
                    f"{entry.topic}-{entry.partition} offset {entry.offset}: send what it asks for in smaller parts, "
                    "and discard it"
                )
            message = self._decoded(self.inlet.codec.decode, key, record)
            if message is None or (self.inlet.envelope and message.body is None):
                return entry, None
            placed = self._placed(entry)
            for node in self._nodes:
                if node.name not in entry.done:
                    node.fold(key, record, message, placed)
                    entry = entry._replace(done=(*entry.done, node.name))
        except ENGINE:
            raise
        except Exception as error:
            return entry, error
        return entry, None

    def _stop_at(self, key: bytes, entry: Queued, error: Exception, audit: Audit | None = None) -> None:
        """A record has raised again, or for the first time, now that its turn has come."""
        if isinstance(error, Unreserved):
            self.queue.change(key, entry._replace(reason=RESERVING, cause=str(error), traceback=""))
            self.touched = True
            self._reserve(error)
            return
        cause, trace = told(error)
        entry = entry._replace(reason=ERROR, cause=cause, traceback=trace)
        self.queue.change(key, entry)
        self.touched = True
        self._notice("parked", key, entry, audit)

    # --- the transaction ----------------------------------------------------------------------------------------------

    @property
    def next_due_ms(self) -> int:
        """Before this time nothing is to be fired; may be too soon."""
        if not self.running or self.position is None:
            return NEVER
        return min((table.next_ms for table in self._deadlines), default=NEVER)

    @property
    def pending(self) -> int:
        """How many deadlines and scheduled commands are to come."""
        return sum(table.pending for table in self._deadlines)

    def take_due(self, now_ms: int, most: int) -> list[Fired]:
        """What is due, at most so much of each table; `fire` has to follow in the same transaction."""
        return [fired for table in self._deadlines for fired in table.take(now_ms, most)]

    def fire(self, fired: Sequence[Fired], now_ms: int) -> None:
        """Sends it to its own partition."""
        self.touched = True
        for key, command, due_ms in fired:
            self._producer.produce(self.tp.topic, key, command, self.tp.partition)
            self._stats.deadlines_late_s += (now_ms - due_ms) / 1000
        self._stats.deadlines_fired += len(fired)

    @property
    def uncommitted(self) -> bool:
        """Whether a checkpoint would move this task on."""
        return self.running and (self.position != self.committed or self.touched)

    def drop(self) -> None:
        """Forgets what was folded since the last commit."""
        self.position, self.touched, self._turn_ms = self.committed, False, None
        for table in self.tables:
            table.drop()


def told(error: BaseException) -> tuple[str, str]:
    """An exception's class and text, and the end of its traceback."""
    cause = f"{type(error).__name__}: {error}".encode(errors="replace")[:CAUSE_BYTES_MAX].decode(errors="ignore")
    trace = "".join(traceback.format_exception(error)).encode(errors="replace").decode()
    return cause, trace[-TRACEBACK_CHARACTERS_MAX:]
