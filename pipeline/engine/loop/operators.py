"""What operators ask of a lane: redrive, discard, resume. Call it between turns, in the lane's thread."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

from pipeline.engine.loop.alone import Alone
from pipeline.engine.loop.assignment import Assignment
from pipeline.engine.loop.task import Task
from pipeline.engine.parking.parking import Drained
from pipeline.engine.parking.parking_log import Audit
from pipeline.engine.ports import TP
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


class Operators:
    """`checkpoint` commits what the lane has folded; `folds` says whether it folds a partition."""

    def __init__(
        self,
        context: LaneContext,
        tasks: Assignment,
        alone: Alone,
        checkpoint: Callable[[], None],
        folds: Callable[[TP], bool],
    ) -> None:
        self._service, self._stats, self._error_rate = context.plan.service.name, context.stats, context.error_rate
        self._consumer, self._tasks, self._alone = context.ports.consumer, tasks, alone
        self._checkpoint, self._folds = checkpoint, folds

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

    def resume(self, audit: Audit) -> Resumed:
        """Fold again, from where the lane was held, once a notice of it is committed; also what replicas hold."""
        if not (self._stats.held or self._tasks.held_by_replicas()):
            return Resumed(resumed=False)
        self._alone.note_resumed(self._tasks.running(), audit)
        freed, why = self._tasks.try_replicas_again()
        event = {"event": "resumed", "service": self._service}
        log.warning("%s goes on, by %s: %s", self._service, audit.by, audit.why, extra=event)
        if resumed := bool(self._stats.held):
            self._error_rate.resume()
            for task in self._tasks.running():
                if self._folds(task.tp):
                    self._consumer.start(task.tp, task.position)
        return Resumed(resumed, freed, self._tasks.held_by_replicas(), why)

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
