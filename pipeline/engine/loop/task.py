"""The task: one source partition, the tables it feeds and the steps that fold its records."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from math import inf
from typing import TYPE_CHECKING, Any

from pipeline.engine.beside.newcomers import Newcomers
from pipeline.engine.beside.states import States
from pipeline.engine.parking.parking import Drained, Parking, TakenUp
from pipeline.engine.parking.parking_log import Audit, describe_error
from pipeline.engine.parking.retries import Retries
from pipeline.engine.parking.unknown import AGAIN_S, UnknownInTask
from pipeline.engine.plan import SourceTopic
from pipeline.engine.ports import TP, LogFacts, Pause, Record, Store
from pipeline.engine.state.deadlines import Deadlines, Fired
from pipeline.engine.state.noted import Standing, noted_key, noted_value
from pipeline.engine.state.parked_table import ParkedTable
from pipeline.engine.state.positions import changelog_position, source_position
from pipeline.engine.state.replies import ReplyTable
from pipeline.engine.state.sagas import SagaTable
from pipeline.engine.state.table import SharedTable
from pipeline.engine.steps.step import Step
from pipeline.engine.steps.unique_values import NeedsReservation
from pipeline.errors import CopyHeld, NotKnownYet, TransactionAborted, UndecodableRecord
from pipeline.flow import Find, ReservationReply
from pipeline.flow.functions.raised import is_topologys
from pipeline.model import NEVER
from pipeline.model.records.partitioning import partition_of
from pipeline.model.records.step_notes import StepNotes

if TYPE_CHECKING:
    from pipeline.engine.context import LaneContext


class Task:
    """Folds one partition. `position` is the next offset to fold, `committed` the last one that was committed.

    Both are None until the task has started, or if the group has no offset yet.
    """

    def __init__(
        self, tp: TP, source_topic: SourceTopic, store: Store, context: LaneContext, finders: Mapping[str, Find]
    ) -> None:
        self.tp, self.source_topic, self.store = tp, source_topic, store
        self._producer, self._stats = context.ports.producer, context.stats
        self._error_rate, self._clock = context.error_rate, context.ports.clock
        self._plan, self._tracing = context.plan, context.tracing
        tables, self._nodes = source_topic.steps(tp.partition, store, self._producer, self._stats, finders)
        self.tables = list(tables.values())
        self._shared = [table for table in self.tables if isinstance(table, SharedTable)]
        self.sagas = [table for table in self.tables if isinstance(table, SagaTable)]
        self._caching = [table for table in self.tables if table.cached]
        queue = tables[source_topic.queue]
        assert isinstance(queue, ParkedTable)
        self.queue = queue
        self.parking = Parking(tp, source_topic, self._nodes, queue, context)
        self.beside = Newcomers(self.parking, self._nodes, self._shared, lambda: self.position, context)
        folds = source_topic.folds
        self.states = None if folds is None else States(folds, tables[folds.aggregate.name], tp, self._stats)
        self.noted: StepNotes = {}  # how far each step was, by the last commit of whoever had the partition before
        self._reply_table = next((table for table in self.tables if isinstance(table, ReplyTable)), None)
        self._deadlines = [table for table in self.tables if isinstance(table, Deadlines)]
        self.position: int | None = None
        self.committed: int | None = None
        self.appended_ms = 0  # when the last record that it has folded was appended
        self.changelogs: dict[str, tuple[int, int]] = {}  # as committed beside it; see Position
        self.standing = 0  # see Position
        self._standing_text = ""
        self.running = False
        self.fired = False  # whether something was sent that no record stands for
        self.claims = False  # whether the next commit is to note this lane as the owner, even if nothing else is new
        self.pause: Pause | None = None  # an operator's: nothing is folded here until it ends
        self.retries = Retries(source_topic.transient, self._stats)
        self.unknown = UnknownInTask(context.plan.service.name, tp, self._stats, self._clock)
        self._by_anybody = source_topic.takes_commands
        self.stalled = False  # whether the fold has stopped before that record, which is to be tried again …
        self.pause_s = 0.0  # … after that time
        self.unflushed = 0  # rows written to the store since its last flush
        self.flushed_s = 0.0

    def begin(self, bounds: Callable[[TP], tuple[int, int]]) -> None:
        """Begin where the last commit says; where there is none, and each step that is new, where they are declared to.

        `bounds`: see GroupConsumer.
        """
        self.position = self.beside.begin(self.committed, {} if self.states else self.noted, bounds)

    def fold(self, records: Sequence[Record], until_s: float = inf) -> int:
        """Run every step on every record, in order. A record that raises is parked, as are later ones of its key.

        Returns how many are folded: all; those until the clock shows `until_s`, but one at least; or those before a
        record that raises a transient error, or is not known yet, and then is `stalled`. TransactionAborted if some
        nodes have folded that record already, as only an abort takes that back.
        """
        if self._tracing is not None:
            return self._tracing.fold(self, records, until_s)
        return self.fold_all(records, until_s)

    def level(self) -> Sequence[Step]:
        """The steps that fold each record."""
        return self.beside.level

    def fold_all(self, records: Sequence[Record], until_s: float, nodes: Sequence[Step] | None = None) -> int:
        """Fold records as `fold` does, by all steps or by `nodes`, which run the same steps."""
        for table in self._shared:
            table.expect(key for record in records if (key := record.key()))
        nodes = self.beside.level if nodes is None else nodes
        parking, decoded, held = self.parking, self.parking.decode, self.queue.held
        partition, partitions = self.tp.partition, parking.partitions
        now_s, last = self._clock.monotonic_s, len(records) - 1
        for number, record in enumerate(records):
            if number and now_s() > until_s:
                last = number - 1
                break
            key = record.key()
            if held and (key or b"") in held:
                parking.queue_up(key or b"", record)
                continue
            try:
                message = decoded(key, record)
            except UndecodableRecord as error:
                if isinstance(error, NotKnownYet) and self.unknown.is_awaited(
                    record, error, by_anybody=self._by_anybody
                ):
                    return self._stand_before(record, number, AGAIN_S)
                parking.put_aside(record, error)
                continue
            if message is None or message.__class__ is ReservationReply:
                continue  # a kind of event that this service does not follow, or a reply that nothing waits for
            if partition_of(key, partitions) != partition:
                parking.put_elsewhere(key, record, message)
                continue
            try:
                for node in nodes:
                    node.fold(key, record, message)
            except BaseException as error:
                if not is_topologys(error):
                    raise
                done = tuple(before.name for before in nodes[: nodes.index(node)])
                newer = isinstance(error, NotKnownYet) and self.unknown.is_awaited(record, error, by_anybody=False)
                if newer or self.retries.is_next(record, error):
                    self._stand_before(record, number, AGAIN_S if newer else self.retries.pause_s)
                    if done:
                        raise TransactionAborted(f"to be tried again: {describe_error(error)[0]}") from error
                    return number
                if not isinstance(error, (NeedsReservation, CopyHeld)):  # these are no fault of the step's code
                    self._error_rate.record(self.tp, record.offset(), error)
                parking.put_aside(record, error, message, done)
        self.position, self.appended_ms = records[last].offset() + 1, records[last].timestamp()[1]
        self.unknown.go_on()
        self._stats.records += last + 1
        return last + 1

    def _stand_before(self, record: Record, folded: int, pause_s: float) -> int:
        """Stop before a record that is to be tried again. Return how many were folded."""
        self.position, self.stalled, self.pause_s = record.offset(), True, pause_s
        if self.unknown.offset != self.position:
            self.unknown.go_on()
        self._stats.records += folded
        return folded

    def watch_sagas(self) -> list[SagaTable]:
        """Keep which sagas have not ended. Return the tables that are to be looked through for that."""
        for table in self.sagas:
            table.watch()
        return self.sagas

    def leave(self) -> None:
        """Fold nothing any more, as the partition is given up."""
        self.running = False
        self.unknown.forget()
        if self.states is not None:
            self.states.unknown.forget()

    # --- records that wait; see Parking -------------------------------------------------------------------------------

    def skip(self, record: Record, error: Exception, *, bare: bool) -> None:
        """Park a record whose effects the broker refuses, as there are too many; `bare`: without its value."""
        self.parking.skip(record, error, bare=bare)
        self.position = record.offset() + 1

    def redrive(self, key: bytes, limit: int, audit: Audit, until_s: float = inf) -> Drained:
        """Fold the records of a key's queue in order until one raises again, `limit` at most. Raises NotParked.

        None is begun once the clock shows `until_s`, but the first.
        """
        return self.parking.redrive(key, limit, audit, self._now(), until_s)

    def refuse(self, key: bytes, error: Exception, audit: Audit) -> Drained:
        """Keep the first record of a key parked: the broker refuses its effects."""
        return self.parking.refuse(key, error, audit, self._now())

    def discard(self, key: bytes, offset: int | None, limit: int, audit: Audit) -> Drained:
        """Throw away the first record of a key, that of `offset`; None: `limit` of them. Raises NotParked."""
        return self.parking.discard(key, offset, limit, audit, self._now())

    def _now(self) -> TakenUp:
        assert self.position is not None, "what waits has been folded past"
        return TakenUp(self.position - 1, 0 if self._reply_table is None else self._reply_table.latest_ms)

    # --- the transaction ----------------------------------------------------------------------------------------------

    def standing_in(self, facts: Mapping[str, LogFacts]) -> Standing:
        """What folds the partition, with topics of these facts."""
        topics = (self.tp.topic, *self._plan.co_partitioned()[self.tp.topic])
        return Standing(tuple(node.name for node in self._nodes), {name: facts[name].identity for name in topics})

    def stand(self, standing: Standing) -> None:
        """From now on, note positions with this."""
        self.standing, self._standing_text = standing.digest, standing.text()

    def note_position(self) -> None:
        """Send the position to the topic of noted positions, in the open transaction."""
        if self.position is not None:
            value = noted_value(self.position, self._standing_text, self.notes)
            self._producer.produce(self._plan.positions, noted_key(self.tp), value, 0)

    def stored(self) -> dict[str, Any]:
        """What its store says of itself. Safe from any thread; may raise TableUnavailable."""
        position, changelogs = self.store.position, [table.changelog for table in self.tables]
        stored = {changelog: position(changelog_position(changelog)) for changelog in changelogs}
        return {"source": position(source_position(self.tp.topic)), "changelogs": stored}

    @property
    def notes(self) -> StepNotes:
        """How far each step is, and what the states of each revision lack."""
        return self.beside.notes if self.states is None else self.states.notes

    @property
    def behind(self) -> bool:
        """Whether its states lack events still, so that no command can be decided."""
        return self.states is not None and self.states.behind

    @property
    def next_due_ms(self) -> int:
        """The earliest time at which anything may be due; it may be too early."""
        if not self.running or self.position is None or self.pause is not None:
            return NEVER
        return min((table.next_ms for table in self._deadlines), default=NEVER)

    @property
    def pending(self) -> int:
        """The number of deadlines and scheduled commands not yet due."""
        return sum(table.pending for table in self._deadlines)

    def take_due(self, now_ms: int, most: int) -> list[Fired]:
        """Take what is due, up to `most` of each table; `fire` must follow in the same transaction."""
        return [fired for table in self._deadlines for fired in table.take(now_ms, most)]

    def fire(self, fired: Sequence[Fired], now_ms: int) -> None:
        """Send the commands taken to this task's own partition."""
        self.fired = True
        for key, command, due_ms in fired:
            self._producer.produce(self.tp.topic, key, command, self.tp.partition)
            self._stats.deadlines_late_s += (now_ms - due_ms) / 1000
        self._stats.deadlines_fired += len(fired)

    @property
    def uncommitted(self) -> bool:
        """Whether a checkpoint would move this task on."""
        moved = self.position != self.committed or self.fired or self.parking.touched or self.claims
        return self.running and (moved or self.beside.touched or (self.states is not None and self.states.touched))

    def mark_committed(self, changelogs: dict[str, tuple[int, int]]) -> None:
        """Note that what was folded is committed, with these positions of its changelogs."""
        self.committed, self.changelogs = self.position, changelogs
        self.fired = self.parking.touched = self.claims = False
        for table in self._caching:
            self._stats.cached(table.spec.name, table.hits, table.misses)
        self.beside.mark_committed()
        if self.states is not None:
            self.states.mark_committed()

    def roll_back(self) -> None:
        """Drop what was folded since the last commit."""
        self.position = self.committed
        self.fired = self.parking.touched = False
        self.beside.roll_back()
        if self.states is not None:
            self.states.roll_back()
        for table in self.tables:
            table.roll_back()
