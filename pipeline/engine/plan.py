"""From a service's declaration to what its lane needs: which topics, read by which codec, folded by which steps."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

from pipeline.engine.ports import Producer, Store
from pipeline.engine.state.deadlines import Deadlines, deadline_rows
from pipeline.engine.state.history_reader import HistorySpec
from pipeline.engine.state.parked_table import ParkedRecord, ParkedTable
from pipeline.engine.state.replies import ReplyTable, reply_rows, trim_copy
from pipeline.engine.state.sagas import SagaTable
from pipeline.engine.state.table import Codecs, RowCodec, SharedTable, Strict, Table, TableSpec
from pipeline.engine.stats import LaneStats
from pipeline.engine.steps.ask import AskSender, asked_codecs
from pipeline.engine.steps.decide import CommandCodecs, DecideStep, Parts
from pipeline.engine.steps.inbox import command_codec
from pipeline.engine.steps.project import ProjectStep
from pipeline.engine.steps.react import ReactStep
from pipeline.engine.steps.route import RouteStep
from pipeline.engine.steps.scheduler import Scheduler
from pipeline.engine.steps.step import Output, Step
from pipeline.engine.steps.unique_values import Reservations, UniqueValues
from pipeline.errors import TopologyError
from pipeline.flow import Copies, Find, events_as_stored, rows_as_stored
from pipeline.model import (
    Acceptance,
    Aggregate,
    Database,
    DeadlineMessage,
    EventMessage,
    Parked,
    Projection,
    Reaction,
    Rejected,
    Replica,
    ReplyMessage,
    Service,
    Source,
    StateMessage,
    TopicKind,
)
from pipeline.model.projection.versions import declared_name


@dataclass(slots=True)
class Context:
    """What the step factories of one task receive."""

    partition: int
    tables: dict[str, Table]
    out: Output
    finders: Mapping[str, Find]  # of the service's replicas, by name


@dataclass(slots=True)
class SourceTopic:
    """One source topic of the service: how to read it, the tables it feeds, and the steps that fold its records."""

    topic: str
    codec: RowCodec
    envelope: bool  # whether records carry their value in a `body`
    queue: str  # the table of the records that wait
    transient: tuple[type[Exception], ...] = ()
    reply_topics: Collection[str] = ()  # see Output
    tables: list[TableSpec] = field(default_factory=list)  # that of the queue first
    step_factories: list[Callable[[Context], Step]] = field(default_factory=list)
    database: Database = Database.ROCKSDB  # that of the tables
    reads: Collection[str] = ()  # replicas that its commands are decided with
    own: bool = False  # whether this service may write there: its commands, and what its routes send on
    folds: HistorySpec | None = None  # the aggregate that its commands are for

    @property
    def has_rows(self) -> bool:
        """Whether it feeds a table by its keys, and not only reactions and routes."""
        return len(self.tables) > 1  # the first is that of its queue

    @property
    def takes_commands(self) -> bool:
        """Whether its records are commands, which anybody may send."""
        return self.own and self.envelope

    @property
    def keeps_locally(self) -> bool:
        """Whether it feeds tables that each worker has of its own."""
        return self.database is Database.ROCKSDB

    def steps(
        self, partition: int, store: Store, producer: Producer, stats: LaneStats, finders: Mapping[str, Find]
    ) -> tuple[dict[str, Table], list[Step]]:
        """Make the tables and steps of the task that folds `partition`."""
        tables = {spec.name: spec.make(spec, store) for spec in self.tables}
        context = Context(partition, tables, Output(producer, stats, self.reply_topics), finders)
        return tables, [make(context) for make in self.step_factories]


class ServicePlan:
    """A service's topics, codecs, tables and steps. Does no I/O. Raises SchemaError if classes and schemas do not fit.

    `names`: see Topology. Codecs are asked for by the declared names, all else goes by those of the cluster. `secret`:
    the service's, under which its unique values are reserved; a task of such an aggregate cannot be made without.
    """

    def __init__(
        self, service: Service, codecs: Codecs, names: Mapping[str, str] | None = None, secret: bytes | None = None
    ) -> None:
        self.service, self._codecs, self._names, self._secret = service, codecs, names or {}, secret
        self.group = self._called(service.name)
        self.source_topics: dict[str, SourceTopic] = {}
        self.replicas: list[tuple[Replica[Any, Any], RowCodec, RowCodec]] = []  # (replica, events, rows)
        self.histories: dict[str, HistorySpec] = {}  # by command topic
        self.commands: dict[str, RowCodec] = {}  # by aggregate
        self.built_from: dict[
            str, tuple[str, list[str]]
        ] = {}  # by projection: the step that reads its sources, and these
        self.parked = self._called(TopicKind.PARKED.topic(service.name))
        self.positions = self._called(TopicKind.POSITIONS.topic(service.name))
        self._commands: dict[type, tuple[str, Callable[[Any], bytes]]] = {}
        self._asked: set[str] = set()  # command topics of whom it asks
        self._pairs: dict[str, list[str]] = {}
        self._queues: list[str] = []
        self._reserving = {unique.name: unique for aggregate in service.aggregates for unique in aggregate.unique}
        self._reservations: dict[str, Reservations] = {}
        self._claiming: set[str] = set()  # command topics of aggregates with unique values
        self.queue_codec = codecs(TopicKind.QUEUE.value, ParkedRecord)
        for aggregate in service.owned:
            self._plan_aggregate(aggregate)
        for reaction in service.reactions:
            self._plan_reaction(reaction)
        for projection in service.projections:
            self._plan_projection(projection)
        for replica in service.replicas:
            source = replica.source
            events = codecs(source.topic, EventMessage, source.event, strict=False, upcasts=source.upcasts)
            rows = codecs(TopicKind.REPLICA.topic(replica.name), type(replica.initial))
            here = replace(replica, source=replace(source, topic=self._called(source.topic)))
            here = rows_as_stored(here, rows.fit)
            self.replicas.append((here, events, rows))

    # --- what others ask ----------------------------------------------------------------------------------------------

    def own_topics(self) -> Iterator[tuple[str, TopicKind]]:
        """The topics that this service writes, with their kinds."""
        for aggregate in self.service.owned:
            for kind in (TopicKind.COMMAND, TopicKind.EVENT):
                yield self._called(kind.topic(aggregate.name)), kind
            yield self._called(aggregate.states), TopicKind.STATE
            if aggregate.idempotency is not None:
                yield self._called(TopicKind.REPLIES.topic(aggregate.name)), TopicKind.REPLIES
            if aggregate.deadlines:
                yield self._called(TopicKind.DEADLINES.topic(aggregate.name)), TopicKind.DEADLINES
        for projection in self.service.projections:
            if projection.route is not None:
                yield self._called(TopicKind.BY_KEY.topic(projection.name)), TopicKind.BY_KEY
            yield self._called(TopicKind.ROW.topic(projection.name)), TopicKind.ROW
            if projection.version > 1:
                yield self._called(TopicKind.VERSIONS.topic(declared_name(projection))), TopicKind.VERSIONS
        for queue in self._queues:
            yield queue, TopicKind.QUEUE
        yield self.parked, TopicKind.PARKED
        yield self.positions, TopicKind.POSITIONS

    def followed_topics(self) -> list[str]:
        """The event topics that it follows, its own among them, and the command topics of those whom it asks."""
        return sorted({self._called(source.topic) for source in self.service.sources()} | self._asked)

    def asked_topics(self) -> list[str]:
        """The command topics of the aggregates that it asks."""
        return sorted(self._asked)

    def co_partitioned(self) -> dict[str, list[str]]:
        """Source topic -> the topics that must have as many partitions, as partition n of it is folded into theirs."""
        return self._pairs

    def databases(self) -> set[Database]:
        """The databases that keep tables of the service, beside local ones."""
        return {source_topic.database for source_topic in self.source_topics.values()} - {Database.ROCKSDB}

    # --- topics, tables and steps -------------------------------------------------------------------------------------

    def _called(self, name: str) -> str:
        return self._names.get(name, name)

    def _add_source_topic(self, declared: str, codec: RowCodec, *, envelope: bool) -> SourceTopic:
        topic = self._called(declared)
        name = TopicKind.QUEUE.topic(f"{self.service.name}.{declared}")
        queue = TableSpec(name, self._called(name), self.queue_codec, ParkedTable)
        self._queues.append(queue.changelog)
        self._pairs[topic] = [queue.changelog]
        source_topic = self.source_topics[topic] = SourceTopic(
            topic, codec, envelope, name, self.service.transient, tables=[queue]
        )
        return source_topic

    def _follow(self, source: Source) -> SourceTopic:
        if self._called(source.topic) not in self.source_topics:
            codec = self._codecs(source.topic, EventMessage, source.event, strict=False, upcasts=source.upcasts)
            self._add_source_topic(source.topic, codec, envelope=True)
        return self.source_topics[self._called(source.topic)]

    def _plan_aggregate(self, aggregate: Aggregate[Any, Any, Any]) -> None:
        commands, events = (kind.topic(aggregate.name) for kind in (TopicKind.COMMAND, TopicKind.EVENT))
        states = aggregate.states
        source_topic = self._add_source_topic(commands, command_codec(self._codecs, aggregate), envelope=True)
        source_topic.own = True
        state_codec = self._codecs(states, StateMessage, type(aggregate.initial), upcasts=aggregate.migrate)
        strict: Strict = "read" if aggregate.reads else True
        event_codec = self._codecs(events, EventMessage, aggregate.event, strict=strict, upcasts=aggregate.upcasts)
        aggregate = events_as_stored(aggregate, event_codec.fit, state_codec.fit)
        source_topic.reads = [replica.name for replica in aggregate.replicas]
        saga = next((each for each in self.service.sagas if each.name == aggregate.name), None)
        make_states = Table if saga is None else partial(SagaTable, saga.summary)
        source_topic.tables.append(TableSpec(aggregate.name, self._called(states), state_codec, make_states))
        output = self._called(events)
        source_topic.folds = HistorySpec(aggregate, output, event_codec, state_codec, self._called(states))
        if aggregate.history:
            self.histories[source_topic.topic] = source_topic.folds
        self._pairs[source_topic.topic] += [output, self._called(states)]
        reply_codec = self._codecs(TopicKind.REPLY.value, ReplyMessage, Acceptance | Rejected | Parked)
        replies_name = TopicKind.REPLIES.topic(aggregate.name)
        if aggregate.idempotency is not None:
            make, trim = partial(ReplyTable, aggregate.idempotency), partial(trim_copy, aggregate.idempotency)
            changelog = self._called(replies_name)
            source_topic.tables.append(TableSpec(replies_name, changelog, reply_codec, make, reply_rows, trim))
            self._pairs[source_topic.topic].append(changelog)
        deadlines_name = TopicKind.DEADLINES.topic(aggregate.name)
        if aggregate.deadlines:
            changelog, codec = self._called(deadlines_name), self._codecs(TopicKind.DEADLINES.value, DeadlineMessage)
            source_topic.tables.append(TableSpec(deadlines_name, changelog, codec, Deadlines, deadline_rows))
            self._pairs[source_topic.topic].append(changelog)
        self.commands[aggregate.name], encode = source_topic.codec, source_topic.codec.encode
        if (unique := self._reserving.get(aggregate.name)) is not None:
            self._reservations[aggregate.name] = Reservations(unique, source_topic.topic, encode)
            source_topic.reply_topics = self._claiming
        else:
            for cls, names in self.service.takers.items():
                if names == [aggregate.name]:
                    self._commands[cls] = (source_topic.topic, encode)
        if aggregate.unique:
            self._claiming.add(source_topic.topic)
        codecs = CommandCodecs(encode, event_codec.encode, reply_codec.encode)
        others = asked_codecs(self._codecs, aggregate)
        asked = {name: (self._called(TopicKind.COMMAND.topic(name)), codec) for name, codec in others.items()}
        self._asked |= {topic for topic, _ in asked.values()}

        def node(c: Context) -> Step:
            reply_table = c.tables.get(replies_name)
            assert reply_table is None or isinstance(reply_table, ReplyTable)
            deadlines = c.tables.get(deadlines_name)
            assert deadlines is None or isinstance(deadlines, Deadlines)
            finders = [(replica.source.topic, c.finders[replica.name]) for replica in aggregate.replicas]
            parts = Parts(
                c.tables[aggregate.name],
                reply_table,
                Scheduler(aggregate.name, deadlines, source_topic.codec, c.out.stats),
                AskSender(aggregate.name, source_topic.topic, c.partition, asked),
                self._unique_values(aggregate, source_topic.topic, c),
                Copies(finders) if finders else None,
            )
            return DecideStep(aggregate, codecs, output, c.partition, parts, c.out)

        source_topic.step_factories.append(node)

    def _unique_values(self, aggregate: Aggregate[Any, Any, Any], topic: str, c: Context) -> UniqueValues | None:
        if not aggregate.unique:
            return None
        if self._secret is None:
            raise TopologyError(
                f"service {self.service.name!r} reserves unique values of {aggregate.name!r} under a secret of its "
                "own; give it with --secret-file, the same for all of its workers"
            )
        declared = [self._reservations[unique.name] for unique in aggregate.unique]
        return UniqueValues(declared, aggregate.initial, self._secret, topic, c.partition, c.out.emit)

    def _plan_reaction(self, reaction: Reaction) -> None:
        source_topic = self._follow(reaction.source)
        source_topic.step_factories.append(lambda c: ReactStep(reaction, self._commands, self.service.takers, c.out))

    def _plan_projection(self, projection: Projection[Any, Any]) -> None:
        rows = TopicKind.ROW.topic(projection.name)
        row_codec = self._codecs(rows, type(projection.initial))
        projection = rows_as_stored(projection, row_codec.fit)
        if projection.route is None:
            source_topic = self._follow(projection.sources[0])
        else:
            by_key = TopicKind.BY_KEY.topic(projection.name)
            codec = self._codecs(by_key, projection.by_key)
            source_topic = self._add_source_topic(by_key, codec, envelope=False)
            source_topic.own, encode = True, source_topic.codec.encode
            for source in projection.sources:
                routed = partial(RouteStep, projection, source.topic, source_topic.topic, encode)
                self._follow(source).step_factories.append(partial(_with_output, routed))
        step = "project" if projection.route is None else "route"
        sources = [self._called(source.topic) for source in projection.sources]
        self.built_from[projection.name] = f"{step}:{projection.name}", sources
        source_topic.database = projection.database
        make = Table if projection.database is Database.ROCKSDB else SharedTable
        spec = TableSpec(projection.name, self._called(rows), row_codec, make, indexes=projection.indexes)
        source_topic.tables.append(spec)
        self._pairs[source_topic.topic].append(self._called(rows))
        source_topic.step_factories.append(lambda c: ProjectStep(projection, c.tables[projection.name]))


def _with_output(make: Callable[[Output], Step], c: Context) -> Step:
    return make(c.out)
