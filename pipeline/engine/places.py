"""Where the partitions and copies of a lane stand, for other threads: each call copies what the lane changes first."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import suppress
from enum import Enum
from typing import TYPE_CHECKING, Any, NamedTuple

from pipeline.engine.ports import TP, Position
from pipeline.engine.state.sagas import STUCK, Unsettled
from pipeline.errors import TableUnavailable

if TYPE_CHECKING:
    from pipeline.engine.context import LaneContext
    from pipeline.engine.copies.recovery import TableRecovery
    from pipeline.engine.copies.replica import ReplicaCopy
    from pipeline.engine.loop.held_back import HeldBack
    from pipeline.engine.loop.task import Task

HELD_BACK_S = 1.0  # a transaction that is open for less is one that others just write


class WaitsFor(Enum):
    """What keeps a partition from being folded, or some of its keys."""

    NOTHING = "nothing"
    RESTORE = "restore"  # of its tables, or the claim of a new owner
    COPY = "copy"  # of others' data that its commands are decided with, or its states of a new revision
    OPEN_TRANSACTION = "open_transaction"  # of another client, in its log
    SCHEMA = "schema"  # of its next record
    RETRY = "retry"  # after a transient error, or aborts in a row
    HELD = "held"  # until the service is resumed
    PAUSED = "paused"  # the same, but it is an operator who has paused it
    PARKED_KEY = "parked_key"  # all other keys go on


class Restore(NamedTuple):
    """How many changelog records were applied, and how many are to be, by their offsets."""

    done: int
    target: int


class Place(NamedTuple):
    """Where a partition stands. `known`: whether `offset`, the next to fold by the last commit, is known yet.

    `offset`: None is the log's beginning. `appended_ms`: when the last record folded was appended; 0: none was.
    """

    known: bool
    offset: int | None
    appended_ms: int
    waits_for: WaitsFor
    restore: Restore | None = None


class Stop(NamedTuple):
    """Why a partition is not folded. `detail`: for people."""

    tp: TP
    waits_for: WaitsFor
    detail: str


class SagaFigures(NamedTuple):
    """Instances of a saga that have not ended: how many by status; since when the oldest, and the oldest stuck one.

    Times in milliseconds since the epoch; 0: there is none.
    """

    statuses: Mapping[str, int]
    since_ms: int
    stuck_ms: int


class Places:
    """What a lane's tasks, restores and copies say of themselves. Safe from any thread."""

    def __init__(
        self,
        context: LaneContext,
        tasks: Mapping[TP, Task],
        restores: Mapping[TP, tuple[TableRecovery, Position | None]],
        standbys: Mapping[TP, TableRecovery],
        replicas: Sequence[ReplicaCopy],
    ) -> None:
        self._tasks, self._restores, self._standbys, self._replicas = tasks, restores, standbys, replicas
        self._stats, self._clock = context.stats, context.ports.clock
        self._waiting: Collection[TP] = ()
        self._unclaimed: Collection[TP] = ()
        self._held_back: HeldBack | None = None

    def watch(self, waiting: Collection[TP], unclaimed: Collection[TP], held_back: HeldBack) -> None:
        """Take in what the lane itself knows: partitions to be tried again, those not claimed, those held back."""
        self._waiting, self._unclaimed, self._held_back = waiting, unclaimed, held_back

    def committed(self, tp: TP) -> int | None:
        """The next offset of a partition that runs, by its last commit; else None."""
        task = self._tasks.get(tp)
        return task.committed if task is not None and task.running else None

    def positions(self) -> dict[str, dict[str, Any]]:
        """What the stores of running tasks say of themselves, by source partition."""
        found = {}
        for tp, task in list(self._tasks.items()):
            if task.running:
                with suppress(TableUnavailable):  # given up at this very moment
                    found[f"{tp.topic}-{tp.partition}"] = task.stored()
        return found

    def all(self) -> dict[TP, Place]:
        """Where each assigned partition stands."""
        return {tp: self._place(tp, task) for tp, task in list(self._tasks.items())}

    def stops(self) -> Iterator[Stop]:
        """Yield the partitions of which nothing is folded. Reads no store, as that may be a database.

        A service that is held stops all of them, and says so itself.
        """
        for tp, task in list(self._tasks.items()):
            if (restoring := self._restores.get(tp)) is not None:
                copy = restoring[0]
                waits_for = WaitsFor.RESTORE if copy.unfinished or not copy.is_aimed else WaitsFor.COPY
                yield Stop(tp, waits_for, f"its tables are being restored: {copy.doing}")
            elif not task.running or tp in self._unclaimed:
                yield Stop(tp, WaitsFor.RESTORE, "its last owner's transaction is being ended")
            elif task.states is not None and (behind := task.states.why_behind):
                yield Stop(tp, WaitsFor.COPY, behind)
            elif task.pause is not None:
                yield Stop(tp, WaitsFor.PAUSED, self._stats.paused_why)
            elif task.unknown.offset is not None:
                yield Stop(tp, WaitsFor.SCHEMA, f"offset {task.unknown.offset} waits for its schema, or for newer code")
            elif task.position is not None and task.retries.offset == task.position:
                yield Stop(tp, WaitsFor.RETRY, f"offset {task.position} raises a transient error, and is tried again")

    def copy_ages(self) -> dict[tuple[str, str], float]:
        """For how many seconds each copy may lack something, of its partitions the oldest; by name and kind.

        A standby goes by its source topic. Copies that have never caught up are left out.
        """
        now_s, ages = self._clock.monotonic_s(), dict[tuple[str, str], float]()
        copies = [((copy.replica.name, "replica"), copy.lag) for copy in list(self._replicas)]
        copies += [((tp.topic, "standby"), copy.lag) for tp, copy in list(self._standbys.items())]
        for name, lag in copies:
            if (age_s := lag.age_s(now_s)) is not None:
                ages[name] = max(age_s, ages.get(name, 0.0))
        return ages

    def cache_bytes(self) -> int:
        """About how much memory decoded rows take."""
        return sum(table.cache.kept_bytes for task in list(self._tasks.values()) for table in task.tables)

    def sagas(self) -> dict[str, SagaFigures]:
        """What has not ended, by saga. It may be incomplete for some time after a partition has been assigned."""
        found: dict[str, list[Unsettled]] = {}
        for task in list(self._tasks.values()):
            for table in task.sagas:
                found.setdefault(table.spec.name, []).extend(list(table.unsettled.values()))
        return {
            name: SagaFigures(
                Counter(each.status for each in instances),
                min((each.since_ms for each in instances), default=0),
                min((each.status_ms for each in instances if each.status == STUCK), default=0),
            )
            for name, instances in found.items()
        }

    def _place(self, tp: TP, task: Task) -> Place:
        restoring = self._restores.get(tp)
        if restoring is None:
            offset = task.position if task.committed is None else task.committed
            return Place(task.running, offset, task.appended_ms, self._waits_for(tp, task))
        copy, committed = restoring
        waits_for = WaitsFor.RESTORE if copy.unfinished else WaitsFor.COPY
        restore = None
        with suppress(TableUnavailable):
            restore = Restore(*copy.progress())
        offset = None if committed is None else committed.offset
        return Place(copy.is_aimed, offset, 0, WaitsFor.HELD if self._stats.held else waits_for, restore)

    def _waits_for(self, tp: TP, task: Task) -> WaitsFor:
        if self._stats.held:
            return WaitsFor.HELD
        if not task.running or tp in self._unclaimed:
            return WaitsFor.RESTORE
        if task.behind:
            return WaitsFor.COPY
        if task.pause is not None:
            return WaitsFor.PAUSED
        if task.unknown.offset is not None:
            return WaitsFor.SCHEMA
        if tp in self._waiting:
            return WaitsFor.RETRY
        if self._held_back is not None and self._held_back.seconds(tp) > HELD_BACK_S:
            return WaitsFor.OPEN_TRANSACTION
        return WaitsFor.PARKED_KEY if task.queue.waiting[0] else WaitsFor.NOTHING
