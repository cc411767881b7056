"""Decides the commands of one partition again, from their log, the notices about them, and the copies that were read.

In memory: states and events of one partition.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import takewhile
from typing import Any, NamedTuple

from pipeline.engine.ports import TP
from pipeline.errors import UndecodableRecord
from pipeline.flow import ReservationReply, command_to_event, event_to_state, place_of
from pipeline.flow.functions.raised import is_topologys
from pipeline.model import Aggregate, CommandMessage, EventMessage, Rejected, StateMessage, is_barrier
from pipeline.model.records.partitioning import partition_of
from pipeline.verify.replay.as_recorded import AsRecorded
from pipeline.verify.replay.copies import Recorded, Untold
from pipeline.verify.replay.expected_replies import Decided, ExpectedReplies, Given
from pipeline.verify.replay.notices import DISCARDED, REDRIVEN, Act, is_refusal
from pipeline.verify.replay.parked_replay import Held, ParkedReplay
from pipeline.verify.replay.reserving import Reserving
from pipeline.verify.report import Finding, Report, short
from pipeline.verify.sources.decode import Decoder
from pipeline.verify.sources.history import Entry, History

UNTOLD = "decided with a copy, untold"  # among what is counted
OTHERWISE = "commands that another revision of states has decided otherwise"  # among what is not judged


@dataclass(slots=True)
class Life:
    """What one aggregate must have lived through. `due`: its events, of which the first `must` have to be there."""

    due: list[EventMessage] = field(default_factory=list)
    must: int = 0
    state: StateMessage | None = None
    allowed: list[StateMessage | None] = field(default_factory=lambda: [None])  # states: at the bound, and since

    def add(self, event: EventMessage, state: StateMessage, *, settled: bool) -> None:
        """Take an event, and the state after it. `settled`: whether both have to be there."""
        self.state = state
        self.due.append(event)
        if settled:
            self.must, self.allowed = len(self.due), [state]
        else:
            self.allowed.append(state)


class Turn(NamedTuple):
    """A command whose turn it is. `settled`: whether what comes of it has to be there.

    `placed`: if it has waited, offset and time from which it is remembered.
    """

    entry: Entry
    key: str
    command: CommandMessage
    settled: bool
    placed: tuple[int, int] | None = None


@dataclass(slots=True, kw_only=True)
class CommandReplay:
    """Replays one partition of an aggregate. A command that was parked is decided where it was redriven.

    `early`: what had been done about parked records before anything was read, so that what came of it has to be there.
    `began`: the first command that the present revision of states has decided; before, what stands in the log counts.
    """

    service: str
    aggregate: Aggregate[Any, Any, Any]
    tp: TP
    history: History
    decoder: Decoder
    replies: ExpectedReplies
    queues: ParkedReplay
    early: Collection[Act]
    recorded: Recorded | None
    asked: Callable[..., None]  # takes what was decided on each command; see AskCheck.decided
    report: Report
    began: int = 0
    lives: dict[str, Life] = field(default_factory=dict)
    _reserving: Reserving = field(init=False)
    _partitions: int = field(init=False)
    _as_recorded: AsRecorded = field(init=False)
    _strays: set[str] = field(default_factory=set)  # keys of other partitions that were decided here
    _recorded: Mapping[str, Sequence[EventMessage]] = field(default_factory=dict)  # events, by key
    _logs: Mapping[str, Sequence[EventMessage]] = field(default_factory=dict)  # the same, of a cut log
    _held: set[tuple[str, str, int]] = field(default_factory=set)  # and key, id and time of the commands that it holds
    _begins_ms: int = 0  # and when the first of these was stored

    def __post_init__(self) -> None:
        self._reserving = Reserving(self.aggregate)
        self._partitions = self.history.partitions(self.tp.topic)

    def run(self, logs: Mapping[str, Sequence[EventMessage]]) -> dict[str, Life]:
        """What each key's commands must have caused: of those below the bound, and of those folded since as well.

        `logs`: the events, by key. They stand in for commands that retention has taken.
        """
        history, tp, queues, self._recorded = self.history, self.tp, self.queues, logs
        self._as_recorded = AsRecorded(logs if self.aggregate.upcasts else {})
        must, end = history.bound(self.service, tp) or 0, history.committed(self.service, tp) or 0
        if low := history.low(tp):
            self.report.notes.append(f"{tp.topic}-{tp.partition} begins at {low}: older commands are not judged")
            self._begin_after(logs, end)
        for entry in history.records(tp):
            if entry.offset >= end:
                break
            if is_barrier(entry.value, entry.headers):
                continue
            self._take_up(entry.offset)
            opened, place = queues.opened.pop(entry.offset, None), entry.key or b""
            try:
                key, message = self.decoder.read(entry) or (None, None)
            except UndecodableRecord:
                if opened is not None or place in queues.held:
                    queues.wait(place, Held(entry.offset, entry, (), new=False))
                continue
            if isinstance(message, ReservationReply):
                self._answered(place, entry, message, settled=entry.offset < must)
            elif key is not None and message is not None:
                self._arrives(place, Turn(entry, key, message, entry.offset < must), opened)
            elif opened is not None:
                queues.wait(place, Held(entry.offset, entry, (), new=False))
        self._take_up(None)
        for key, life in self.lives.items():
            self._catch_up(key, life, before_ms=self._begins_ms)
        return self.lives

    # --- a command arrives --------------------------------------------------------------------------------------------

    def _arrives(self, place: bytes, turn: Turn, opened: Act | None) -> None:
        entry, key, command, settled, _ = turn
        life, replies, report = self._life(turn), self.replies, self.report
        known = replies.known(key, command, entry.offset, entry.time_ms)
        replies.agenda.see(key, command, entry.offset, entry.time_ms)
        if opened is not None:
            self._judge_parked(life, place, turn, opened, is_known=known is not None)
        if known is not None:
            report.checked["commands"] += settled
            report.checked["answered again"] += settled and isinstance(known, Given)
            if settled and isinstance(known, Rejected):
                self._count(known)
        elif opened is not None or place in self.queues.held or self._waits(place, turn):
            self.queues.wait(place, Held(entry.offset, entry, (), new=self._is_new(place, command)))
        else:
            self._fold(turn)

    def _life(self, turn: Turn) -> Life:
        if turn.key not in self.lives:
            self.lives[turn.key] = Life()
        return self.lives[turn.key]

    def _home(self, key: str) -> int:
        """The partition where a key belongs."""
        return partition_of(key.encode(), self._partitions)

    def _judge_parked(self, life: Life, place: bytes, turn: Turn, act: Act, *, is_known: bool) -> None:
        """Note in the queues what speaks against parking a command when it came."""
        entry, queues = turn.entry, self.queues
        copies = None if self.recorded is None else self.recorded.untold()  # what is said was decided later

        def decide() -> None:
            state = life.state
            decision = command_to_event(self.aggregate, place, state, turn.command, entry.time_ms, copies)
            for event in () if isinstance(decision, Rejected) else decision[0]:
                state = event_to_state(self.aggregate, place, state, event)

        if is_known:
            queues.wrong.append(f"offset {entry.offset} was parked, though its id was answered")
        elif place in queues.held:
            queues.wrong.append(f"offset {entry.offset} was parked when it came, though it had to wait behind others")
        elif (
            self._home(turn.key) == self.tp.partition
            and not is_refusal(act)
            and not self.history.may_have_raised(decide)
        ):
            queues.wrong.append(f"offset {entry.offset} was parked without a reason")

    def _is_new(self, place: bytes, command: CommandMessage) -> bool:
        """Whether a command that has to wait repeats none that waits before it."""
        before = (self._read(held.record) for held in self.queues.held.get(place, ()))
        return all(read is None or read[1].id != command.id for read in before)

    def _waits(self, place: bytes, turn: Turn) -> bool:
        """Whether a command has to wait for a unique value first."""
        if not self.aggregate.unique:
            return False
        before = after = self.lives[turn.key].state
        try:
            decision = command_to_event(self.aggregate, place, before, turn.command, turn.entry.time_ms)
            for event in () if isinstance(decision, Rejected) else decision[0]:
                after = event_to_state(self.aggregate, place, after, event)
        except BaseException as error:  # it shows when it is decided
            if not is_topologys(error):
                raise
            return False
        return self._reserving.waits(place, turn.command, turn.entry.time_ms, before, after)

    # --- a record that has waited is taken up -------------------------------------------------------------------------

    def _answered(self, place: bytes, entry: Entry, reply: ReservationReply, *, settled: bool) -> None:
        """A value is reserved, or is another's: the first that waits is decided, and those behind it."""
        queues = self.queues
        first = next(iter(queues.held.get(place, ())), None)
        if first is None or reply.place != place_of(*self.tp, first.offset):
            where = (self.service, *self.tp, None, entry.offset)
            self.report.add(Finding("extra_reply", *where, f"a command that waits at {reply.place}", "none"))
            return
        rejected = reply.rejected
        if rejected is None:
            self._reserving.grant(place, reply.value.partition("/")[0])
        while place in queues.held:
            held = queues.held[place][0]
            read = self._read(held.record)
            if read is None or queues.stops(held.offset, entry.offset):
                return
            placed = entry.offset, max(held.record.time_ms, entry.time_ms)
            turn = Turn(held.record, *read, settled, placed)
            if held is first and rejected is not None:
                self._reject(turn, rejected)
            elif not self._is_known(turn, held):
                if self._waits(place, turn):
                    return
                self._fold(turn)
            queues.take(place)
            self._reserving.settled(place)

    def _take_up(self, before: int | None) -> None:
        """Decide what was redriven before the record of that offset was folded."""
        for act, place, held in self.queues.due(before):
            if act.action not in (REDRIVEN, DISCARDED):
                continue
            self._reserving.settled(place)
            if act.bare or (read := self._read(held.record)) is None:
                continue
            turn = Turn(held.record, *read, act in self.early, (act.at or 0, act.at_ms))
            if self._is_known(turn, held):
                continue
            if act.action == REDRIVEN:
                self._fold(turn)
            else:
                self._reject(turn, Rejected("discarded", {"by": act.by, "why": act.why}))

    def _is_known(self, turn: Turn, held: Held) -> bool:
        assert turn.placed is not None
        again = self.replies.known_again(turn.key, turn.command, turn.entry.time_ms, turn.placed, new=held.new)
        return again is not None

    # --- decided ------------------------------------------------------------------------------------------------------

    def _fold(self, turn: Turn) -> None:
        """Schedule a command, or decide it. One whose key belongs to another partition had to be parked."""
        entry, key, command, settled, placed = turn
        if (home := self._home(key)) != self.tp.partition:
            if not self.queues.complete:  # and was, as far as is known
                return
            if key not in self._strays:
                self._strays.add(key)
                where = (self.service, *self.tp, key, entry.offset)
                self.report.add(Finding("misplaced", *where, f"parked, as it belongs in partition {home}", "decided"))
        at = None if placed is None else placed[0]
        if self.replies.agenda.schedules(key, command, entry.offset, entry.time_ms, at):
            self.report.checked["scheduled"] += settled
            return
        copies = None
        if self.recorded is not None:
            copies = self.recorded.copies(key, command.id, entry.offset, entry.time_ms)
        life = self.lives[key]
        self._catch_up(key, life, before_ms=self._begins_ms)
        try:
            decision = command_to_event(self.aggregate, key.encode(), life.state, command, entry.time_ms, copies)
            events, effects = ([], ()) if isinstance(decision, Rejected) else decision
            events = self._as_recorded.events((key, command.id, entry.time_ms), events)
            if self._otherwise(turn, life, events):
                return
            for event in events:
                life.add(event, event_to_state(self.aggregate, key.encode(), life.state, event), settled=settled)
            self.replies.agenda.decided(key, command, effects, entry.offset, entry.time_ms, at)
            self.asked(self.tp, key, command, effects, (entry.offset, entry.time_ms), must=settled)
        except Untold:
            # It has no events. What remembers its reply misses that, unless it remembers none.
            self.replies.agenda.decided(key, command, (), entry.offset, entry.time_ms, at)
            self._remember(turn, "what its decision has come to")
            self.report.checked[UNTOLD] += settled
            return
        except BaseException as error:  # the engine would have stopped before this record
            if not is_topologys(error):
                raise
            if self._otherwise(turn, life, None):
                return
            where = (self.service, *self.tp, key, entry.offset)
            self.report.add(Finding("raised", *where, "a decision", short(repr(error))))
            return
        read = None if copies is None else copies.position
        self.report.checked["decided with a copy"] += settled and read is not None
        self.report.checked["commands"] += settled
        if settled and isinstance(decision, Rejected):
            self._count(decision)
        version = 0 if life.state is None else life.state.version
        self._remember(turn, decision if isinstance(decision, Rejected) else Decided(version, tuple(events)), read)

    def _otherwise(self, turn: Turn, life: Life, events: Sequence[EventMessage] | None) -> bool:
        """Take what stands in the log if another revision has decided the command, and not as the present one would.

        `events`: by the present one; None if it raises. What else came of the command is not known.
        """
        entry, key, command, settled, placed = turn
        if entry.offset >= self.began:
            return False
        later = self._recorded.get(key, ())[len(life.due) :]
        found = list(takewhile(lambda e: (e.command_id, e.time_ms) == (command.id, entry.time_ms), later))
        if found == events:
            return False
        for event in found:
            life.add(event, event_to_state(self.aggregate, key.encode(), life.state, event), settled=settled)
        at = None if placed is None else placed[0]
        self.replies.agenda.decided(key, command, (), entry.offset, entry.time_ms, at)
        self._remember(turn, None)
        self.report.not_judged[OTHERWISE] += settled
        return True

    def _reject(self, turn: Turn, rejected: Rejected) -> None:
        entry, key, command, settled, placed = turn
        self._count(rejected)
        self.report.checked["commands"] += settled
        self._remember(turn, rejected)
        at = None if placed is None else placed[0]
        self.replies.agenda.decided(key, command, (), entry.offset, entry.time_ms, at)

    def _remember(self, turn: Turn, outcome: object, read: str | None = None) -> None:
        entry, key, command, _, placed = turn
        self.replies.remember(Given(key, command, entry.offset, entry.time_ms, outcome, placed, read))

    def _count(self, rejected: Rejected) -> None:
        self.report.checked["rejected"] += 1
        self.report.rejected[f"{self.aggregate.name}/{rejected.reason}"] += 1

    # --- what is read -------------------------------------------------------------------------------------------------

    def _read(self, entry: Entry) -> tuple[str, CommandMessage] | None:
        """Key and command; None if it cannot be read, which is the parked topic's matter, or is no command."""
        try:
            read = self.decoder.read(entry)
        except UndecodableRecord:
            return None
        return read if read is not None and isinstance(read[1], CommandMessage) else None

    def _begin_after(self, logs: Mapping[str, Sequence[EventMessage]], end: int) -> None:
        """Live each key's life up to its first event that a command still held has caused."""
        read = ((entry, self._read(entry)) for entry in self.history.records(self.tp) if entry.offset < end)
        held = {(each[0], each[1].id, entry.time_ms) for entry, each in read if each is not None}
        self._logs, self._held = logs, held
        self._begins_ms = min((time_ms for _, _, time_ms in held), default=0)
        for key in logs:
            self.lives[key] = life = Life()
            self._catch_up(key, life)

    def _catch_up(self, key: str, life: Life, before_ms: int | None = None) -> None:
        """Take the events of commands that are gone: one may have waited, and was decided after others.

        `before_ms`: of commands alone that were stored by then.
        """
        log = self._logs.get(key, ())
        for event in log[len(life.due) :]:
            is_held = (key, event.command_id, event.time_ms) in self._held
            if is_held or (before_ms is not None and event.time_ms > before_ms):
                return
            life.add(event, event_to_state(self.aggregate, key.encode(), life.state, event), settled=True)
