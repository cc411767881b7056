"""Whether partitions may be folded from where the group's offsets are, by the positions that the service has noted.

An offset that a commit has set, with the standing of now, needs no look: commit and note are one transaction. The notes
are read if there is another standing, an offset of other origin, or none: forgotten, or nothing was ever folded. And
whether the topics are still those of the beginning, as long as the lane runs.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

from pipeline.engine.beside.built_ahead import built_steps
from pipeline.engine.copies.log_followers import LogFollowers
from pipeline.engine.ports import TP, LogFacts, Position, Record, TopicNow
from pipeline.engine.state.noted import Noted, Standing, made_again, read_noted, why_not
from pipeline.engine.state.partition_counts import check_count
from pipeline.errors import LaneFatal, RecordsLost
from pipeline.model.records.step_notes import StepNotes

if TYPE_CHECKING:
    from pipeline.engine.context import LaneContext
    from pipeline.engine.loop.task import Task

log = logging.getLogger(__name__)

TOLD_MAX = 100  # partitions in one message
LOOK_S = 2.0  # how often the broker is asked which topics these are
Committed = Callable[[Sequence[TP]], Mapping[TP, Position | None] | None]


class Standings:
    """The doubtful ones among a lane's partitions, and the noted positions as long as there are any."""

    def __init__(self, context: LaneContext, following: LogFollowers) -> None:
        self._plan, self._reader, self._following = context.plan, context.ports.reader, following
        self._log = TP(context.plan.positions, 0)
        self._doubtful: dict[TP, tuple[Position | None, Standing]] = {}
        self._noted: dict[TP, Noted] = {}
        self._read = self._target = 0  # up to where the notes are read, and are to be

    def doubts(self, tp: TP) -> bool:
        """Whether a partition must not start yet."""
        return tp in self._doubtful

    def aim(self, tp: TP, committed: Position | None, standing: Standing) -> None:
        """Take a new partition in; `step` must follow. `committed`: its position in the group."""
        if committed is None or committed.standing != standing.digest:
            self._doubtful[tp] = committed, standing

    def remove(self, partitions: Sequence[TP]) -> None:
        """Forget partitions that are given up."""
        for tp in partitions:
            self._doubtful.pop(tp, None)

    def read_notes(self) -> None:
        """Read the notes, as there are new doubts."""
        if self._doubtful:
            self._target = self._reader.ends([self._log])[self._log]
            if not self._following.follows(self):
                self._noted.clear()
                self._read = 0
                self._following.follow(self, {self._log: None} if self._target else {})

    def step(self, committed: Committed) -> dict[TP, StepNotes]:
        """Settle all doubts at once, when all notes are read. Return how far each step is noted to be.

        Raises RecordsLost, which names all partitions of the service that are not where they are noted.
        """
        if not self._doubtful or self._read < self._target:
            return {}
        self._following.unfollow([self._log])
        if any(self._why_not(tp, at, standing.topics) for tp, (at, standing) in self._doubtful.items()):
            self._refuse(committed)
            return {}
        settled, self._doubtful = self._doubtful, {}
        return {tp: self._steps(tp) for tp in settled if tp in self._noted}

    def _steps(self, tp: TP) -> StepNotes:
        steps, spec = self._noted[tp].steps, self._plan.source_topics[tp.topic].folds
        return steps if spec is None else built_steps(spec, tp.partition, self._noted, steps)

    def _why_not(self, tp: TP, committed: Position | None, topics: Mapping[str, int]) -> str | None:
        return why_not(tp, committed, self._noted.get(tp), topics)

    def _refuse(self, ask: Committed) -> None:
        """Raise the error that names all, those that other workers have included."""
        known = {tp for tp in self._noted if tp.topic in self._plan.source_topics}
        now = ask(sorted(known | self._doubtful.keys()))
        if now is None:
            return  # a commit is under way somewhere; the next turn asks again
        if any(now[tp] != at for tp, (at, _) in self._doubtful.items()):
            raise LaneFatal("another worker has had its partitions while this one stood still")
        pairs = self._plan.co_partitioned()
        facts = self._reader.facts(sorted({topic for tp in now for topic in (tp.topic, *pairs[tp.topic])}))
        topics = identities(facts)
        raise lost(self._plan.service.name, [why for tp in now if (why := self._why_not(tp, now[tp], topics))])

    # --- Followed -----------------------------------------------------------------------------------------------------

    def apply(self, tp: TP, records: Sequence[Record]) -> None:
        """Take notes in."""
        for record in records:
            place, noted = read_noted(record.key(), record.value())
            self._noted[place] = noted
        self._read = max(self._read, records[-1].offset() + 1)

    def reached(self, tp: TP, end: int) -> None:
        """Note that all stable notes below `end` are in."""
        self._read = max(self._read, end)

    def begin_again(self) -> list[TP]:
        """Read the notes from the start."""
        self._noted.clear()
        return [self._log]


def identities(facts: Mapping[str, LogFacts] | Mapping[str, TopicNow]) -> dict[str, int]:
    """The identity of each topic."""
    return {name: fact.identity for name, fact in facts.items()}


def lost(service: str, reasons: Sequence[str]) -> RecordsLost:
    """The error for a service that does not stand where the group's offsets are."""
    more = f"; and {len(reasons) - TOLD_MAX} more" if len(reasons) > TOLD_MAX else ""
    return RecordsLost(
        f"{service!r} must not go on: {'; '.join(reasons[:TOLD_MAX])}{more}. Stop its workers, and set all offsets to "
        f"where it stands with: pipeline reset --to-tables --service {service}"
    )


class TopicWatch:
    """Compares the topics that a service reads and writes with those that the lane has begun with."""

    def __init__(self, context: LaneContext) -> None:
        plan, ports = context.plan, context.ports
        self._plan, self._reader, self._clock = plan, ports.reader, ports.clock
        replicated = [replica.source.topic for replica, _, _ in plan.replicas]
        self._sources = {*plan.source_topics, *replicated}
        self._topics = sorted({*self._sources, *(topic for topic, _ in plan.own_topics())})
        self._identities: dict[str, int] = {}
        self._partitions: dict[str, int] = {}
        self._looked_s: float | None = None

    def look(self, tasks: Sequence[Task], facts: Mapping[str, LogFacts]) -> None:
        """Look from time to time, without waiting. Raises RecordsLost, with the positions of the tasks concerned.

        Raises PartitionsChanged if a source has more partitions than before.
        `facts`: those that assigned tasks have begun with.
        """
        now_s = self._clock.monotonic_s()
        if self._looked_s is not None and now_s - self._looked_s < LOOK_S:
            return
        self._looked_s = now_s
        heard = self._reader.identities(self._topics)
        told = identities(heard)
        self._identities = {**told, **identities(facts), **self._identities}
        if others := made_again(self._identities, told):
            raise lost(self._plan.service.name, self._reasons(others, tasks))
        now = {topic: heard[topic].partitions for topic in sorted(self._sources & heard.keys())}
        began = {topic: each.partitions for topic, each in facts.items()}
        self._partitions = {**now, **began, **self._partitions}
        for topic, count in now.items():
            check_count(topic, self._partitions[topic], count)

    def _reasons(self, others: Sequence[str], tasks: Sequence[Task]) -> list[str]:
        pairs = self._plan.co_partitioned()
        reasons = []
        for topic in others:
            at = [task for task in tasks if topic in (task.tp.topic, *pairs[task.tp.topic])]
            places = ", ".join("{}-{} stands at {}".format(*task.tp, task.committed) for task in at)
            reasons.append(f"{topic} has been deleted and created again" + (f", and {places}" if places else ""))
        return reasons
