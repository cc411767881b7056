"""What operators ask of a lane: redrive, discard, pause, resume. Call it between turns, in the lane's thread."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from math import inf
from typing import TYPE_CHECKING, NamedTuple

from pipeline.engine.loop.alone import Alone
from pipeline.engine.loop.assignment import Assignment
from pipeline.engine.loop.task import Task
from pipeline.engine.parking.parking import Drained
from pipeline.engine.parking.parking_log import PAUSED, RESUMED, Audit
from pipeline.engine.ports import TP, Pause
from pipeline.errors import TableUnavailable

if TYPE_CHECKING:
    from pipeline.engine.context import LaneContext

log = logging.getLogger(__name__)


class Resumed(NamedTuple):
    """What came of it: whether the lane was held; of the keys of replicas, how many are free now, and `left` are not.

    `cause`: why one of these is not.
    """

    resumed: bool
    freed: int = 0
    left: int = 0
    cause: str | None = None


class Paused(NamedTuple):
    """How many partitions of commands are paused here now, and how many of them were not before."""

    paused: int
    newly: int


class Operators:
    """`checkpoint` commits what the lane has folded; `waiting`: partitions that are not read until that time."""

    def __init__(
        self,
        context: LaneContext,
        tasks: Assignment,
        alone: Alone,
        checkpoint: Callable[[], None],
        waiting: dict[TP, float],
    ) -> None:
        self._service, self._stats, self._error_rate = context.plan.service.name, context.stats, context.error_rate
        self._consumer, self._tasks, self._alone = context.ports.consumer, tasks, alone
        self._checkpoint, self._waiting, self._clock = checkpoint, waiting, context.ports.clock

    def redrive(self, tp: TP, key: bytes, limit: int, audit: Audit) -> Drained:
        """Fold a key's parked records in order, `limit` at most, and commit. Stop at one that raises again.

        Raises NotParked, or TableUnavailable if nothing has happened and the call can be repeated.
        """
        return self._alone.redrive(self._level(tp), key, limit, audit)

    def discard(self, tp: TP, key: bytes, offset: int | None, limit: int, audit: Audit) -> Drained:
        """Discard a key's first parked record, which must be that of `offset`; None: the first `limit` records.

        As `redrive` otherwise.
        """
        return self._alone.discard(self._level(tp), key, offset, limit, audit)

    def redrive_copy(self, replica: str, partition: int, key: bytes, audit: Audit) -> Drained:
        """Fold what waits for a key of this lane's copy, until an event raises again. Raises NotParked."""
        log.warning("%s: %r of the replica %s is redriven, by %s: %s", self._service, key, replica, *audit)
        return self._tasks.holding_replica(replica, partition, key).try_again(partition, key)

    def discard_copy(
        self, replica: str, partition: int, key: bytes, offset: int | None, limit: int, audit: Audit
    ) -> Drained:
        """Discard misplaced events of a key of this lane's copy; as `discard` otherwise. Raises BadRequest."""
        done = self._tasks.holding_replica(replica, partition, key).discard(partition, key, offset, limit)
        log.warning(
            "%s: %d events of %r of the replica %s are discarded, by %s: %s",
            self._service,
            done.done,
            key,
            replica,
            *audit,
        )
        return done

    def pause(self, audit: Audit) -> Paused:
        """Fold no commands here until `resume`, once that is committed beside the positions, for later owners, too.

        Raises TableUnavailable if nothing has happened and the call can be repeated.
        """
        if self._tasks.uncommitted():
            self._checkpoint()
        commands = [task for task in self._tasks.running() if task.source_topic.takes_commands]
        new = [task for task in commands if task.pause is None]
        for task in new:
            if task.position is None:  # nothing was ever folded there, and what is noted is noted beside a position
                task.position, _ = self._consumer.bounds(task.tp)
        self._commit_pause(PAUSED, new, Pause(*audit, self._clock.time_ms()), audit)
        for task in new:
            self._consumer.pause(task.tp)
            self._waiting[task.tp] = inf
        if new:
            event = {"event": "paused", "service": self._service}
            log.warning("%s is paused, by %s: %s", self._service, *audit, extra=event)
        return Paused(len(commands), len(new))

    def resume(self, audit: Audit) -> Resumed:
        """Fold again, from where the lane was held or paused, once that is committed; also what replicas hold."""
        paused = [task for task in self._tasks.running() if task.pause is not None]
        if not (self._stats.held or paused or self._tasks.held_by_replicas()):
            return Resumed(resumed=False)
        # What is committed is a position; a lane without partitions has nothing to resume.
        self._commit_pause(RESUMED, paused or self._tasks.running()[:1], None, audit)
        freed, why = self._tasks.try_replicas_again()
        event = {"event": "resumed", "service": self._service}
        log.warning("%s goes on, by %s: %s", self._service, audit.by, audit.why, extra=event)
        resumed = bool(self._stats.held or paused)
        if self._stats.held:
            self._error_rate.resume()
            for task in self._tasks.running():
                self._waiting.setdefault(task.tp, 0.0)
        for task in paused:
            self._waiting[task.tp] = 0.0  # read again from the next turn on
        return Resumed(resumed, freed, self._tasks.held_by_replicas(), why)

    def _commit_pause(self, action: str, tasks: Sequence[Task], pause: Pause | None, audit: Audit) -> None:
        """Commit that these tasks are paused or go on; if that fails they are as before."""
        before = [task.pause for task in tasks]
        for task in tasks:
            task.pause = pause
        try:
            self._alone.note(action, tasks, audit)
        except TableUnavailable:
            for task, was in zip(tasks, before, strict=True):
                task.pause = was
            raise
        self._stats.pause(self._service, [task.pause for task in self._tasks.running() if task.pause])

    def _level(self, tp: TP) -> Task:
        """The task of that partition, with all that it folded committed."""
        if not self._tasks.runs(tp):
            raise TableUnavailable(f"{tp.topic}-{tp.partition} is not folded here just now; ask again")
        if building := self._tasks[tp].beside.building:
            raise TableUnavailable(
                f"{', '.join(step.name for step in building)} is new and is built from {tp.topic}-{tp.partition}, and "
                "what waits there keeps its order until then; ask again"
            )
        if self._tasks.uncommitted():
            self._checkpoint()
        return self._tasks[tp]
