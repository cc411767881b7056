"""Topics that are deleted and made again while a lane runs: what stands in them is not what was folded, or written."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from pipeline.engine.loop.standings import identities, lost
from pipeline.engine.loop.task import Task
from pipeline.engine.ports import LogFacts
from pipeline.engine.state.noted import made_again

if TYPE_CHECKING:
    from pipeline.engine.context import LaneContext

LOOK_S = 2.0  # how often the broker is asked which topics these are


class TopicWatch:
    """Compares the topics that a service reads and writes with those that the lane has begun with."""

    def __init__(self, context: LaneContext) -> None:
        plan, ports = context.plan, context.ports
        self._plan, self._reader, self._clock = plan, ports.reader, ports.clock
        replicated = [replica.source.topic for replica, _, _ in plan.replicas]
        self._topics = sorted({*plan.source_topics, *replicated, *(topic for topic, _ in plan.own_topics())})
        self._identities: dict[str, int] = {}
        self._looked_s: float | None = None

    def look(self, tasks: Sequence[Task], facts: Mapping[str, LogFacts]) -> None:
        """Look from time to time, without waiting. Raises RecordsLost, with the positions of the tasks concerned.

        `facts`: those that assigned tasks have begun with.
        """
        now_s = self._clock.monotonic_s()
        if self._looked_s is not None and now_s - self._looked_s < LOOK_S:
            return
        self._looked_s = now_s
        told = self._reader.identities(self._topics)
        self._identities = {**told, **identities(facts), **self._identities}
        if others := made_again(self._identities, told):
            raise lost(self._plan.service.name, self._reasons(others, tasks))

    def _reasons(self, others: Sequence[str], tasks: Sequence[Task]) -> list[str]:
        pairs = self._plan.co_partitioned()
        reasons = []
        for topic in others:
            at = [task for task in tasks if topic in (task.tp.topic, *pairs[task.tp.topic])]
            places = ", ".join("{}-{} stands at {}".format(*task.tp, task.committed) for task in at)
            reasons.append(f"{topic} has been deleted and created again" + (f", and {places}" if places else ""))
        return reasons
