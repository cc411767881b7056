"""The transaction of a lane: all that its tasks have folded since the last commit becomes durable together, or not."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pipeline.engine.loop.assignment import Assignment
from pipeline.engine.loop.checkpoint import checkpoint
from pipeline.engine.loop.pace import Pace
from pipeline.engine.loop.takeover import Takeover

if TYPE_CHECKING:
    from pipeline.engine.context import LaneContext


class Transaction:
    """`is_open`: whether there is anything to abort. `aborted`: how many transactions in a row."""

    def __init__(self, context: LaneContext, tasks: Assignment, pace: Pace, takeover: Takeover) -> None:
        self._tasks, self._pace, self._takeover, self._stats = tasks, pace, takeover, context.stats
        self._error_rate, self._tracing = context.error_rate, context.tracing
        self._consumer, self._producer, self._clock = (
            context.ports.consumer,
            context.ports.producer,
            context.ports.clock,
        )
        self.is_open = False
        self.aborted = 0

    def begin(self) -> None:
        """Open a transaction, unless one is open."""
        if not self.is_open:
            self._producer.begin()
            self.is_open, self._stats.opened_s = True, self._clock.monotonic_s()

    def commit(self, patience_s: float) -> None:
        """Commit what is folded. Raises TransactionAborted if the transaction must be aborted, or LaneFatal."""
        started_s = self._clock.monotonic_s()
        began_ns = 0 if self._tracing is None else self._tracing.now_ns()
        self.begin()
        tasks, takeover = self._tasks.uncommitted(), self._takeover
        group = self._consumer.group()
        checkpoint(tasks, self._producer, group, self._clock, patience_s, takeover.unended, leaves=takeover.leaves)
        self.is_open, self._stats.opened_s = False, 0.0
        self.aborted = 0
        took_s = self._clock.monotonic_s() - started_s
        self._pace.committed(took_s)
        self._stats.timings.committed(took_s, self._clock.time_ms())
        self._stats.checkpoints += 1
        self._tasks.count_queues()
        self._error_rate.mark_committed()
        if self._tracing is not None:
            self._tracing.committed(began_ns)

    def abort(self) -> None:
        """Abort the open transaction, and drop all that was folded into it."""
        self._stats.aborts += 1
        if self.is_open:
            self._producer.abort()
        self.forget()
        self._tasks.drop()
        self._error_rate.roll_back()
        if self._tracing is not None:
            self._tracing.aborted()

    def forget(self) -> None:
        """Forget the open transaction: it is aborted, or the lane is given up."""
        self.is_open, self._stats.opened_s = False, 0.0
        self._stats.timings.drop()
