"""The steps of one task that are newer than what it has folded: where each begins, and how it gets level."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from math import inf
from typing import TYPE_CHECKING

from pipeline.engine.parking.parking import Parking
from pipeline.engine.parking.parking_log import describe_error
from pipeline.engine.parking.retries import Retries
from pipeline.engine.ports import TP, Record
from pipeline.engine.state.table import SharedTable
from pipeline.engine.steps.step import DecidedAt, Step
from pipeline.errors import TransactionAborted, UndecodableRecord
from pipeline.flow import KeyState
from pipeline.flow.functions.raised import is_topologys
from pipeline.model.records.partitioning import partition_of
from pipeline.model.records.step_notes import StepNote, StepNotes, mark
from pipeline.model.start import NOW

if TYPE_CHECKING:
    from pipeline.engine.context import LaneContext

log = logging.getLogger(__name__)


class Later(Step):
    """A step that begins in the midst of its source: what came before is not for it, not even from a queue."""

    def __init__(self, step: Step, began: int) -> None:
        self.name, self.start, self._step, self._began = step.name, step.start, step, began

    def fold(self, key: bytes, record: Record, message: object, placed: DecidedAt | None = None) -> None:
        if record.offset() >= self._began:
            self._step.fold(key, record, message, placed)


class Newcomers:
    """`level`: the steps that fold what the task reads. `building`: those that first have to fold what lies before.

    `notes`: where each stands, as the next commit is to say. `position`: the next offset to fold for those that are
    built. `touched`: whether the notes have changed since the last commit.
    """

    def __init__(
        self,
        parking: Parking,
        steps: list[Step],
        shared: Sequence[SharedTable],
        position: Callable[[], int | None],
        context: LaneContext,
    ) -> None:
        """`steps`: all, shared with `parking`. `position`: where the task is."""
        self.tp, self._steps, self._parking, self._shared = parking.tp, steps, parking, shared
        self._task_position = position
        self._declared = tuple(steps)
        self._stats, self._error_rate, self._clock = context.stats, context.error_rate, context.ports.clock
        self._service = context.plan.service.name
        self.level, self.building = list(steps), list[Step]()
        self.notes: StepNotes = {}
        self._noted: StepNotes = {}  # by the last commit
        self._kept: StepNotes | None = None  # what holds if what was folded is dropped; None: the task has not begun
        self._first_offset: int | None = None
        self.position = 0
        self._retries = Retries(context.plan.service.transient, self._stats)
        self.resume_s = 0.0  # until then it is not tried again

    # --- where each step stands ---------------------------------------------------------------------------------------

    def begin(self, committed: int | None, noted: StepNotes, bounds: Callable[[TP], tuple[int, int]]) -> int | None:
        """Find out where each step stands, once. Returns where a task begins that nothing was committed for."""
        if self._kept is not None:
            return self._first_offset if committed is None else committed
        self._noted, notes = noted, dict[str, StepNote]()
        for step in self._declared:
            if step.start is not None:
                name = mark(step.name)
                notes[name] = noted.get(name) or self._first(step, committed, noted, bounds(self.tp))
        gone = {name: note for name, note in noted.items() if name not in notes}
        for name, note in gone.items():  # it is not declared any more, and goes on from here if it is again
            notes[name] = note._replace(at=committed, level=False) if note.level and committed is not None else note
        self._arrange(notes)
        self._join_at(committed)
        self._kept = self.notes
        self._tell(committed)
        if committed is None:
            self._first_offset = min(note.at for note in notes.values()) if notes else bounds(self.tp)[0]
        return self._first_offset if committed is None else committed

    def _first(self, step: Step, committed: int | None, noted: StepNotes, bounds: tuple[int, int]) -> StepNote:
        """Where a step begins that is not noted."""
        low, high = bounds
        if committed is None:
            at = high if step.start == NOW else low
            if at > low:
                log.info('%s: %s begins now (start="now"), at %s-%d offset %d', self._service, step.name, *self.tp, at)
            return StepNote(at, at, level=True)
        if not noted:  # somebody else has committed that offset, for all that is declared
            return StepNote(0, committed, level=True)
        if step.start == NOW:
            log.info(
                '%s: %s is new and begins now (start="now"), at %s-%d offset %d',
                *(self._service, step.name, *self.tp, committed),
            )
            return StepNote(committed, committed, level=True)
        return StepNote(low, low, level=low >= committed)

    def _tell(self, committed: int | None) -> None:
        for step in self.building:
            note = self.notes[mark(step.name)]
            log.info(
                "%s: %s begins at the beginning, and is built beside the others: from %s-%d offset %d to %d"
                if note.at == note.began
                else "%s: %s is built on, beside the others: from %s-%d offset %d to %d",
                *(self._service, step.name, *self.tp, note.at, committed),
            )

    def _arrange(self, notes: StepNotes) -> None:
        """Take these notes over, in place: others hold the lists."""
        self.notes = notes
        found = [(step, notes.get(mark(step.name))) for step in self._declared]
        self._steps[:] = [
            Later(step, note.began) if note is not None and note.began and step.start == NOW else step
            for step, note in found
        ]
        is_level = [note is None or note.level for _, note in found]
        self.level[:] = [step for step, level in zip(self._steps, is_level, strict=True) if level]
        self.building[:] = [step for step, level in zip(self._steps, is_level, strict=True) if not level]
        self.position = min((self._at(step) for step in self.building), default=0)

    def _at(self, step: Step) -> int:
        return self.notes[mark(step.name)].at

    def advance(self, offset: int) -> None:
        """All below `offset` is folded. The steps that get to where the task is are level from now on."""
        built = {mark(step.name) for step in self.building}
        self.notes = {
            name: note._replace(at=max(offset, note.at)) if name in built else note for name, note in self.notes.items()
        }
        self.position = max(offset, self.position)
        self._join_at(self._task_position())

    def _join_at(self, position: int | None) -> None:
        if position is not None and (there := [step for step in self.building if self._at(step) >= position]):
            names = {mark(step.name) for step in there}
            self._arrange(
                {
                    n: StepNote(note.began, position, level=True) if n in names else note
                    for n, note in self.notes.items()
                }
            )
            for step in there:
                log.info("%s: %s is built from %s-%d, up to offset %d", self._service, step.name, *self.tp, position)

    @property
    def touched(self) -> bool:
        """Whether a commit has something new to note."""
        return self.notes is not self._noted and self.notes != self._noted

    def mark_committed(self) -> None:
        """Take over that what was folded is committed."""
        self._noted = self._kept = self.notes

    def roll_back(self) -> None:
        """Drop what was folded since the last commit."""
        if self._kept is not None and self.notes is not self._kept:
            self._arrange(self._kept)

    # --- folding ------------------------------------------------------------------------------------------------------

    def fold(self, records: Sequence[Record], until_s: float = inf) -> int:
        """Fold records that the others have folded, for the steps that are built. Returns how many, as Task.fold does.

        A record that raises is parked, as are later ones of its key, each as one that the others have folded. What
        waits in the queue already comes from there.
        """
        for table in self._shared:
            table.expect(key for record in records if (key := record.key()))
        folded = 0
        for record in records:
            if (folded and self._clock.monotonic_s() > until_s) or not self._fold(record):
                break
            folded += 1
        if folded:
            self.advance(records[folded - 1].offset() + 1)
        self._stats.records += folded
        return folded

    def _fold(self, record: Record) -> bool:
        """Fold one record. False if it is to be tried again."""
        key, parking = record.key(), self._parking
        try:
            message = parking.decode(key, record)
        except UndecodableRecord:
            return True  # it was parked when it came, and comes from the queue, or was discarded
        # One whose key belongs elsewhere was parked when it came, and is for nobody here.
        if message is None or partition_of(key, parking.partitions) != self.tp.partition or self._waits(record):
            return True
        done = self._done(record.offset())
        for step in [step for step in self.building if step.name not in done]:
            try:
                step.fold(key, record, message)
            except BaseException as error:
                if not is_topologys(error):
                    raise
                if self._retries.is_next(record, error):
                    self.resume_s = self._clock.monotonic_s() + self._retries.pause_s
                    if step is not self.building[0]:
                        raise TransactionAborted(f"a transient error: {describe_error(error)[0]}") from error
                    return False
                self._error_rate.record(self.tp, record.offset(), error)
                parking.put_aside(record, error, message, done, beside=self._task_position())
                return True
            done = (*done, step.name)
        return True

    def _waits(self, record: Record, *, bare: bool = False) -> bool:
        """Whether a record waits in the queue already, or has to wait from now on, behind one of its key."""
        key, queue = record.key() or b"", self._parking.queue
        if key not in queue.held or queue.goes_before(key, record.offset()):
            return False
        if not queue.waits(key, record.offset()):
            self._parking.hold(record, KeyState.BEHIND, done=self._done(record.offset()), bare=bare)
            self._parking.touched = True
        return True

    def _done(self, offset: int) -> tuple[str, ...]:
        """The steps that have folded a record, or are not to."""
        return tuple(step.name for step in self._steps if step not in self.building or self._at(step) > offset)

    def skip(self, record: Record, error: Exception, *, bare: bool) -> None:
        """Park a record whose effects the broker refuses, as there are too many; `bare`: without its value."""
        if not self._waits(record, bare=bare):
            message = self._parking.decode(record.key(), record)
            done, beside = self._done(record.offset()), self._task_position()
            self._parking.put_aside(record, error, message, done, bare=bare, beside=beside)
        self.advance(record.offset() + 1)
