"""The judge: `pipeline verify` over the simulated world, and checks that only a simulation can make.

Verify replays events, states, rows, replies, deadlines, parked records and asks. It shares the pure steps of `flow` and
the topology's own functions with the engine, and nothing of what runs them. Disks and tables are compared here byte by
byte; for that the judge uses the engine's codecs and its layout of rows.
"""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING, Any

from pipeline.adapters.avro.codec import codecs
from pipeline.engine.plan import ServicePlan
from pipeline.engine.state.table import Codecs, RowCodec, Strict
from pipeline.engine.steps.inbox import command_codec
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
from pipeline.model.changes.upcasts import NONE, Upcasts
from pipeline.testing.author_checks import checked
from pipeline.testing.simulation.judge.disk import DiskCheck
from pipeline.testing.simulation.judge.history import SimulatedHistory
from pipeline.testing.simulation.judge.settled import answered_once, taken_twice
from pipeline.topology import Topology
from pipeline.verify import Judge

if TYPE_CHECKING:
    from pipeline.testing.simulation.worker import Worker
    from pipeline.testing.simulation.world import World
SECRET = b"of no use outside"


class Oracle:
    """Knows a topology: its services' plans, and the codec of each topic. One serves many histories.

    `check`: whether the topology's functions are called through the checks for authors.
    """

    def __init__(self, topology: Topology, make: Codecs, *, check: bool = False) -> None:
        self.topology = topology
        made: dict[Any, RowCodec] = {}

        def once(
            topic: str, root: object, body: object = None, *, strict: Strict = True, upcasts: Upcasts = NONE
        ) -> RowCodec:
            asked = topic, root, body, strict, tuple(upcasts.items())
            if asked not in made:
                made[asked] = make(topic, root, body, strict=strict, upcasts=upcasts)
            return made[asked]

        self._make: Codecs = once
        services = [checked(service) if check else service for service in topology.chosen(())]
        self.plans = [ServicePlan(service, self._make, secret=SECRET) for service in services]
        self.codec: dict[str, RowCodec] = {
            source_topic.queue: source_topic.tables[0].codec
            for plan in self.plans
            for source_topic in plan.source_topics.values()
        }
        self.deadlines: dict[str, RowCodec] = {}  # by changelog
        self.aggregates: dict[str, Aggregate[Any, Any, Any]] = {}
        for service in topology.services.values():
            for a in service.owned:
                self.aggregates[a.name] = a
                command, event, state = self.topics(a)
                self.codec[command] = command_codec(self._make, a)
                self.codec[event] = self._make(event, EventMessage, a.event, upcasts=a.upcasts)
                self.codec[state] = self._make(state, StateMessage, type(a.initial), upcasts=a.migrate)
                self.codec[TopicKind.REPLIES.topic(a.name)] = self._make(
                    "reply", ReplyMessage, Acceptance | Rejected | Parked
                )
                if a.deadlines:
                    name = TopicKind.DEADLINES.topic(a.name)
                    self.codec[name] = self.deadlines[name] = self._make("deadlines", DeadlineMessage)
            for p in service.projections:
                rows, by_key = TopicKind.ROW.topic(p.name), TopicKind.BY_KEY.topic(p.name)
                self.codec[rows] = self._make(rows, type(p.initial))
                if p.route is not None:
                    self.codec[by_key] = self._make(by_key, p.by_key)
            for r in service.replicas:
                name = TopicKind.REPLICA.topic(r.name)
                self.codec[name] = self._make(name, type(r.initial))
        self._disks = DiskCheck(self.codec, {name: a.idempotency for name, a in self.aggregates.items()})

    @staticmethod
    def topics(a: Aggregate[Any, Any, Any]) -> tuple[str, str, str]:
        """Return the topics of an aggregate's commands, events and states."""
        return TopicKind.COMMAND.topic(a.name), TopicKind.EVENT.topic(a.name), a.states

    def command(
        self, aggregate: str, command: Any, name: str, now_ms: int, due_ms: int | None = None
    ) -> tuple[str, bytes]:
        """Return a command's topic and bytes, as a client would send it."""
        topic = TopicKind.COMMAND.topic(aggregate)
        if isinstance(command, bytes):  # not Avro: no client would send it
            return topic, command
        return topic, self.codec[topic].encode(CommandMessage(name, name, None, now_ms, command, due_ms=due_ms))

    @cached_property
    def _verify(self) -> Judge:
        return Judge(self.topology)

    def judge(self, world: World) -> list[str]:
        """Return what is wrong once all is settled."""
        found = sorted(str(finding) for finding in self._verify(SimulatedHistory(world)).findings)
        for a in self.aggregates.values():
            found += answered_once(world, a, self.codec)
            found += taken_twice(world, a, self.codec, SECRET)
        found += self._disks.tables(world)
        found += self._disks.replicas(world)
        for worker in world.workers:
            found += self.disk(world, worker)
        return found

    def disk(self, world: World, worker: Worker) -> list[str]:
        """Return what is wrong on a disk, at any time."""
        return list(self._disks.disk(world, worker))


def oracle_of(topology: Topology, make: Codecs | None = None, *, check: bool = False) -> Oracle:
    """Make the judge of a topology. That takes longer than many a history."""
    return Oracle(topology, make or codecs(topology.schemas), check=check)
