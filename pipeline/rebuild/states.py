"""Builds the states of an aggregate's new revision ahead, while workers of another revision go on.

A worker of the new one folds what is left when it takes a partition over; partitions that one has taken already are
left to it. See engine.beside.built_ahead for how both keep out of each other's way.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from contextlib import ExitStack, closing
from pathlib import Path

from confluent_kafka.admin import AdminClient

from pipeline.adapters.avro.codec import CodecFactory, codecs, served_codecs
from pipeline.adapters.kafka import ANSWER_S, KafkaLogReader, KafkaProducer
from pipeline.adapters.kafka.cluster import read_position
from pipeline.adapters.kafka.group_offsets import GroupOffsets
from pipeline.adapters.kafka.schemas.topic import published
from pipeline.adapters.kafka.topics import check_topics, create_topics
from pipeline.adapters.rocksdb.stores import claim_slot
from pipeline.engine.beside.built_ahead import build_name, built_place
from pipeline.engine.beside.states import States
from pipeline.engine.loop.checkpoint import produce_changes
from pipeline.engine.plan import ServicePlan
from pipeline.engine.ports import TP, Clock, LogReader, Position, Producer, Record, Store
from pipeline.engine.state.history_reader import HistorySpec
from pipeline.engine.state.noted import Standing, noted_key, noted_value, read_noted
from pipeline.engine.state.table import Table, TableSpec
from pipeline.engine.stats import LaneStats
from pipeline.errors import FoldError, RecordsLost, TopicError, TopologyError, TransactionAborted, UnknownTable
from pipeline.model.records.step_notes import StepNote, mark
from pipeline.topology import Topology
from pipeline.worker.settings import MachineClock

RECORDS = 4_000  # read at once
PATIENCE_S = 30.0  # for the broker to take and commit them
LEVEL_S = 5.0  # level: all logs were followed to their ends as of this long ago
Report = Callable[[int, int], object]  # (events folded, events in total)


def revised(topology: Topology, name: str, make: CodecFactory | None = None) -> tuple[ServicePlan, TP, HistorySpec]:
    """Return the aggregate of that name, with its service and the first partition of its commands.

    `make`: the factory of its codecs; None: one of its own.
    Raises UnknownTable, or TopologyError if its states have no later revision than the first.
    """
    plan = ServicePlan(topology.service_of(name), make or codecs(topology.schemas), topology.names)
    for source_topic in plan.source_topics.values():
        if source_topic.folds is not None and source_topic.folds.aggregate.name == name:
            if source_topic.folds.aggregate.revision == 1:
                raise TopologyError(
                    f"the states of {name!r} have no revision after the first; declare the aggregate with revision=2"
                )
            return plan, TP(source_topic.topic, 0), source_topic.folds
    raise UnknownTable(f"{name!r} is no aggregate or saga, so it has no states")


def taken_over(spec: HistorySpec, committed: Mapping[TP, Position]) -> set[int]:
    """Return the partitions that a worker of this revision has had. `committed`: of the aggregate's commands."""
    topic, name = spec.states_topic, mark(spec.states_topic)
    return {tp.partition for tp, each in committed.items() if topic in each.changelogs or name in each.steps}


