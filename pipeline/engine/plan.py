"""From a service's declaration to what its lane needs: which topics, read by which codec, folded by which nodes."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, get_args

from pipeline.engine.ports import Producer, Store
from pipeline.engine.state.deadlines import Deadlines, deadline_rows
from pipeline.engine.state.history_reader import HistorySpec
from pipeline.engine.state.parked_table import Queue, Queued
from pipeline.engine.state.replies import Answers, answer_rows, trim_copy
from pipeline.engine.state.table import Codecs, RowCodec, SharedTable, Table, TableSpec
from pipeline.engine.stats import LaneStats
from pipeline.engine.steps.ask import Asking, asked_codecs
from pipeline.engine.steps.decide import AggregateNode, CommandCodecs
from pipeline.engine.steps.inbox import command_codec
from pipeline.engine.steps.project import ProjectionNode
from pipeline.engine.steps.react import ReactionNode
from pipeline.engine.steps.route import RouteNode
from pipeline.engine.steps.scheduler import Timers
from pipeline.engine.steps.step import Node, Outlet
from pipeline.engine.steps.unique_values import Claims, Reservations
from pipeline.errors import TopologyError
from pipeline.flow import Copies, Find
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
    """What nodes of one task share when they are made."""

    partition: int
    tables: dict[str, Table]
    out: Outlet
    finders: Mapping[str, Find]  # of the service's replicas, by name


@dataclass(slots=True)
class Inlet:
    """One source topic of the service: how to read it, the tables it feeds, and the nodes that fold its records."""

    topic: str
    codec: RowCodec
    envelope: bool  # whether records carry their value in a `body`
    queue: str  # the table of the records that wait
    transient: tuple[type[Exception], ...] = ()
    reply: RowCodec | None = None  # of answers that come in between, where a value is reserved
    within: Collection[str] = ()  # see Outlet
    tables: list[TableSpec] = field(default_factory=list)  # that of the queue first
    makers: list[Callable[[Context], Node]] = field(default_factory=list)
    database: Database = Database.ROCKSDB  # that of the tables
    reads: Collection[str] = ()  # replicas that its commands are decided with

    @property
    def keeps_locally(self) -> bool:
        """Whether it feeds tables that each worker has of its own."""
        return self.database is Database.ROCKSDB

    def nodes(
        self, partition: int, store: Store, producer: Producer, stats: LaneStats, finders: Mapping[str, Find]
    ) -> tuple[dict[str, Table], list[Node]]:
        """The tables and nodes of the task that folds `partition`."""
        tables = {spec.name: spec.make(spec, store) for spec in self.tables}
        context = Context(partition, tables, Outlet(producer, stats, self.within), finders)
        return tables, [make(context) for make in self.makers]


class Wiring:
    """A service, wired. Reads nothing and starts nothing; SchemaError where classes and schemas do not fit.

    `names`: see Topology. Codecs are asked for by the declared names, all else goes by those of the cluster. `secret`:
    the service's, under which its unique values are reserved; a task of such an aggregate cannot be made without.
    """

    def __init__(
        self, service: Service, codecs: Codecs, names: Mapping[str, str] | None = None, secret: bytes | None = None
    ) -> None:
        self.service, self._codecs, self._names, self._secret = service, codecs, names or {}, secret
        self.group = self._called(service.name)
        self.inlets: dict[str, Inlet] = {}
        self.replicas: list[tuple[Replica[Any, Any], RowCodec, RowCodec]] = []  # (replica, events, rows)
        self.histories: dict[str, HistorySpec] = {}  # by command topic
        self.commands: dict[str, RowCodec] = {}  # by aggregate
        self.parked = self._called(TopicKind.PARKED.topic(service.name))
        self._commands: dict[type, tuple[str, Callable[[Any], bytes]]] = {}
        self._asked: set[str] = set()  # command topics of whom it asks
        self._pairs: dict[str, list[str]] = {}
        self._queues: list[str] = []
        self._reserving = {unique.name: unique for aggregate in service.aggregates for unique in aggregate.unique}
        self._reservations: dict[str, Reservations] = {}
        self._claiming: set[str] = set()  # command topics of aggregates with unique values
        self._queue_codec = codecs(TopicKind.QUEUE.value, Queued)
        for aggregate in service.owned:
            self._wire_aggregate(aggregate)
        for reaction in service.reactions:
            self._wire_reaction(reaction)
        for projection in service.projections:
            self._wire_projection(projection)
        for replica in service.replicas:
            source = replica.source
            events = codecs(source.topic, EventMessage, source.event, strict=False)
            rows = codecs(TopicKind.REPLICA.topic(replica.name), type(replica.initial))
            here = replace(replica, source=replace(source, topic=self._called(source.topic)))
            self.replicas.append((here, events, rows))

    # --- what others ask ----------------------------------------------------------------------------------------------

    def own_topics(self) -> Iterator[tuple[str, TopicKind]]:
        """The topics that this service writes, with their kinds."""
        for aggregate in self.service.owned:
            for kind in (TopicKind.COMMAND, TopicKind.EVENT, TopicKind.STATE):
                yield self._called(kind.topic(aggregate.name)), kind
            if aggregate.idempotency is not None:
                yield self._called(TopicKind.ANSWERS.topic(aggregate.name)), TopicKind.ANSWERS
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

    def followed_topics(self) -> list[str]:
        """The event topics that it follows, its own among them, and the command topics of those whom it asks."""
        return sorted({self._called(source.topic) for source in self.service.sources()} | self._asked)

    def asked_topics(self) -> list[str]:
        """The command topics of those whom it asks."""
        return sorted(self._asked)

    def co_partitioned(self) -> dict[str, list[str]]:
        """Source topic -> the topics that must have as many partitions, as partition n of it is folded into theirs."""
        return self._pairs

    def databases(self) -> set[Database]:
        """What keeps the service's tables, beside local ones."""
        return {inlet.database for inlet in self.inlets.values()} - {Database.ROCKSDB}

    # --- wiring -------------------------------------------------------------------------------------------------------

    def _called(self, name: str) -> str:
        return self._names.get(name, name)

    def _inlet(self, declared: str, root: object, body: object, *, strict: bool) -> Inlet:
        if self._called(declared) not in self.inlets:
            self._add_inlet(declared, self._codecs(declared, root, body, strict=strict), envelope=body is not None)
        return self.inlets[self._called(declared)]

    def _add_inlet(self, declared: str, codec: RowCodec, *, envelope: bool) -> Inlet:
        topic = self._called(declared)
        name = TopicKind.QUEUE.topic(f"{self.service.name}.{declared}")
        queue = TableSpec(name, self._called(name), self._queue_codec, Queue)
        self._queues.append(queue.changelog)
        self._pairs[topic] = [queue.changelog]
        inlet = self.inlets[topic] = Inlet(topic, codec, envelope, name, self.service.transient, tables=[queue])
        return inlet

    def _follow(self, source: Source) -> Inlet:
        return self._inlet(source.topic, EventMessage, source.event, strict=False)

    def _wire_aggregate(self, aggregate: Aggregate[Any, Any, Any]) -> None:
        commands, events, states = (
            k.topic(aggregate.name) for k in (TopicKind.COMMAND, TopicKind.EVENT, TopicKind.STATE)
        )
        inlet = self._add_inlet(commands, command_codec(self._codecs, aggregate), envelope=True)
        state_codec = self._codecs(states, StateMessage, type(aggregate.initial))
        event_codec = self._codecs(events, EventMessage, aggregate.event, strict="read" if aggregate.reads else True)
        inlet.reads = [replica.name for replica in aggregate.replicas]
        inlet.tables.append(TableSpec(aggregate.name, self._called(states), state_codec))
        outlet = self._called(events)
        if aggregate.history:
            self.histories[inlet.topic] = HistorySpec(aggregate, outlet, event_codec, state_codec)
        self._pairs[inlet.topic] += [outlet, self._called(states)]
        reply_codec = self._codecs(TopicKind.REPLY.value, ReplyMessage, Acceptance | Rejected | Parked)
        answers_name = TopicKind.ANSWERS.topic(aggregate.name)
        if aggregate.idempotency is not None:
            make, trim = partial(Answers, aggregate.idempotency), partial(trim_copy, aggregate.idempotency)
            changelog = self._called(answers_name)
            inlet.tables.append(TableSpec(answers_name, changelog, reply_codec, make, answer_rows, trim))
            self._pairs[inlet.topic].append(changelog)
        deadlines_name = TopicKind.DEADLINES.topic(aggregate.name)
        if aggregate.deadlines:
            changelog, codec = self._called(deadlines_name), self._codecs(TopicKind.DEADLINES.value, DeadlineMessage)
            inlet.tables.append(TableSpec(deadlines_name, changelog, codec, Deadlines, deadline_rows))
            self._pairs[inlet.topic].append(changelog)
        self.commands[aggregate.name], encode = inlet.codec, inlet.codec.encode
        if (unique := self._reserving.get(aggregate.name)) is not None:
            self._reservations[aggregate.name] = Reservations(unique, inlet.topic, encode)
            inlet.within = self._claiming
        else:
            for cls in get_args(aggregate.command) or (aggregate.command,):
                self._commands[cls] = (inlet.topic, encode)
        if aggregate.unique:
            self._claiming.add(inlet.topic)
            inlet.reply = reply_codec
        codecs = CommandCodecs(encode, event_codec.encode, reply_codec.encode)
        others = asked_codecs(self._codecs, aggregate)
        asked = {name: (self._called(TopicKind.COMMAND.topic(name)), codec) for name, codec in others.items()}
        self._asked |= {topic for topic, _ in asked.values()}

        def node(c: Context) -> Node:
            answers = c.tables.get(answers_name)
            assert answers is None or isinstance(answers, Answers)
            deadlines = c.tables.get(deadlines_name)
            assert deadlines is None or isinstance(deadlines, Deadlines)
            timers, table = Timers(aggregate.name, deadlines, inlet.codec, c.out.stats), c.tables[aggregate.name]
            asking, claims = (
                Asking(aggregate.name, inlet.topic, c.partition, asked),
                self._claims(aggregate, inlet.topic, c),
            )
            finders = [(replica.source.topic, c.finders[replica.name]) for replica in aggregate.replicas]
            return AggregateNode(
                aggregate,
                codecs,
                outlet,
                c.partition,
                table,
                answers,
                timers,
                asking,
                c.out,
                claims,
                Copies(finders) if finders else None,
            )

        inlet.makers.append(node)

    def _claims(self, aggregate: Aggregate[Any, Any, Any], topic: str, c: Context) -> Claims | None:
        if not aggregate.unique:
            return None
        if self._secret is None:
            raise TopologyError(
                f"service {self.service.name!r} reserves unique values of {aggregate.name!r} under a secret of its "
                "own; give it with --secret-file, the same for all of its workers"
            )
        declared = [self._reservations[unique.name] for unique in aggregate.unique]
        return Claims(declared, aggregate.initial, self._secret, topic, c.partition, c.out.emit)

    def _wire_reaction(self, reaction: Reaction) -> None:
        inlet = self._follow(reaction.source)
        inlet.makers.append(lambda c: ReactionNode(reaction, self._commands, c.out))

    def _wire_projection(self, projection: Projection[Any, Any]) -> None:
        rows = TopicKind.ROW.topic(projection.name)
        row_codec = self._codecs(rows, type(projection.initial))
        if projection.route is None:
            inlet = self._follow(projection.sources[0])
        else:
            inlet = self._inlet(TopicKind.BY_KEY.topic(projection.name), projection.by_key, None, strict=True)
            encode = inlet.codec.encode
            for source in projection.sources:
                self._follow(source).makers.append(lambda c: RouteNode(projection, inlet.topic, encode, c.out))
        inlet.database = projection.database
        make = Table if projection.database is Database.ROCKSDB else SharedTable
        spec = TableSpec(projection.name, self._called(rows), row_codec, make, indexes=projection.indexes)
        inlet.tables.append(spec)
        self._pairs[inlet.topic].append(self._called(rows))
        inlet.makers.append(lambda c: ProjectionNode(projection, c.tables[projection.name]))
