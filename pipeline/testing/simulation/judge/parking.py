"""What a service's notices say of its queues, and what must wait there in the end."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from pipeline.adapters.memory import MemoryRecord
from pipeline.engine.plan import ServicePlan, SourceTopic
from pipeline.engine.ports import TP
from pipeline.engine.state.parked_table import ParkedRecord, row_key
from pipeline.errors import UndecodableRecord
from pipeline.testing.simulation.judge.differences import committed
from pipeline.verify.replay.notices import act_of, by_source
from pipeline.verify.replay.parked_replay import ParkedReplay, folded_by

if TYPE_CHECKING:
    from pipeline.testing.simulation.world import World


class Parking:
    """The queues of one service. Each node of a topic is judged by a replay of its own."""

    def __init__(self, world: World, plan: ServicePlan) -> None:
        logs = world.kafka.topics[plan.parked].logs
        acts = [act_of(record.key(), record.headers()) for log in logs for record in committed(world, log.tp)]
        self._acts = by_source(act for act in acts if act is not None)
        self._unreadable = acts.count(None)
        self._plan = plan
        self._replays: dict[TP, list[ParkedReplay]] = {}

    def queues(self, tp: TP) -> ParkedReplay:
        """The queues of that partition, to be replayed."""
        queues = ParkedReplay(self._acts.get(tp, ()))
        self._replays.setdefault(tp, []).append(queues)
        return queues

    def folded(
        self, world: World, tp: TP, node: str, concerns: Callable[[MemoryRecord], bool]
    ) -> Iterator[MemoryRecord]:
        """What a node that takes no commands has folded, in its order."""

        def follows(record: MemoryRecord) -> bool | None:
            try:
                return concerns(record) if record.key() else None
            except UndecodableRecord:
                return None

        def place(record: MemoryRecord) -> tuple[bytes, int]:
            return record.key() or b"", record.offset()

        for each in folded_by(node, self.queues(tp), committed(world, tp), place, follows):
            yield each.record

    def differences(self, world: World) -> Iterator[str]:
        """Once all is replayed."""
        if self._unreadable:
            yield f"{self._unreadable} notices of {self._plan.service.name} cannot be read"
        for tp in self._acts:
            if tp.topic not in self._plan.source_topics:
                yield f"{self._plan.service.name} has parked records of {tp.topic}, which it does not fold"
        for source_topic in self._plan.source_topics.values():
            for log in world.kafka.topics[source_topic.topic].logs:
                replays = self._replays.get(log.tp, [])
                where = f"{source_topic.queue}-{log.tp.partition}"
                yield from sorted({f"{where}: {wrong}" for queues in replays for wrong in queues.wrong})
                for queues in replays:
                    if queues.opened:
                        yield f"{where}: offsets {sorted(queues.opened)} were parked, which nothing holds"
                held = [{key: [each.offset for each in w] for key, w in queues.held.items()} for queues in replays]
                if any(each != held[0] for each in held):
                    yield f"{where}: by the nodes' replays different records wait: {held}"
                yield from self._contents(world, source_topic, log.tp, replays[0])

    def _contents(self, world: World, source_topic: SourceTopic, tp: TP, queues: ParkedReplay) -> Iterator[str]:
        """The changelog and the owner's table, against what must wait."""
        spec = source_topic.tables[0]
        due = {
            row_key(key, each.offset): (each.offset, each.record.value())
            for key, waiting in queues.held.items()
            for each in waiting
        }

        def shown(key: bytes, data: bytes) -> Any:
            entry: ParkedRecord = spec.codec.decode(data)
            return entry.offset, due[key][1] if entry.bare and key in due else entry.value

        records = world.kafka.topics[spec.changelog].logs[tp.partition].records
        last = {r.key(): r.value() for r in records if r.decided}
        places = {f"the log {spec.changelog}": {k: v for k, v in last.items() if v is not None}}
        for worker in world.workers:
            view = worker.lane.views.get((spec.name, tp.partition)) if worker.lane else None
            if view is not None and view.copy is None and not view.restoring:
                cut = len(view.prefix)
                rows = {k[cut:]: v for k, v in view.store.scan(view.prefix, view.prefix, 10**9)}
                places[f"the table of {worker.name}"] = rows
        for where, there in places.items():
            for key in sorted({*due, *there}):
                want, have = due.get(key), shown(key, there[key]) if key in there else None
                if want != have:
                    yield f"{spec.name}-{tp.partition}: {where} holds {have} under {key!r}, and should {want}"
