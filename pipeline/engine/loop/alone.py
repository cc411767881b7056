"""What gets a transaction of its own: a record that the broker may refuse, and parked records that are taken up again.

A transaction in which the broker refuses a record must be aborted, with all else in it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, TypeVar

from pipeline.engine.loop.pace import TURN_S
from pipeline.engine.loop.task import Task
from pipeline.engine.loop.transaction import Transaction
from pipeline.engine.parking.parking import Drained
from pipeline.engine.parking.parking_log import Audit, Notices
from pipeline.engine.ports import Record
from pipeline.errors import RecordRefused, RowRefused, TableUnavailable, TransactionAborted

if TYPE_CHECKING:
    from pipeline.engine.beside.newcomers import Newcomers
    from pipeline.engine.context import LaneContext

T = TypeVar("T")
PARK_TRIES = 4  # of a record that the broker refuses


class Alone:
    """Folds and commits one thing at a time; nothing else may be uncommitted. `start_over`: what an abort leads to."""

    def __init__(
        self, context: LaneContext, transaction: Transaction, start_over: Callable[[TransactionAborted], None]
    ) -> None:
        self._transaction, self._start_over = transaction, start_over
        self._error_rate, self._clock = context.error_rate, context.ports.clock
        self._patience_s = context.settings.commit_patience_s
        self._notices = Notices(context.ports.producer, context.stats, context.plan.parked, "")

    # --- a record that the broker may refuse --------------------------------------------------------------------------

    def fold(self, task: Task | Newcomers, record: Record) -> None:
        """Fold a record; park it if the broker refuses its effects. Raises TransactionAborted."""
        try:
            self._transaction.begin()
            task.fold([record])
            self._transaction.commit(self._patience_s)
        except RecordRefused as refused:
            self._park(task, record, refused)

    def _park(self, task: Task | Newcomers, record: Record, refused: RecordRefused) -> None:
        # Bare if there is no room for the cause beside the record. Again after any abort: librdkafka counts a
        # refused record in, and finds out that the broker does not when the next one comes to the same partition.
        bare, aborted = False, TransactionAborted("")
        for _ in range(PARK_TRIES):
            self._transaction.abort()
            try:
                self._transaction.begin()
                task.skip(record, refused, bare=bare)
                if isinstance(refused, RowRefused):
                    self._error_rate.record(task.tp, record.offset(), refused)
                self._transaction.commit(self._patience_s)
                return
            except TransactionAborted as again:
                bare, aborted = bare or isinstance(again, RecordRefused), again
        raise aborted

    # --- parked records that are taken up again -----------------------------------------------------------------------

    def redrive(self, task: Task, key: bytes, limit: int, audit: Audit) -> Drained:
        """Fold a key's parked records in order, `limit` at most, and as many as a turn has time for.

        Raises NotParked or TableUnavailable.
        """
        until_s = self._clock.monotonic_s() + TURN_S
        for count in (limit, 1):
            try:
                return self._committed(lambda count=count: task.redrive(key, count, audit, until_s))  # type: ignore[misc]
            except RecordRefused as refused:  # together, or by itself
                self._transaction.abort()
                last = refused
        return self._insist(lambda: task.refuse(key, last, audit))

    def discard(self, task: Task, key: bytes, offset: int | None, limit: int, audit: Audit) -> Drained:
        """Discard a key's first parked record, that of `offset`; None: the first `limit`. Raises as `redrive`."""
        return self._committed(lambda: task.discard(key, offset, limit, audit))

    def note(self, action: str, tasks: Sequence[Task], audit: Audit) -> None:
        """Write a notice of what is done with the service, and the positions of these tasks, if there are any.

        Raises TableUnavailable; nothing has happened then.
        """
        for task in tasks:
            task.claims = True
        if tasks:
            self._committed(lambda: self._notices.of_service(action, audit))

    def _committed(self, act: Callable[[], T]) -> T:
        try:
            self._transaction.begin()
            done = act()
            self._transaction.commit(self._patience_s)
            return done
        except RecordRefused:
            raise
        except TransactionAborted as aborted:
            self._start_over(aborted)
            raise TableUnavailable(f"the transaction was aborted: {aborted}; ask again") from aborted

    def _insist(self, act: Callable[[], Drained]) -> Drained:
        """Commit `act` after a refused record, which librdkafka may report in the next transaction only."""
        for _ in range(2):
            try:
                return self._committed(act)
            except (RecordRefused, TableUnavailable):
                if self._transaction.is_open:
                    self._transaction.abort()
        return self._committed(act)
