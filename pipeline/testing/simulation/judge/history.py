"""A simulated world in the form that `pipeline verify` reads: logs, committed offsets and tables."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from pipeline.adapters.json.writing import row_json
from pipeline.engine.ports import TP
from pipeline.model.records.step_notes import StepNotes
from pipeline.verify.sources.history import Entry, Kept, Stored, read_whole

if TYPE_CHECKING:
    from pipeline.testing.simulation.world import World


class SimulatedHistory:
    """A `History` of a simulated world in which everything has settled."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._kept: dict[str, Kept] = {}

    @property
    def ahead_ms(self) -> int:
        return self._world.ahead_ms

    def may_have_raised(self, decide: Callable[[], object]) -> bool:
        return self._world.may_raise(decide)

    def partitions(self, topic: str) -> int:
        return len(self._world.kafka.topics[topic].logs)

    def committed(self, service: str, tp: TP) -> int | None:
        position = self._world.kafka.group(service).offsets.get(tp)
        return None if position is None else position.offset

    def bound(self, service: str, tp: TP) -> int | None:
        return self.committed(service, tp)

    def steps(self, service: str, tp: TP) -> StepNotes:
        position = self._world.kafka.group(service).offsets.get(tp)
        return {} if position is None else position.steps

    def low(self, tp: TP) -> int:
        assert tp.topic in self._world.kafka.topics
        return 0  # the archive is complete

    def end(self, tp: TP) -> int:
        return int(self._world.kafka.log(tp).end)

    def records(self, tp: TP) -> Iterator[Entry]:
        for r in self._world.kafka.log(tp).archive:
            if r.decided:
                yield Entry(r.offset(), r.key(), r.value(), r.timestamp()[1], tuple(r.headers() or ()))

    def kept(self, topic: str) -> Kept:
        if topic not in self._kept:
            self._kept[topic] = read_whole(self, topic)
        return self._kept[topic]

    def rows(self, table: str, partition: int) -> dict[str, Any] | None:
        found: dict[str, Any] = {}
        for worker in self._world.workers:
            view = worker.lane.views.get((table, partition)) if worker.lane else None
            if view is not None and view.copy is None:
                found = {
                    key[len(view.prefix) :].decode(): json.loads(json.dumps(row_json(view.codec.decode(value))))
                    for key, value in view.store.scan(view.prefix, view.prefix, 10**9)
                }
        return found

    def stored(self, service: str) -> dict[TP, Stored] | None:
        found = {}
        for worker in self._world.workers:
            if worker.lane and worker.plan.service.name == service:
                for name, each in worker.lane.positions().items():
                    topic, _, number = name.rpartition("-")
                    found[TP(topic, int(number))] = Stored(each["source"], each["changelogs"])
        return found

    def wait(self) -> bool:
        return False
