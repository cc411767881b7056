"""The states of an aggregate in one partition, and what they lack of its event log.

Each revision keeps its states in a topic of its own. While a worker of another revision decides, they fall behind: the
next one to take the partition over folds the events since then, before it decides anything. So the states that commands
are decided with, and that readers get, are always of the worker's own revision, whichever way partitions move in a
rolling upgrade. An event is folded into a state if its version is the next, so it does no harm to begin too early.

How far the states of each revision are is noted beside the committed offset, under the name of their topic: `began`,
the offset of the first command that this revision has decided since another one; `at`, the offset of the event log from
which its states lack events, NOTHING while it decides itself. Of the first revision nothing is noted, until there is
another.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Iterable, Mapping, Sequence
from types import MappingProxyType

from pipeline.engine.parking.parking_log import describe_error
from pipeline.engine.parking.unknown import AGAIN_S, Unknown
from pipeline.engine.ports import TP, Clock, Position, Record
from pipeline.engine.state.history_reader import HistorySpec
from pipeline.engine.state.table import Table
from pipeline.engine.stats import LaneStats
from pipeline.errors import FoldError, HistoryIncomplete, NotKnownYet, RecordsLost, UndecodableRecord
from pipeline.flow import events_to_state
from pipeline.flow.functions.raised import is_topologys
from pipeline.model import EventMessage, TopicKind
from pipeline.model.records.step_notes import NOTHING, StepNote, StepNotes, mark

log = logging.getLogger(__name__)


def lacking(spec: HistorySpec, committed: Position | None, noted: StepNotes) -> int:
    """Return from which offset of the event log on the states of this revision lack events, if it is known; else 0.

    `committed`: the last commit of the partition, of any revision; `noted`: what it has noted.
    """
    topic, changelogs = spec.states_topic, {} if committed is None else committed.changelogs
    note = noted.get(mark(topic))
    if committed is None:
        return NOTHING  # nothing was ever decided
    if topic in changelogs:
        return NOTHING if note is None else note.at
    if note is not None:
        return 0 if note.at == NOTHING else note.at  # it was not handed over
    return NOTHING if spec.aggregate.revision == 1 and not _others(spec, changelogs) else 0


def _others(spec: HistorySpec, changelogs: Iterable[str]) -> list[str]:
    """The topics of other revisions' states among those that a commit has written to."""
    states = re.escape(spec.aggregate.name) + r"(_v\d+)?" + re.escape(TopicKind.STATE.topic(""))
    return [each for each in changelogs if each != spec.states_topic and re.fullmatch(states, each)]


