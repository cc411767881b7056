"""What only an operator can set right: offsets that the broker has forgotten, topics that are deleted and made again.

The services concerned must end by themselves, before anything is done twice. Then an operator sets it right: puts the
topic back as it was, and the group's offsets to where the service stands. The history goes on, judged as any other.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from pipeline.adapters.memory.kafka import MemoryKafka
from pipeline.engine.loop.standings import LOOK_S
from pipeline.engine.plan import ServicePlan
from pipeline.engine.ports import TP, Position
from pipeline.engine.state.noted import Noted, read_noted
from pipeline.engine.state.resets import losses, resets

if TYPE_CHECKING:
    from pipeline.testing.simulation.worker import Worker
    from pipeline.testing.simulation.world import World

DOWN_S = 20.0  # after which all workers that were asked to stop are down, and no members any more
AGAIN_S = 10.0  # between looks whether all have ended
LOOKS_MAX = 6


def reset_to_tables(kafka: MemoryKafka, plan: ServicePlan) -> list[str]:
    """Set the offsets of a service to where it stands, as `pipeline reset` does. Return what is lost."""
    log, notes = kafka.topics[plan.positions].logs[0], dict[TP, Noted]()
    for record in log.read(log.start, log.end)[0]:
        tp, noted = read_noted(record.key(), record.value())
        notes[tp] = noted
    offsets = kafka.group(plan.service.name).offsets
    bounds = {tp: (kafka.log(tp).start, kafka.log(tp).end) for tp in notes}
    identities = {name: topic.identity for name, topic in kafka.topics.items()}
    found = resets(notes, {tp: offsets[tp].offset for tp in notes if tp in offsets}, bounds, identities)
    for each in found:
        if each.offset != each.target:
            offsets[each.tp] = Position(each.target, {})
    return losses(found)


class Mishaps:
    """The services that await an operator, one mishap each."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._awaiting: dict[str, Callable[[], None]] = {}  # by service: what puts its topic back
        self._refused: set[str] = set()  # those of which a worker has ended, as it should
        self.pending = 0  # services that have not gone on yet

    def awaits(self, worker: Worker) -> bool:
        """Whether a worker is to end, and to stay down until an operator has been there."""
        return worker.plan.service.name in self._awaiting

    def refuses(self, worker: Worker) -> bool:
        """Note that a worker ends, as something is lost. False if nothing is."""
        if awaits := self.awaits(worker):
            self._refused.add(worker.plan.service.name)
        return awaits

    def forget(self, plan: ServicePlan, share: float) -> None:
        """Stop a service; then have the broker forget its offsets, or one; or set one by hand to the beginning."""
        offsets = self._world.kafka.group(plan.service.name).offsets

        def lose() -> Callable[[], None]:
            moved = sorted(tp for tp, position in offsets.items() if position.offset)
            one = moved[int(share * 100) % len(moved)] if moved else None
            if share < 0.4 or one is None:
                offsets.clear()
            elif share < 0.7:
                del offsets[one]
            else:
                offsets[one] = Position(0, {})
            return lambda: None

        self._while_down(plan, "the broker forgets its offsets", lose)

    def make_anew(self, plan: ServicePlan, share: float) -> None:
        """Make one of a service's topics anew: while it runs, or while it is stopped, and then filled beyond it."""
        topics = self._of_one(plan)
        topic = topics[int(share * 1000) % len(topics)]
        if share < 0.5:
            self._while_down(plan, f"{topic} is made anew", lambda: self._replace(plan, topic, more=20))
        elif topic not in plan.source_topics:
            self.pending += 1
            self._world.at_quiet.append(lambda: self._under_it(plan, topic))

    def _of_one(self, plan: ServicePlan) -> list[str]:
        """Return the topics that a service folds or folds into, and no other service follows.

        Topics that it fills from others are left out: what it writes to the second life would not be in the first.
        """
        filled = {"by_key", "command"} if plan.service.reactions else {"by_key"}
        plans = self._world.oracle.plans
        followed = {topic for other in plans if other is not plan for topic in other.source_topics}
        followed |= {topic for topic, kind in plan.own_topics() if kind.value in filled}
        followed |= {replica.source.topic for other in plans for replica, _, _ in other.replicas}
        pairs = plan.co_partitioned()
        return sorted({topic for source in pairs for topic in (source, *pairs[source])} - followed)

    def _replace(self, plan: ServicePlan, topic: str, more: int = 0) -> Callable[[], None]:
        """Make a topic anew, with `more` records than before. Return what puts it back."""
        kafka = self._world.kafka
        old, offsets = kafka.topics[topic], kafka.group(plan.service.name).offsets
        kafka.create_topic(topic, len(old.logs), compacted=old.compacted)
        for log in old.logs:
            for _ in range(log.end + more if more else 0):
                kafka.append(log.tp, b"of another life", None)
            if more:
                offsets.pop(log.tp, None)  # as the broker does with those of a topic that is deleted

        def put_back() -> None:
            kafka.topics[topic] = old
            kafka.changed(topic)

        return put_back

    # --- the service --------------------------------------------------------------------------------------------------

    def _workers(self, plan: ServicePlan) -> Sequence[Worker]:
        return [worker for worker in self._world.everybody() if worker.plan is plan]

    def _while_down(self, plan: ServicePlan, what: str, lose: Callable[[], Callable[[], None]]) -> None:
        """Stop a service, lose something, and start it again: it must end, and await the operator."""
        self.pending += 1
        for worker in self._workers(plan):
            worker.stopping, worker.again_s = True, DOWN_S + 1.0

        def now() -> None:
            group = self._world.kafka.group(plan.service.name)
            if not self._world.armed or group.members or not self._is_down(plan):
                self.pending -= 1  # one hangs, or has been started by another fault
                return
            self._world.tell(plan.service.name, what)
            self._await(plan, lose())

        self._world.kafka.clock.later(DOWN_S, now)

    def _under_it(self, plan: ServicePlan, topic: str) -> None:
        """Make a topic anew under a running service, which has nothing to do: it must end."""
        if any(worker.stats.deadlines_pending for worker in self._workers(plan)):
            self.pending -= 1
            return
        self._world.tell(plan.service.name, f"{topic} is made anew while it runs")
        self._await(plan, self._replace(plan, topic), looks=1)

    def _await(self, plan: ServicePlan, put_back: Callable[[], None], looks: int = LOOKS_MAX) -> None:
        self._awaiting[plan.service.name] = put_back
        for worker in self._workers(plan):
            worker.start()
        self._world.kafka.clock.later(LOOK_S + AGAIN_S, lambda: self._look(plan, looks))

    def _is_down(self, plan: ServicePlan) -> bool:
        return all(worker.state == "down" for worker in self._workers(plan))

    def _look(self, plan: ServicePlan, times: int) -> None:
        """Once a worker has ended, stop those that were not concerned, and set it right."""
        refused = plan.service.name in self._refused
        if (refused and self._is_down(plan)) or not self._world.armed:
            self.set_right(plan)
        elif times:
            for worker in self._workers(plan) if refused else ():
                worker.stopping, worker.again_s = True, math.inf
            self._world.kafka.clock.later(AGAIN_S, lambda: self._look(plan, times - 1))
        else:
            self._world.wrong(f"{plan.service.name} runs on, though its offsets or a topic are gone")

    def set_all_right(self) -> None:
        """Do what operators have to do in all services that await one."""
        for plan in self._world.oracle.plans:
            self.set_right(plan)

    def set_right(self, plan: ServicePlan) -> None:
        """Do what an operator does, and start the service."""
        if (put_back := self._awaiting.pop(plan.service.name, None)) is None:
            return
        self._refused.discard(plan.service.name)
        self.pending -= 1
        put_back()
        if lost := reset_to_tables(self._world.kafka, plan):
            self._world.wrong(f"a reset finds lost what is there: {lost}")
        self._world.tell("operator", f"sets the offsets of {plan.service.name} to where it stands")
        for worker in self._workers(plan):
            worker.start()
