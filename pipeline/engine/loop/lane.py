"""The lane: how a service runs. A synchronous loop over injected adapters; it never sleeps, spawns or reads a clock.

One turn is `poll`, `fold` for each batch it returned, `commit_if_due`. In a worker one thread makes the turns, with a
Faust agent between poll and fold; a test or a simulator just calls `turn`.
"""

from __future__ import annotations

from collections.abc import Sequence

from pipeline.engine import told
from pipeline.engine.beside.building import Building
from pipeline.engine.context import LaneContext, LanePorts, LaneSettings
from pipeline.engine.copies.histories import Views
from pipeline.engine.loop.alone import Alone
from pipeline.engine.loop.assignment import Assignment
from pipeline.engine.loop.held_back import HeldBack
from pipeline.engine.loop.operators import Operators
from pipeline.engine.loop.pace import TURN_S, Pace
from pipeline.engine.loop.takeover import Takeover
from pipeline.engine.loop.task import Task
from pipeline.engine.loop.transaction import Transaction
from pipeline.engine.plan import ServicePlan
from pipeline.engine.ports import TP, Batch, Polled
from pipeline.engine.stats import LaneStats
from pipeline.errors import LaneFatal, RecordRefused, RecordsLost, TransactionAborted
from pipeline.model import NEVER

ABORTED_MAX = 10  # transactions in a row, before a new producer is tried
YIELD_S = 5.0  # for how long a slow partition may keep others waiting