class States:
    """Brings the states of one task's aggregate up to its event log. `log`: the partition of that.

    `behind`: whether they lack events, or it is not known yet; what is not committed does not count.
    """

    def __init__(self, spec: HistorySpec, table: Table, tp: TP, stats: LaneStats) -> None:
        self.spec, self.log = spec, TP(spec.topic, tp.partition)
        self._table, self._source, self._name = table, tp, mark(spec.states_topic)
        self.unknown = Unknown(f"revision {spec.aggregate.revision} of {spec.aggregate.name}", self.log, stats)
        self.resume_s = 0.0  # before that, nothing is folded: an event cannot be read yet
        self.notes: StepNotes = {}
        self._noted: StepNotes = {}  # by the last commit
        self._kept: StepNotes | None = None  # what holds if what was folded is dropped; None: it has not begun
        self.end = 0  # of the log, asked after what was committed when the partition was taken over
        self.restored = 0  # up to where their own topic was read when they were restored
        self.shared = False  # whether they may be built by others, too, as no worker of this revision is noted yet
        self._again = False  # whether it is folded from the beginning, as something was missing

    # --- where they stand ---------------------------------------------------------------------------------------------

    def begin(
        self,
        committed: Position | None,
        noted: StepNotes,
        restored: Mapping[str, tuple[int, int]] = MappingProxyType({}),
    ) -> None:
        """Find out what they lack. `restored`: up to where the task has read each changelog, and what that is."""
        topic, end, notes = self.spec.states_topic, self.end, dict(noted)
        changelogs = {} if committed is None else committed.changelogs
        for other in _others(self.spec, changelogs):  # that has decided so far, and does not from now on
            note = notes.get(mark(other)) or StepNote(0, NOTHING, level=False)
            notes[mark(other)] = note._replace(at=end) if note.at == NOTHING else note
        at = lacking(self.spec, committed, noted)
        self.restored = restored.get(topic, (0, 0))[0]
        # Another one may be building them just now.
        self.shared = self.spec.aggregate.revision > 1 and committed is not None and topic not in changelogs
        if self.spec.aggregate.revision > 1 or notes or at != NOTHING:
            note = notes.get(self._name) or StepNote(0, at, level=False)
            began = note.began if topic in changelogs or committed is None else committed.offset
            notes[self._name] = note._replace(began=began, at=NOTHING if at >= end and not self.shared else at)
        self._noted, self.notes = noted, notes
        self._kept = notes
        if self.behind:
            log.info(
                "%s: revision %d of %r lacks %s-%d from offset %d to %d, and decides nothing before that is in",
                "{}-{}".format(*self._source),
                *(self.spec.aggregate.revision, self.spec.aggregate.name, *self.log, self.at, end),
            )

    @property
    def at(self) -> int:
        """The offset of the event log from which they lack events; NOTHING if they lack none."""
        return self._at(self.notes)

    def _at(self, notes: StepNotes) -> int:
        note = notes.get(self._name)
        return NOTHING if note is None else note.at

    @property
    def behind(self) -> bool:
        """Whether they lack events, by what is committed."""
        return self._kept is None or self._at(self._kept) != NOTHING

    @property
    def why_behind(self) -> str | None:
        """Why they cannot be read."""
        if not self.behind:
            return None
        return (
            f"revision {self.spec.aggregate.revision} of {self.spec.aggregate.name!r} is folded from the event log: "
            f"{0 if self._kept is None else self._at(self._kept)} of {self.end} in {self.log.topic}-"
            f"{self.log.partition}; ask again"
        )

    @property
    def touched(self) -> bool:
        """Whether a commit has something new to note."""
        return self.notes is not self._noted and self.notes != self._noted

    def mark_committed(self) -> None:
        """Take over that what was folded is committed."""
        if self.behind and self.at == NOTHING and self._kept is not None:
            name = self.spec.aggregate.name
            log.info("%s-%d: revision %d of %r lacks nothing", *self._source, self.spec.aggregate.revision, name)
        self._noted = self._kept = self.notes

    def roll_back(self) -> None:
        """Drop what was folded since the last commit."""
        if self._kept is not None:
            self.notes = self._kept

    # --- folding ------------------------------------------------------------------------------------------------------

    def fold(self, records: Sequence[Record], until_s: float, clock: Clock) -> int:
        """Fold records of the event log, in order, until the clock shows `until_s`. Returns how many.

        Raises FoldError if an event cannot be folded, RecordsLost if one is missing.
        """
        folded = 0
        for record in records:
            if record.offset() >= self.end or (folded and clock.monotonic_s() > until_s):
                break
            try:
                self._fold(record.key(), self.spec.events.decode(record.value()))
            except HistoryIncomplete as error:
                self._begin_again(record, error)
                return folded
            except NotKnownYet as error:
                self.unknown.wait(record.offset(), error)
                self.resume_s = clock.monotonic_s() + AGAIN_S
                break
            except UndecodableRecord as error:
                raise self._error(record, str(error)) from error
            except BaseException as error:
                if not is_topologys(error):
                    raise
                raise self._error(record, describe_error(error)[0]) from error
            folded += 1
        if self.resume_s <= clock.monotonic_s():
            self.unknown.go_on()
        if folded:
            self.advance(records[folded - 1].offset() + 1)
        return folded

    def _fold(self, key: bytes, event: EventMessage) -> None:
        # From its first event on, a key begins anew: what stands there may be of a log that was another one.
        state = None if event.version == 1 else self._table.get(key)
        if state is None or event.version > state.version:
            self._table.put(key, events_to_state(self.spec.aggregate, key, state, [event]))

    def advance(self, offset: int) -> None:
        """All below `offset` is folded."""
        if self.at != NOTHING:
            at = NOTHING if offset >= self.end else max(offset, self.at)
            self.notes = {**self.notes, self._name: self.notes[self._name]._replace(at=at)}

    def _begin_again(self, record: Record, error: HistoryIncomplete) -> None:
        """Fold from the beginning: what was noted is not so, as a worker that does not know of it had the partition."""
        if self._again or self.at == 0:
            raise RecordsLost(
                f"revision {self.spec.aggregate.revision} of {self.spec.aggregate.name!r} has to fold "
                f"{self.log.topic}-{self.log.partition}, where events are missing: {record.key()!r} at offset "
                f"{record.offset()}: {error}"
            ) from error
        log.warning("%s-%d is folded from its beginning: %r: %s", *self.log, record.key(), error)
        self._again = True
        self.notes = {**self.notes, self._name: self.notes[self._name]._replace(at=0)}

    def _error(self, record: Record, why: str) -> FoldError:
        aggregate = self.spec.aggregate
        return FoldError(
            f"revision {aggregate.revision} of {aggregate.name!r} cannot be folded from "
            f"{self.log.topic}-{self.log.partition} offset {record.offset()}, key {record.key()!r}: {why}; correct "
            "evolve, or the event's classes. Workers of the revision before go on meanwhile"
        )


def standbys_lacking(specs: Mapping[TP, HistorySpec], committed: Mapping[TP, Position | None]) -> dict[TP, str]:
    """Return why states cannot be read of which this worker is a standby: their owner does not write to them.

    `specs`: what each partition's commands are for.
    """
    found = {}
    for tp, spec in specs.items():
        position = committed[tp]
        if lacking(spec, position, {} if position is None else position.steps) != NOTHING:
            found[tp] = (
                f"partition {tp.partition} of {spec.aggregate.name!r} is held by a worker of another revision than "
                f"{spec.aggregate.revision}; ask that one"
            )
    return found