class StatesBuild:
    """Folds the event log into the states, some partitions of it. Turn by turn, until it is `level`.

    `producer` has the epoch of `build_name` already, and `partitions` are those that no worker of this revision has had
    since. `store`: empty, for the states. Each turn may raise what ends the build: LaneFatal if a worker, or another
    build, has taken over; FoldError, RecordsLost.
    """

    def __init__(
        self,
        spec: HistorySpec,
        positions: str,
        partitions: Iterable[int],
        producer: Producer,
        reader: LogReader,
        store: Callable[[int], Store],
        clock: Clock,
    ) -> None:
        """`positions`: the topic of the service's positions."""
        self._spec, self._positions = spec, positions
        self._producer, self._reader, self._clock = producer, reader, clock
        self._table = TableSpec(spec.aggregate.name, spec.states_topic, spec.states)
        stats = LaneStats()
        self._states: dict[TP, States] = {}  # by the partition of the event log
        self._tables: dict[TP, Table] = {}
        for number in partitions:
            place = built_place(spec, number)
            table = self._tables[place] = Table(self._table, store(number))
            states = States(spec, table, place, stats)
            self._states[states.log] = states
        self._at = dict.fromkeys(self._states, 0)  # the next event to fold
        self._followed: dict[TP, int] = {}
        self._began_s, self._stats = 0.0, stats
        self.level = not self._states
        self.done = self.total = 0

    # --- what there is already ----------------------------------------------------------------------------------------

    def restore(self) -> None:
        """Read the states that are built, and how far that is. Waits for it."""
        notes = TP(self._positions, 0)
        self._read([notes], self._take_note)  # before the states: these are no older than what is noted
        self._read(list(self._tables), self._take_states)
        self._aim()

    def _read(self, partitions: list[TP], take: Callable[[TP, list[Record]], None]) -> None:
        ends = {tp: end for tp, end in self._reader.ends(partitions).items() if end}
        followed = list(ends)
        self._reader.follow(dict.fromkeys(followed))
        heard_s = self._clock.monotonic_s()
        while ends:
            polled = self._reader.poll(RECORDS, 0.1)
            for tp, records in polled.batches.items():
                take(tp, records)
                if records[-1].offset() + 1 >= ends.get(tp, 0):
                    ends.pop(tp, None)
            for tp, end in polled.ends.items():
                if end >= ends.get(tp, 0):
                    ends.pop(tp, None)
            if polled.batches or polled.ends:
                heard_s = self._clock.monotonic_s()
            elif self._clock.monotonic_s() - heard_s > PATIENCE_S:
                raise TransactionAborted(f"nothing comes from {', '.join(tp.topic for tp in ends)}; try again later")
        self._reader.unfollow(followed)

    def _take_note(self, _: TP, records: list[Record]) -> None:
        logs = {built_place(self._spec, log.partition): log for log in self._states}
        for record in records:
            place, noted = read_noted(record.key(), record.value())
            if place in logs:
                self._at[logs[place]] = noted.offset

    def _take_states(self, tp: TP, records: list[Record]) -> None:
        rows = [(record.key(), record.value()) for record in records]
        self._tables[tp].store.write(self._tables[tp].kept(rows)[0], {})

    # --- folding ------------------------------------------------------------------------------------------------------

    def _aim(self) -> None:
        """Go for the ends of the logs as they are now."""
        self._began_s = self._clock.monotonic_s()
        ends = self._reader.ends(list(self._states)) if self._states else {}
        name, topic = mark(self._spec.states_topic), self._spec.states_topic
        for log, states in self._states.items():
            states.end = max(ends[log], self._at[log])
            noted = {name: StepNote(0, self._at[log], level=False)}
            states.begin(Position(0, {topic: (0, 0)}), noted)
        self._reader.unfollow(self._followed)
        self._followed = {log: self._at[log] for log, states in self._states.items() if states.behind}
        self._reader.follow(self._followed)
        self.done, self.total = sum(self._at.values()), sum(states.end for states in self._states.values())

    def turn(self) -> None:
        """Fold what has arrived, and commit it."""
        if not any(states.behind for states in self._states.values()):
            if self._clock.monotonic_s() - self._began_s <= LEVEL_S:
                self.level = True
            else:
                self._aim()
            return
        polled = self._reader.poll(RECORDS, 0.1)
        for tp in polled.out_of_range:
            raise RecordsLost(f"{tp.topic}-{tp.partition} does not hold offset {self._at[tp]} any more")
        here = sorted(tp for tp in polled.batches.keys() | polled.ends.keys() if self._states[tp].behind)
        if not here:
            return
        try:
            self._producer.begin()
            for log in here:
                self._fold(log, polled.batches.get(log, []), polled.ends.get(log, 0))
            self._producer.flush(PATIENCE_S)
            self._producer.commit({}, None, PATIENCE_S)
        except TransactionAborted:
            self._producer.abort()
            for log in here:
                self._states[log].roll_back()
                self._table_of(log).roll_back()
            self._aim()
            return
        for log in here:
            states, table = self._states[log], self._table_of(log)
            self._at[log] = min(states.at, states.end)
            table.store.write(table.kept(table.changes())[0], {})
            table.mark_committed()
            states.mark_committed()
        self.done = sum(self._at.values())

    def _fold(self, log: TP, records: list[Record], end: int) -> None:
        states, table = self._states[log], self._table_of(log)
        ahead = [record for record in records if record.offset() < states.end]
        if states.fold(ahead, float("inf"), self._clock) < len(ahead):
            for why in self._stats.waiting.values():
                raise FoldError(f"{log.topic}-{log.partition} cannot be folded further: {why}")
            raise RecordsLost(f"events are missing in {log.topic}-{log.partition}: what was noted is not so")
        if len(ahead) < len(records) or end >= states.end:
            states.advance(states.end)
        produce_changes(self._producer, self._spec.states_topic, table.changes(), log.partition)
        place, at = built_place(self._spec, log.partition), min(states.at, states.end)
        value = noted_value(at, Standing((), {}).text(), {})
        self._producer.produce(self._positions, noted_key(place), value, 0)

    def _table_of(self, log: TP) -> Table:
        return self._tables[built_place(self._spec, log.partition)]


def build_states(
    bootstrap: str, client: AdminClient, topology: Topology, name: str, state_dir: Path, report: Report
) -> int:
    """Build the states of an aggregate until they are level. Returns in how many partitions.

    Creates their topic if there is none. Raises as StatesBuild does, and TopicError.
    """
    make = served_codecs(topology.schemas, topology.names, registers=True)
    plan, commands, spec = revised(topology, name, make)
    found = client.list_topics(timeout=ANSWER_S).topics.get(spec.topic)
    if found is None or not found.partitions:
        raise TopicError(f"the topic {spec.topic} does not exist; create it with: pipeline topics create TOPOLOGY")
    count = len(found.partitions)
    create_topics(client, [plan], count, len(found.partitions[0].replicas))
    check_topics(client, plan, topology.name)
    build, sources = build_name(plan.group, spec), [TP(commands.topic, n) for n in range(count)]
    with ExitStack() as opened:
        _, stores = claim_slot(state_dir, build, 0)
        opened.callback(stores.close)
        if (schemas := published(bootstrap, make)) is not None:
            opened.callback(schemas.close)
        producer = opened.enter_context(closing(KafkaProducer(bootstrap, build)))
        with closing(GroupOffsets(bootstrap, plan.group)) as offsets:  # only now, see built_ahead
            committed = {tp: read_position(*told) for tp, told in offsets.of_all(sources).items()}
        reader = opened.enter_context(closing(KafkaLogReader(bootstrap, f"{build}-reader")))

        def store(number: int) -> Store:
            empty = stores.open(f"{spec.states_topic}-{number}")
            empty.wipe()
            return empty

        left = [n for n in range(count) if n not in taken_over(spec, committed)]
        states = StatesBuild(spec, plan.positions, left, producer, reader, store, MachineClock())
        states.restore()
        while not states.level:
            report(states.done, states.total)
            states.turn()
        report(states.done, states.total)
    return len(left)
