"""The judge: replays what was asked with the topology's own functions, and holds logs, changelogs and tables to it.

It shares with the engine the pure steps of `flow` and the codecs, and nothing of what runs them.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, get_args

from pipeline.adapters.avro.codec import codecs
from pipeline.adapters.memory import MemoryRecord
from pipeline.adapters.memory.tables import Disk
from pipeline.engine.plan import ServicePlan
from pipeline.engine.ports import TP
from pipeline.engine.state.positions import changelog_position, source_position
from pipeline.engine.state.table import Codecs, RowCodec, Strict, table_prefix
from pipeline.engine.steps.inbox import command_codec
from pipeline.flow import (
    event_to_command,
    event_to_messages,
    keep_ms,
    message_to_row,
    was_due,
)
from pipeline.model import (
    Acceptance,
    Aggregate,
    CommandMessage,
    DeadlineMessage,
    EventMessage,
    Parked,
    Rejected,
    ReplyMessage,
    StateMessage,
    TopicKind,
)
from pipeline.testing.simulation.judge.asks import Asked
from pipeline.testing.simulation.judge.command_replay import CommandReplay
from pipeline.testing.simulation.judge.copies import past_copies, recorded
from pipeline.testing.simulation.judge.deadlines import fired_wrongly, out_of_order, rows_to_come
from pipeline.testing.simulation.judge.differences import Rows, committed, counted, rows_differ
from pipeline.testing.simulation.judge.final import broken
from pipeline.testing.simulation.judge.memory import misplaced
from pipeline.testing.simulation.judge.parking import Parking
from pipeline.testing.simulation.judge.past import histories
from pipeline.testing.simulation.judge.uniqueness import taken_twice
from pipeline.topology import Topology

if TYPE_CHECKING:
    from pipeline.testing.simulation.worker import Worker
    from pipeline.testing.simulation.world import World
SECRET = b"of no use outside"


class Oracle:
    """Knows a topology: its services' plans, and what each record means. One serves many histories."""

    def __init__(self, topology: Topology, make: Codecs) -> None:
        self.topology = topology
        made: dict[Any, RowCodec] = {}

        def once(topic: str, root: object, body: object = None, *, strict: Strict = True) -> RowCodec:
            asked = topic, root, body, strict
            if asked not in made:
                made[asked] = make(*asked[:3], strict=strict)
            return made[asked]

        self._make: Codecs = once
        self.plans = [ServicePlan(service, self._make, secret=SECRET) for service in topology.chosen(())]
        self.codec: dict[str, RowCodec] = {
            source_topic.queue: source_topic.tables[0].codec
            for plan in self.plans
            for source_topic in plan.source_topics.values()
        }
        self.deadlines: dict[str, RowCodec] = {}  # by changelog
        self.aggregates: dict[str, Aggregate[Any, Any, Any]] = {}
        self._takers: dict[type, str] = {}
        for service in topology.services.values():
            for a in service.owned:
                self.aggregates[a.name] = a
                command, event, state = self.topics(a.name)
                self.codec[command] = command_codec(self._make, a)
                self.codec[event] = self._make(event, EventMessage, a.event)
                self.codec[state] = self._make(state, StateMessage, type(a.initial))
                self.codec[TopicKind.REPLIES.topic(a.name)] = self._make(
                    "reply", ReplyMessage, Acceptance | Rejected | Parked
                )
                if a.deadlines:
                    name = TopicKind.DEADLINES.topic(a.name)
                    self.codec[name] = self.deadlines[name] = self._make("deadlines", DeadlineMessage)
                self._takers |= dict.fromkeys(get_args(a.command) or (a.command,), command)
            for p in service.projections:
                rows, by_key = TopicKind.ROW.topic(p.name), TopicKind.BY_KEY.topic(p.name)
                self.codec[rows] = self._make(rows, type(p.initial))
                if p.route is not None:
                    self.codec[by_key] = self._make(by_key, p.by_key)
            for r in service.replicas:
                name = TopicKind.REPLICA.topic(r.name)
                self.codec[name] = self._make(name, type(r.initial))

    @staticmethod
    def topics(aggregate: str) -> tuple[str, str, str]:
        """Its commands, events and states."""
        command, event, state = (k.topic(aggregate) for k in (TopicKind.COMMAND, TopicKind.EVENT, TopicKind.STATE))
        return command, event, state

    def command(
        self, aggregate: str, command: Any, name: str, now_ms: int, due_ms: int | None = None
    ) -> tuple[str, bytes]:
        """A command's topic and bytes, as a client would send it."""
        topic = self.topics(aggregate)[0]
        if isinstance(command, bytes):  # what no client would send
            return topic, command
        return topic, self.codec[topic].encode(CommandMessage(name, name, None, now_ms, command, due_ms=due_ms))

    def followed(self, topic: str, event: object) -> RowCodec:
        """An event topic as a follower sees it."""
        return self._make(topic, EventMessage, event, strict=False)

    # --- the end of a history -----------------------------------------------------------------------------------------

    def judge(self, world: World) -> list[str]:
        """What is wrong once all is settled."""
        found: list[str] = []
        for plan in self.plans:
            service = plan.service
            parking = Parking(world, plan)
            for a in service.owned:
                found += self._aggregate(world, a, parking)
                found += taken_twice(world, a, self.codec, SECRET)
            for r in service.reactions:
                found += self._reaction(world, plan, r, parking)
            for p in service.projections:
                found += self._projection(world, p, parking)
            found += parking.differences(world)
            for copy in service.replicas:
                found += self._replica(world, plan, copy)
        found += broken(world, self.topology, self.codec)
        for worker in world.workers:
            found += self.disk(world, worker)
        return found

    def _aggregate(self, world: World, a: Aggregate[Any, Any, Any], parking: Parking) -> Iterator[str]:
        """Each command's events once, in order; the state their fold."""
        commands, events, states = self.topics(a.name)
        asked, past = Asked(a, self._make), past_copies(world, a, self.followed)
        for log in world.kafka.topics[commands].logs:
            read = recorded(world, a, log.tp.partition, self.codec, past)
            life = CommandReplay(world, a, log.tp, self.codec, asked, read)
            yield from life.replay(parking.queues(log.tp))
            there: dict[bytes, list[bytes]] = defaultdict(list)
            for record in committed(world, TP(events, log.tp.partition)):
                there[record.key()].append(record.value())
            due = {key: data for key, data in life.due.items() if data}
            if due != there:
                yield from self._differences(events, due, there)
            rows = {key: self.codec[states].encode(state) for key, state in life.states.items()}
            yield from self._table(world, a.name, states, log.tp.partition, rows)
            agenda = life.memory.agenda
            yield from life.memory.differences(world)
            if a.deadlines:
                name = TopicKind.DEADLINES.topic(a.name)
                to_come = rows_to_come(agenda, self.codec[commands].encode, self.codec[name].encode)
                yield from self._table(world, name, name, log.tp.partition, to_come)
                yield from fired_wrongly(world, agenda, f"{commands}-{log.tp.partition}")
        if a.asks:
            records = {
                topic: self._committed(world, topic) for topic in (commands, *map(TopicKind.COMMAND.topic, a.asks))
            }
            yield from asked.differences(records, self.codec)

    @staticmethod
    def _committed(world: World, topic: str) -> list[tuple[bytes, bytes]]:
        logs = world.kafka.topics[topic].logs
        return [(record.key(), record.value()) for log in logs for record in committed(world, log.tp)]

    def _differences(
        self, topic: str, due: Mapping[bytes, list[bytes]], there: Mapping[bytes, list[bytes]]
    ) -> Iterator[str]:
        """Of events, by key."""
        decode = self.codec[topic].decode
        for key in sorted({*due, *there}):
            want, have = due.get(key, []), there.get(key, [])
            if want != have:
                shown = " ".join(f"{e.version}:{e.command_id}" for e in map(decode, have))
                hoped = " ".join(f"{e.version}:{e.command_id}" for e in map(decode, want))
                yield f"{topic} of {key.decode()!r} holds (version:command) [{shown}], and should [{hoped}]"

    def _reaction(self, world: World, plan: ServicePlan, reaction: Any, parking: Parking) -> Iterator[str]:
        """Each command that an event asks for, once."""
        due: Counter[tuple[str, bytes, bytes]] = Counter()
        for record, message in self._events(world, reaction.source, parking, f"react:{reaction.name}"):
            for send, command in event_to_command(reaction, record.key().decode(), message):
                topic = self._takers[type(send.command)]
                due[topic, send.key.encode(), self.codec[topic].encode(command)] += 1
        there: Counter[tuple[str, bytes, bytes]] = Counter()
        for a in plan.service.owned:
            topic = self.topics(a.name)[0]
            for log in world.kafka.topics[topic].logs:
                for record in log.archive:
                    if not record.decided or record.transaction is None:
                        continue
                    command = self.codec[topic].decode(record.value())
                    if command.id.startswith(f"{reaction.name}/") and not was_due(a.name, command):
                        there[topic, record.key(), record.value()] += 1
        if due != there:
            yield from counted(f"commands of the reaction {reaction.name}", due, there, self.codec)

    def _events(
        self, world: World, source: Any, parking: Parking, node: str
    ) -> Iterator[tuple[MemoryRecord, EventMessage]]:
        """What that node has folded, in its order."""
        decode = self.followed(source.topic, source.event).decode
        for log in world.kafka.topics[source.topic].logs:
            for record in parking.folded(world, log.tp, node, lambda record: decode(record.value()).body is not None):
                yield record, decode(record.value())

    def _projection(self, world: World, p: Any, parking: Parking) -> Iterator[str]:
        """Each row is the fold of what was sent to it, and that is what the events ask for."""
        topic = TopicKind.BY_KEY.topic(p.name) if p.route is not None else p.sources[0].topic
        if p.route is not None:
            due: Counter[tuple[str, bytes, bytes]] = Counter()
            there: Counter[tuple[str, bytes, bytes]] = Counter()
            for source in p.sources:
                for record, message in self._events(world, source, parking, f"route:{p.name}"):
                    for key, part in event_to_messages(p, record.key().decode(), message):
                        due[topic, key.encode(), self.codec[topic].encode(part)] += 1
            for log in world.kafka.topics[topic].logs:
                for record in committed(world, log.tp):
                    there[topic, record.key(), record.value()] += 1
            if due != there:
                yield from counted(f"messages to {p.name}", due, there, self.codec)
        changelog = TopicKind.ROW.topic(p.name)
        for log in world.kafka.topics[topic].logs:
            rows = self._fold(world, p, log.tp, self.codec[topic] if p.route is not None else None, parking)
            encoded = {key: self.codec[changelog].encode(row) for key, row in rows.items()}
            yield from self._table(world, p.name, changelog, log.tp.partition, encoded)

    def _fold(
        self, world: World, table: Any, tp: TP, messages: RowCodec | None, parking: Parking | None = None
    ) -> dict[bytes, Any]:
        """The rows that a partition comes to; `messages` None where events are folded themselves."""
        source = None if messages is not None else (table.source if hasattr(table, "source") else table.sources[0])
        decode = messages.decode if source is None and messages else self.followed(tp.topic, source.event).decode  # type: ignore[union-attr]
        rows: dict[bytes, Any] = {}

        def body_of(record: MemoryRecord) -> Any:
            message = decode(record.value())
            return message if messages is not None else message.body

        if parking is None:  # a replica has no queue
            records: Iterable[MemoryRecord] = committed(world, tp)
        else:
            records = parking.folded(world, tp, f"project:{table.name}", lambda record: body_of(record) is not None)
        for record in records:
            body = body_of(record)
            if body is not None:
                row = message_to_row(table, rows.pop(record.key(), None), body)
                if row is not None:
                    rows[record.key()] = row
        return rows

    def _replica(self, world: World, plan: ServicePlan, replica: Any) -> Iterator[str]:
        encode = self.codec[TopicKind.REPLICA.topic(replica.name)].encode
        for log in world.kafka.topics[replica.source.topic].logs:
            rows = self._fold(world, replica, log.tp, None)
            encoded = {key: encode(row) for key, row in rows.items()}
            for worker in world.workers:
                if worker.plan is plan:
                    store = worker.stores[f"replica.{replica.name}"]
                    prefix = table_prefix(f"{replica.name}.{log.tp.partition}")
                    there = {key[len(prefix) :]: value for key, value in store.scan(prefix, prefix, 10**9)}
                    where = f"the replica {replica.name}-{log.tp.partition} of {worker.name}"
                    yield from rows_differ(where, encoded, there)

    def _table(self, world: World, name: str, changelog: str, partition: int, due: Rows) -> Iterator[str]:
        """The changelog's last values and the owner's table, against what should stand there."""
        last = {r.key(): r.value() for r in world.kafka.topics[changelog].logs[partition].records if r.decided}
        yield from rows_differ(f"{changelog}-{partition}", due, {k: v for k, v in last.items() if v is not None})
        owners = 0
        for worker in world.workers:
            view = worker.lane.views.get((name, partition)) if worker.lane else None
            if view is not None and view.copy is None and not view.restoring:
                owners += 1
                cut = len(view.prefix)
                there = {k[cut:]: v for k, v in view.store.scan(view.prefix, view.prefix, 10**9)}
                yield from rows_differ(f"the table {name}-{partition} of {worker.name}", due, there)
        if owners != 1:
            yield f"{owners} workers own {name}-{partition}"

    # --- any time -----------------------------------------------------------------------------------------------------

    def disk(self, world: World, worker: Worker) -> Iterator[str]:
        """A store holds what its changelog holds up to the position noted in it: committed, and nothing else.

        While it is restored from a cleaned log, a key may be missing whose next value is still to come.
        """
        yield from histories(world, worker)
        for source_topic in worker.plan.source_topics.values():
            for n in range(world.schedule.partitions):
                disk: Disk | None = worker.disk.disks.get(f"{source_topic.topic}-{n}")
                if not source_topic.keeps_locally:
                    disk = world.database(worker.plan).disks.get(TP(source_topic.topic, n))
                for name, changelog, *_ in source_topic.tables if disk is not None else ():
                    assert disk is not None
                    rows, positions = disk.now()
                    folded = positions.get(source_position(source_topic.topic), 0)
                    position = positions.get(changelog_position(changelog), 0)
                    due: dict[bytes, bytes | None] = {}
                    to_come: set[bytes] = set()
                    for record in committed(world, TP(changelog, n)):
                        if record.offset() < position:
                            due[record.key()] = record.value()
                        else:
                            to_come.add(record.key())
                    prefix = table_prefix(name)
                    there = {k[len(prefix) :]: v for k, v in rows.items() if k.startswith(prefix)}
                    if TopicKind.of(name) is TopicKind.REPLIES:
                        yield from misplaced(f"{name}-{n} of {worker.name}", rows, there, self.codec[name])
                        to_come |= self._forgettable(world, name, due, folded)
                    elif TopicKind.of(name) is TopicKind.DEADLINES:
                        yield from out_of_order(f"{name}-{n} of {worker.name}", rows, there, self.codec[name])
                    for key in sorted({*due, *there}):
                        if due.get(key) != there.get(key) and not (key not in there and key in to_come):
                            yield (
                                f"on the disk of {worker.name}, {name}-{n} noted as level with {changelog}@{position} "
                                f"holds {self._shown(changelog, there.get(key))} for {key.decode()!r}, "
                                f"and should {self._shown(changelog, due.get(key))}"
                            )

    def _forgettable(self, world: World, name: str, due: Mapping[bytes, bytes | None], folded: int) -> set[bytes]:
        """Replies that need not be remembered, where so much is folded."""
        idempotency = self.aggregates[name.rpartition(".")[0]].idempotency
        assert idempotency is not None
        replies = {key: self.codec[name].decode(data) for key, data in due.items()}
        since_ms = world.kafka.clock.time_ms() - keep_ms(idempotency)
        last = max([folded - 1, *(reply.place[0] for reply in replies.values())])  # a copy goes by the last reply
        return {
            key
            for key, reply in replies.items()
            if reply.place[0] <= last - idempotency.records or reply.place[1] < since_ms
        }

    def _shown(self, topic: str, data: bytes | None) -> str:
        return "nothing" if data is None else str(self.codec[topic].decode(data))


def oracle_of(topology: Topology, make: Codecs | None = None) -> Oracle:
    """The judge of a topology, which takes longer to make than many a history."""
    return Oracle(topology, make or codecs(topology.schemas))