class Lane:
    """One service in one process: its consumer, its producer, the tables of the partitions it holds.

    Any call may raise LaneFatal or BrokerUnreachable: the lane is then to be abandoned, and may be opened anew.
    """

    def __init__(
        self, plan: ServicePlan, ports: LanePorts, settings: LaneSettings | None = None, stats: LaneStats | None = None
    ) -> None:
        context = LaneContext.of(plan, ports, settings or LaneSettings(), stats or LaneStats())
        self.plan, self.settings, self.stats = plan, context.settings, context.stats
        self._consumer, self._producer, self._reader = ports.consumer, ports.producer, ports.reader
        self._clock, self._error_rate = ports.clock, context.error_rate
        self._tasks = Assignment(context)
        self.views = self._tasks.views  # read by other threads
        self.histories: Views = {} if ports.histories is None else ports.histories.views  # these, too
        self.places = self._tasks.places  # and this
        self.positions, self.committed = self.places.positions, self.places.committed
        self._ends: dict[TP, int] = {}  # partitions read to their end, and where that is
        self._held_back = HeldBack(self._clock)
        self._suspect: dict[TP, int] = {}  # up to there, each record gets a transaction of its own
        self._waiting: dict[TP, float] = {}  # partitions that stand before a record to be tried again, and until when
        self._rewound = False  # whether partitions were rewound since the last poll: what it brought is void
        self._folded = 0  # records since the last commit
        most, commit_after_max = self.settings.records_per_poll_max, self.settings.records_per_commit_max
        self._pace = Pace(most, commit_after_max, careful=self.stats.reopened > 0)
        self._takeover = Takeover(self._consumer, self._producer, self._clock)
        self._transaction = Transaction(context, self._tasks, self._pace, self._takeover)
        self._alone = Alone(context, self._transaction, self._start_over)
        self._building = Building(context, self._tasks, self._transaction, self._alone, self._checkpoint)
        asked = Operators(context, self._tasks, self._alone, self._checkpoint, self._waiting)
        self.redrive, self.discard, self.pause = asked.redrive, asked.discard, asked.pause  # see there: between turns
        self.redrive_copy, self.discard_copy, self.resume = asked.redrive_copy, asked.discard_copy, asked.resume
        self._turn_records, self._turn_s = 0, 0.0  # folded in this turn, and the time it took
        self._yielded_s = 0.0  # when a partition was read again so that others get their turn
        self._resume_s = 0.0  # until then nothing is folded, after aborts in a row
        self._unclaimed: dict[TP, Task] = {}  # running, and nothing is folded there before this lane is noted
        self._committed_s = self._clock.monotonic_s()
        self.places.watch(self._waiting, self._unclaimed, self._held_back)
        self._backlog = False  # whether more waits to be read, to go by what the last poll brought

    # --- the turn -----------------------------------------------------------------------------------------------------

    def open(self) -> None:
        """Join the group, and start following the logs of replicas and standbys."""
        self._tasks.open()
        if self.plan.source_topics:
            self._consumer.subscribe(sorted(self.plan.source_topics), self)

    def turn(self) -> None:
        """Run one turn."""
        for batch in self.poll():
            self.fold(batch)
        self.commit_if_due()

    def poll(self) -> list[Batch]:
        """Read what has arrived, waiting for the idle time at most. Also advance restores, standbys and replicas."""
        self._takeover.step()
        followed, started = self._tasks.step(self._consumer.committed)
        for task in self._building.level(self._claim(started)):
            self._hold(task, float("inf")) if task.pause else self._consumer.start(task.tp, task.committed)
        self._try_again()
        self._building.look()
        wait_s = self._wait_s(followed)
        self.stats.deadlines_pending = sum(task.pending for task in self._tasks.running())
        self._rewound = False
        if self.stats.held:
            self._stand_still()
        take = self._pace.take
        polled = self._consumer.poll(take, wait_s, self._gather_s())
        if self._rewound:
            # A rebalance within the poll has aborted and rewound; what was read before it is to be read again.
            self._rewind()
            polled = Polled()
        for tp in polled.out_of_range:
            polled.batches.pop(tp, None)
            self._refind(tp)
        brought = sum(map(len, polled.batches.values()))
        self._backlog = brought >= min(self.settings.backlog_records, take)
        self._ends = polled.ends
        self.stats.held_back_s = self._held_back.look(polled)
        return [Batch(tp, records) for tp, records in polled.batches.items() if self._folds(tp)]

    def _folds(self, tp: TP) -> bool:
        return self._tasks.runs(tp) and not (self.stats.held or tp in self._waiting or tp in self._unclaimed)

    def _wait_s(self, followed: bool) -> float:
        """How long to wait for records: not at all while there is other work to do, nor beyond the next deadline."""
        if followed or self._tasks.uncommitted():
            return 0
        settings, busy = self.settings, self._tasks.waiting or self._building.busy
        wait_s = settings.restore_wait_s if busy else settings.idle_wait_s
        if self._waiting:
            wait_s = min(wait_s, max(0.0, min(self._waiting.values()) - self._clock.monotonic_s()))
        next_due_ms = min((task.next_due_ms for task in self._tasks.running()), default=NEVER)
        if next_due_ms == NEVER or self._fires_nothing():
            return wait_s
        return min(wait_s, max(0.0, (next_due_ms - self._clock.time_ms()) / 1000))

    def _gather_s(self) -> float:
        """For how long to wait for more than the first record.

        The broker takes some milliseconds to end a transaction behind its answer, and holds up what begins before that
        for 20 ms and more; better take in what arrives meanwhile.
        """
        if self._backlog or self._tasks.uncommitted():
            return 0
        return max(0.0, self._committed_s + self.settings.pause_s - self._clock.monotonic_s())

    def fold(self, batch: Batch) -> None:
        """Run the steps on one batch. Its effects are in the open transaction and in memory, nowhere else."""
        if self._rewound or not self._folds(batch.tp):
            return
        began_s, decided = self._clock.monotonic_s(), self.stats.commands
        until_s = began_s + self._pace.budget_s - self._turn_s
        try:
            if self._suspect:
                folded = self._fold_one_by_one(batch, until_s)
            else:
                self._transaction.begin()
                folded = self._tasks[batch.tp].fold(batch.records, until_s)
        except TransactionAborted as aborted:
            folded = len(batch.records)
            if isinstance(aborted, RecordRefused):
                self._suspect[batch.tp] = batch.records[-1].offset() + 1
            self._start_over(aborted)
        took_s = self._clock.monotonic_s() - began_s
        self._turn_s += took_s
        if folded and self._transaction.is_open:  # else it is aborted, or was committed record by record
            self.stats.timings.folded(batch, folded, took_s, self.stats.commands - decided)
        self._look_after(batch, folded)

    def _look_after(self, batch: Batch, folded: int) -> None:
        """Update pace, counts and pauses after a batch."""
        self._folded += folded
        self._turn_records += folded
        task = self._tasks[batch.tp]
        if task.stalled:
            task.stalled = False
            self._hold(task, task.pause_s)
        elif folded < len(batch.records) and not self._rewound:  # its time was over: the rest is read again
            self._backlog = True
            self._ends.pop(task.tp, None)
            self._consumer.start(task.tp, task.position)
        elif self._is_to_yield() and not self._rewound and task.tp not in self._ends:
            # The client gives out what it has fetched first come first served, thousands of one partition before any of
            # another. Read again, it comes behind what waits of the others.
            self._yielded_s = self._clock.monotonic_s()
            self._consumer.start(task.tp, task.position)

    def _is_to_yield(self) -> bool:
        """Whether this turn takes long over few records, and none has yielded lately: to read again takes time, too."""
        slow = self._turn_s > TURN_S / 2 and self._turn_records <= self.settings.backlog_records
        return slow and self._clock.monotonic_s() - self._yielded_s > YIELD_S

    def _hold(self, task: Task, seconds: float) -> None:
        """Pause a partition for a while. The lane continues, and stays in the group."""
        self._consumer.pause(task.tp)
        self._waiting[task.tp] = max(self._waiting.get(task.tp, 0.0), self._clock.monotonic_s() + seconds)

    def _try_again(self) -> None:
        """Resume the partitions whose wait after a transient error is over."""
        now = self._clock.monotonic_s()
        for tp in [tp for tp, until_s in self._waiting.items() if until_s <= now]:
            del self._waiting[tp]
            if self._tasks.runs(tp):
                self._consumer.start(tp, self._tasks[tp].position)

    def commit_if_due(self) -> None:
        """Make a checkpoint if it is due: at the interval, or at once if there is no backlog.

        Records that arrive during a commit go into the next one, so commits grow with the load.
        """
        for tp, end in self._ends.items():
            if self._folds(tp):  # steps over transaction markers, which no record stands for
                task = self._tasks[tp]
                task.position = max(end, task.position or 0)
        self._ends = {}
        if self._suspect:
            self._clear_suspects()
        if self._turn_records:
            self._pace.folded(self._turn_records, self._turn_s)
        self._turn_records, self._turn_s = 0, 0.0
        if not self._fires_nothing():
            self._fire()
        if not self._tasks.uncommitted():
            return
        due = self._clock.monotonic_s() - self._committed_s >= self.settings.commit_interval_s
        if due or not self._backlog or self._folded >= self._pace.commit_after:
            self._checkpoint()

    def _fires_nothing(self) -> bool:
        """Whether deadlines must wait: for records folded one by one, a claim, an operator, or the end of a pause."""
        return bool(self._suspect or self._unclaimed or self.stats.held) or self._clock.monotonic_s() < self._resume_s

    def _fire(self) -> None:
        """Send commands that have fallen due, and build what is new: a bounded number a turn, so others go on."""
        now_ms = self._clock.time_ms()
        due = [task for task in self._tasks.running() if task.next_due_ms <= now_ms]
        try:
            for task in due:
                if fired := task.take_due(now_ms, max(1, self.settings.fired_per_turn_max // len(due))):
                    self._transaction.begin()
                    task.fire(fired, now_ms)
                    self._folded += len(fired)
            self._folded += self._building.fold()
        except TransactionAborted as aborted:
            self._start_over(aborted)

    def close(self) -> None:
        """Commit, hand over to the others of the group, and close; the process may end."""
        self._takeover.look_for_heirs(self._tasks.running(), self.settings.ending)
        if self._tasks.uncommitted():
            self._checkpoint(self.settings.revoke_patience_s)
        self._release(owned=True)

    def abandon(self, error: BaseException) -> None:
        """Close without committing, after `error`. The next lane continues from the last commit."""
        if self._transaction.is_open and not isinstance(error, LaneFatal):
            # Frees at once those who read what this lane writes; the next producer of this name would do it, too.
            try:
                self._producer.abort()
            except LaneFatal as fatal:
                told.left_open(self.plan.service.name, fatal)
        self._transaction.forget()
        self._release(owned=False)

    def _release(self, *, owned: bool) -> None:
        self._tasks.close(owned=owned)
        for close in (self._takeover.close, self._building.close, self._reader.close, self._producer.close):
            close()

    # --- the transaction ----------------------------------------------------------------------------------------------

    def _checkpoint(self, patience_s: float | None = None) -> None:
        """Commit what is folded. If the transaction is aborted, fold again."""
        try:
            self._transaction.commit(patience_s or self.settings.commit_patience_s)
        except TransactionAborted as aborted:
            self._start_over(aborted)
        self._folded = 0
        self._committed_s = self._clock.monotonic_s()

    def _start_over(self, aborted: TransactionAborted) -> None:
        times = self._transaction.aborted = self._transaction.aborted + 1
        if times > ABORTED_MAX:
            raise LaneFatal(f"{times} transactions in a row could not be committed: {aborted}") from aborted
        told.starts_over(self.plan.service.name, aborted, times)
        pause_s = 0.0
        if isinstance(aborted, RecordRefused):
            # Folded again together, they would be refused for ever. Which of them it is shows when they come singly.
            self._suspect |= {task.tp: task.position or 0 for task in self._tasks.uncommitted()}
        else:
            pause_s = self._pace.aborted(times)
        self._transaction.abort()
        self._rewind(pause_s)

    def _rewind(self, pause_s: float = 0.0) -> None:
        """Read on from the last commit, after a pause."""
        self._rewound, self._ends = True, {}
        self._resume_s = self._clock.monotonic_s() + pause_s
        for task in self._tasks.running():
            if pause_s:
                self._hold(task, pause_s)
            elif task.tp not in self._waiting:
                self._consumer.start(task.tp, task.committed)

    # --- records that the broker refuses ------------------------------------------------------------------------------

    def _fold_one_by_one(self, batch: Batch, until_s: float) -> int:
        """Fold each record in a transaction of its own, and park the one that the broker refuses. Return how many."""
        if self._tasks.uncommitted():
            self._checkpoint()
        task = self._tasks[batch.tp]
        for number, record in enumerate(batch.records):
            if self._rewound or task.stalled or self.stats.held or (number and self._clock.monotonic_s() > until_s):
                return number
            try:
                self._alone.fold(task, record)
            except TransactionAborted as aborted:
                self._start_over(aborted)
        return len(batch.records)

    # --- held, as too much has raised ---------------------------------------------------------------------------------

    def _stand_still(self) -> None:
        """Read no more. The lane stays in the group, follows its copies, and does what operators ask."""
        for task in self._tasks.running():
            self._consumer.pause(task.tp)

    def _clear_suspects(self) -> None:
        """Drop the suspects that were folded and committed."""
        tasks = self._tasks
        left = {tp: end for tp, end in self._suspect.items() if tasks.runs(tp) and (tasks[tp].position or 0) < end}
        self._suspect = left

    # --- what the log says --------------------------------------------------------------------------------------------

    def _refind(self, tp: TP) -> None:
        """Handle an offset out of range. Raises RecordsLost if the log does not hold it indeed."""
        if not self._tasks.runs(tp):
            return
        position = self._tasks[tp].position
        low, high = self._consumer.bounds(tp)
        if position is not None and not low <= position <= high:
            raise RecordsLost(
                f"{tp.topic}-{tp.partition} holds offsets {low} to {high}, but {self.plan.service.name!r} has to "
                f"fold {position} next: retention has deleted what was not folded yet, or the topic is another one. "
                f"See where it can go on with: pipeline reset --to-tables --service {self.plan.service.name} --dry-run"
            )
        self._consumer.start(tp, position)

    # --- partitions that are taken over -------------------------------------------------------------------------------

    def _claim(self, started: Sequence[Task]) -> list[Task]:
        """Note this lane as the owner of partitions that had another owner or none, before it writes for them.

        So the next owner knows whose transaction may be open, even if this lane never committed. Returns the tasks that
        may fold from now on; an abort leaves the others to the next turn.
        """
        self._unclaimed |= {task.tp: task for task in started}
        for task in self._unclaimed.values():
            task.claims = self._takeover.is_unclaimed(task.tp)
            task.begin(self._consumer.bounds)
        if self._unclaimed and self._tasks.uncommitted():
            self._checkpoint()
        claimed = [task for task in self._unclaimed.values() if not task.claims]
        for task in claimed:
            del self._unclaimed[task.tp]
        return claimed

    # --- assignments, called from within the consumer's poll ----------------------------------------------------------

    def assigned(self, partitions: Sequence[TP]) -> None:
        """Open the tasks, paused. They start in later turns, once their tables are restored."""
        self._tasks.add(partitions)
        self._takeover.assigned(partitions)
        told.assignment(self.plan.service.name, "assigned", partitions)

    def revoked(self, partitions: Sequence[TP]) -> None:
        """Commit what is folded while membership still allows it, then give the partitions up."""
        if self._tasks.uncommitted():
            self._checkpoint(self.settings.revoke_patience_s)
        self._tasks.remove(partitions, owned=True)
        self._forget(partitions)
        told.assignment(self.plan.service.name, "revoked", partitions)

    def lost(self, partitions: Sequence[TP]) -> None:
        """Abort: membership is gone, and other members may own the partitions already."""
        try:
            self._transaction.abort()
        finally:
            self._tasks.remove(partitions, owned=False)
            self._forget(partitions)
            self._takeover.lost()
        self._rewind()
        told.assignment(self.plan.service.name, "lost", partitions)

    def _forget(self, partitions: Sequence[TP]) -> None:
        self._takeover.removed(partitions)
        self._held_back.forget(partitions)
        for tp in partitions:
            self._suspect.pop(tp, None)
            self._waiting.pop(tp, None)
            self._unclaimed.pop(tp, None)
