"""Commands, events, state: replays each command of a partition and holds log, changelog and table against it.

In memory: events, states and rows of one partition.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from pipeline.adapters.avro.registry import Registry
from pipeline.engine.ports import TP
from pipeline.errors import UndecodableRecord
from pipeline.flow import command_to_event, event_to_state
from pipeline.model import Aggregate, CommandMessage, EventMessage, Rejected, StateMessage, TopicKind, is_barrier
from pipeline.model.records.partitioning import partition_of
from pipeline.verify.checks.asks import AskCheck
from pipeline.verify.checks.deadlines import DeadlineCheck
from pipeline.verify.checks.events import Logged, differences, versions
from pipeline.verify.checks.parked_checks import Before, compare_queue, rows_of, still_held
from pipeline.verify.checks.reads import ReadCheck
from pipeline.verify.checks.replies import Decided, ReplyCheck
from pipeline.verify.checks.tables import compare_changelog, compare_table, last_values, unreadable
from pipeline.verify.replay.copies import Recorded, Untold
from pipeline.verify.replay.expected_deadlines import ExpectedDeadlines
from pipeline.verify.replay.expected_replies import ExpectedReplies, Given
from pipeline.verify.replay.notices import DISCARDED, REDRIVEN, Act, acts_on, is_refusal
from pipeline.verify.replay.parked_replay import Held, ParkedReplay
from pipeline.verify.replay.reserving import Answer, Reserving
from pipeline.verify.report import Finding, Report, short
from pipeline.verify.sources.decode import Decoder, command_decoder
from pipeline.verify.sources.history import Entry, History

UNTOLD = "decided with a copy, untold"  # among what is counted


@dataclass(slots=True)
class Life:
    """What one aggregate must have lived through. `due`: its events, of which the first `must` have to be there."""

    due: list[EventMessage] = field(default_factory=list)
    must: int = 0
    state: StateMessage | None = None
    allowed: list[StateMessage | None] = field(default_factory=lambda: [None])  # states: at the bound, and since


class AggregateCheck:
    """Judges one aggregate, a partition at a time."""

    def __init__(self, service: str, aggregate: Aggregate[Any, Any, Any], registry: Registry) -> None:
        self.service, self.aggregate = service, aggregate
        name = aggregate.name
        self.commands, self.events, self.states = (
            kind.topic(name) for kind in (TopicKind.COMMAND, TopicKind.EVENT, TopicKind.STATE)
        )
        self._command = command_decoder(registry, aggregate)
        self._event = Decoder(registry, self.events, EventMessage, aggregate.event)
        self._state = Decoder(registry, self.states, StateMessage, type(aggregate.initial))
        self._answers = ReplyCheck(service, aggregate, registry, self._event)
        self._deadlines = DeadlineCheck(service, aggregate, registry, self._command)
        self.asks = AskCheck(service, aggregate, registry)
        self._reserving = Reserving(aggregate, self._answers.decode)
        self._reads = ReadCheck(service, aggregate, registry)
        self._recorded: Recorded | None = None

    def __call__(self, history: History, partition: int, report: Report) -> None:
        """Reads results before what caused them, so that whatever is seen has its cause in what is read later."""
        tp = TP(self.commands, partition)
        self.asks.begin(history)
        before = acts_on(history, self.service)
        queued = rows_of(history, self.service, tp)
        rows = history.rows(self.aggregate.name, partition)
        states = last_values(history, TP(self.states, partition), self._state, self.service, report)
        logs = self._logs(history, TP(self.events, partition), report)
        answers = self._answers.read(history, partition, report)
        self._recorded = self._reads.recorded(history, TP(self.events, partition), logs, answers, report)
        deadlines = self._deadlines.read(history, partition, report)
        agenda = ExpectedDeadlines(self.aggregate, partition)
        memory = self._answers.memory(history, tp, answers, agenda)
        bound = history.bound(self.service, tp) or 0
        queues = still_held(history, self.service, tp, report)
        lives = self._replay(history, tp, logs, memory, queues, before, report)
        compare_queue(self.service, tp, queues, queued, before, history, report)
        for key in logs.keys() | lives.keys():
            self._compare(key, TP(self.events, partition), lives.get(key) or Life(), logs.get(key, []), report)
        allowed = {key: life.allowed for key, life in lives.items() if life.allowed != [None]}
        compare_changelog("state", self.service, TP(self.states, partition), allowed, states, report)
        compare_table(self.service, self.aggregate.name, partition, allowed, rows, report)
        early = {act.offset for act in before.get(tp, []) if act.action != "parked"}
        self._answers.compare(
            history, partition, memory, answers, lambda g: g.offset in early if g.placed else g.offset < bound, report
        )
        self._deadlines.compare(history, tp, agenda, deadlines, report)
        if untold := report.checked[UNTOLD]:
            report.notes.append(
                f"{tp.topic}-{tp.partition}: {untold} commands read a copy, and no reply and no event says as of when; "
                "what was decided is not judged"
            )
        report.checked["keys"] += len(logs)
        report.checked["states"] += len(states)

    def _logs(self, history: History, tp: TP, report: Report) -> dict[str, list[Logged]]:
        """Events by key, in the order of the log."""
        logs: dict[str, list[Logged]] = {}
        if low := history.low(tp):
            report.add(
                Finding("log_cut", self.service, *tp, None, low, "an event log kept for ever", f"begins at {low}")
            )
        for entry in history.records(tp):
            try:
                read = self._event.read(entry)
            except UndecodableRecord as error:
                report.add(unreadable(self.service, tp, entry, error))
                continue
            if read is not None:
                logs.setdefault(read[0], []).append(Logged(entry.offset, read[1]))
                report.checked["events"] += 1
        return logs

    # --- replay -------------------------------------------------------------------------------------------------------

    def _replay(
        self,
        history: History,
        tp: TP,
        logs: dict[str, list[Logged]],
        memory: ExpectedReplies,
        queues: ParkedReplay,
        before: Before,
        report: Report,
    ) -> dict[str, Life]:
        """What each key's commands must have caused; decides each command below the bound, and those since as well.

        A command that was parked is decided where it was redriven.
        """
        early = set(before.get(tp, []))
        self._reserving = Reserving(self.aggregate, self._answers.decode)
        must = history.bound(self.service, tp) or 0
        end = history.committed(self.service, tp) or 0
        lives: dict[str, Life] = {}
        if history.low(tp) > 0:
            report.notes.append(f"{tp.topic}-{tp.partition} begins at {history.low(tp)}: older commands are not judged")
            lives = self._lives_before(history, tp, end, logs)
        for entry in history.records(tp):
            if entry.offset >= end:
                break
            if is_barrier(entry.value, entry.headers):
                continue
            self._take_up(lives, queues, entry.offset, early, tp, memory, report)
            opened = queues.opened.pop(entry.offset, None)
            place = entry.key or b""
            read = self._read(entry)
            if read is None and (answer := self._reserving.answer(entry.value)) is not None:
                self._answered(lives, queues, place, entry, answer, entry.offset < must, tp, memory, report)
                continue
            if read is None:
                if opened is not None or place in queues.held:
                    queues.wait(place, Held(entry.offset, entry, (), new=False))
                continue
            key, command = read
            if key not in lives:
                lives[key] = Life()
                if partition_of(key.encode(), history.partitions(tp.topic)) != tp.partition:
                    where = f"partition {partition_of(key.encode(), history.partitions(tp.topic))}"
                    report.add(Finding("misplaced", self.service, *tp, key, entry.offset, where, str(tp.partition)))
            known = memory.known(key, command, entry.offset, entry.time_ms)
            memory.agenda.see(key, command, entry.offset, entry.time_ms)
            if opened is not None:
                self._judge_parked(history, lives[key], queues, known is not None, place, command, entry, opened)
            if known is None:
                if opened is not None or place in queues.held or self._waits(lives[key], place, command, entry):
                    queues.wait(place, Held(entry.offset, entry, (), new=self._is_new(queues, place, command)))
                elif memory.agenda.schedules(key, command, entry.offset, entry.time_ms):
                    report.checked["scheduled"] += entry.offset < must
                else:
                    self._decide(lives[key], entry, key, command, entry.offset < must, None, tp, memory, report)
            elif entry.offset < must:
                report.checked["commands"] += 1
                report.checked["answered again"] += isinstance(known, Given)
                if isinstance(known, Rejected):
                    self._count(known, report)
        self._take_up(lives, queues, None, early, tp, memory, report)
        return lives

    def _judge_parked(
        self,
        history: History,
        life: Life,
        queues: ParkedReplay,
        is_known: bool,
        place: bytes,
        command: CommandMessage,
        entry: Entry,
        act: Act,
    ) -> None:
        """Notes in the queues what spoke against parking a command when it came."""
        copies = None if self._recorded is None else self._recorded.untold()  # what is said was decided later

        def decide() -> None:
            command_to_event(self.aggregate, life.state, command, entry.time_ms, copies)

        if is_known:
            queues.wrong.append(f"offset {entry.offset} was parked, though its id was answered")
        elif place in queues.held:
            queues.wrong.append(f"offset {entry.offset} was parked when it came, though it had to wait behind others")
        elif not is_refusal(act) and not history.may_have_raised(decide):
            queues.wrong.append(f"offset {entry.offset} was parked without a reason")

    def _read(self, entry: Entry) -> tuple[str, CommandMessage] | None:
        """Key and command; None where it cannot be read, which is the parked topic's matter."""
        try:
            return self._command.read(entry)
        except UndecodableRecord:
            return None

    def _answered(
        self,
        lives: dict[str, Life],
        queues: ParkedReplay,
        place: bytes,
        entry: Entry,
        answer: Answer,
        settled: bool,
        tp: TP,
        memory: ExpectedReplies,
        report: Report,
    ) -> None:
        """A value is reserved, or is not to be had: the first that waits is decided, and those behind it."""
        first = next(iter(queues.held.get(place, ())), None)
        if first is None or first.offset != answer.offset:
            found = "nothing waits for it"
            report.add(Finding("extra_reply", self.service, *tp, None, entry.offset, f"offset {answer.offset}", found))
            return
        if answer.rejected is None:
            self._reserving.grant(place, answer.unique)
        while place in queues.held:
            held = queues.held[place][0]
            waiting: Entry = held.record
            read = self._read(waiting)
            if read is None or queues.stops(held.offset, entry.offset):
                return
            key, command = read
            placed = entry.offset, max(waiting.time_ms, entry.time_ms)
            if held is first and answer.rejected is not None:
                rejected = Rejected(answer.rejected.reason, {"unique": answer.unique})
                self._count(rejected, report)
                report.checked["commands"] += settled
                memory.remember(Given(key, command, waiting.offset, waiting.time_ms, rejected, placed))
                memory.agenda.decided(key, command, (), waiting.offset, waiting.time_ms, placed[0])
            elif memory.known_again(key, command, waiting.time_ms, placed, new=held.new) is None:
                if self._waits(lives[key], place, command, waiting):
                    return
                if not memory.agenda.schedules(key, command, waiting.offset, waiting.time_ms, placed[0]):
                    self._decide(lives[key], waiting, key, command, settled, placed, tp, memory, report)
            queues.take(place)
            self._reserving.settled(place)

    def _is_new(self, queues: ParkedReplay, place: bytes, command: CommandMessage) -> bool:
        """Whether a command that has to wait repeats none that waits before it."""
        before = (self._read(held.record) for held in queues.held.get(place, ()))
        return all(read is None or read[1].id != command.id for read in before)

    def _waits(self, life: Life, place: Any, command: CommandMessage, entry: Entry) -> bool:
        if not self.aggregate.unique:
            return False
        after = life.state
        try:
            decision = command_to_event(self.aggregate, life.state, command, entry.time_ms)
            for event in () if isinstance(decision, Rejected) else decision[0]:
                after = event_to_state(self.aggregate, after, event)
        except Exception:  # it shows when it is decided
            return False
        return self._reserving.waits(place, command, entry.time_ms, life.state, after)

    def _take_up(
        self,
        lives: dict[str, Life],
        queues: ParkedReplay,
        before: int | None,
        early: set[Act],
        tp: TP,
        memory: ExpectedReplies,
        report: Report,
    ) -> None:
        """Decides what was redriven before the record of that offset was folded."""
        for act, place, held in queues.due(before):
            if act.action in (REDRIVEN, DISCARDED):
                self._reserving.settled(place)
            read = None if act.bare else self._read(held.record)
            if read is None or act.action not in (REDRIVEN, DISCARDED):
                continue
            key, command = read
            entry, placed = held.record, (act.at or 0, act.at_ms)
            if memory.known_again(key, command, entry.time_ms, placed, new=held.new) is not None:
                continue
            if act.action == REDRIVEN and memory.agenda.schedules(key, command, entry.offset, entry.time_ms, placed[0]):
                continue
            if act.action == REDRIVEN:
                self._decide(lives[key], entry, key, command, act in early, placed, tp, memory, report)
            else:
                rejected = Rejected("discarded", {"by": act.by, "why": act.why})
                self._count(rejected, report)
                memory.remember(Given(key, command, entry.offset, entry.time_ms, rejected, placed))
                memory.agenda.decided(key, command, (), entry.offset, entry.time_ms, placed[0])

    def _lives_before(self, history: History, tp: TP, end: int, logs: dict[str, list[Logged]]) -> dict[str, Life]:
        """Each key's life up to its first event that a command still held has caused."""
        read = ((entry, self._read(entry)) for entry in history.records(tp) if entry.offset < end)
        held = {(each[0], each[1].id, entry.time_ms) for entry, each in read if each is not None}
        lives: dict[str, Life] = {}
        for key, log in logs.items():
            life = lives[key] = Life()
            for _, event in log:
                if (key, event.command_id, event.time_ms) in held:
                    break
                self._live(life, event, settled=True)
        return lives

    def _decide(
        self,
        life: Life,
        entry: Entry,
        key: str,
        command: CommandMessage,
        settled: bool,
        placed: tuple[int, int] | None,
        tp: TP,
        memory: ExpectedReplies,
        report: Report,
    ) -> None:
        copies = None
        if self._recorded is not None:
            copies = self._recorded.copies(key, command.id, entry.offset, entry.time_ms)
        try:
            decision = command_to_event(self.aggregate, life.state, command, entry.time_ms, copies)
            events, effects = ([], ()) if isinstance(decision, Rejected) else decision
            for event in events:
                self._live(life, event, settled=settled)
            at = None if placed is None else placed[0]
            memory.agenda.decided(key, command, effects, entry.offset, entry.time_ms, at)
            self.asks.decided(tp, key, command, effects, (entry.offset, entry.time_ms), must=settled)
        except Untold:
            # It has no events. What remembers its reply misses that, unless it remembers none.
            memory.agenda.decided(key, command, (), entry.offset, entry.time_ms, None if placed is None else placed[0])
            memory.remember(Given(key, command, entry.offset, entry.time_ms, "what its decision has come to", placed))
            if settled:
                report.checked[UNTOLD] += 1
            return
        except Exception as error:  # the engine would have stopped before this record
            report.add(Finding("raised", self.service, *tp, key, entry.offset, "a decision", short(repr(error))))
            return
        read = None if copies is None else copies.position
        if settled:
            if read is not None:
                report.checked["decided with a copy"] += 1
            report.checked["commands"] += 1
            if isinstance(decision, Rejected):
                self._count(decision, report)
        version = 0 if life.state is None else life.state.version
        outcome = decision if isinstance(decision, Rejected) else Decided(version, tuple(events))
        memory.remember(Given(key, command, entry.offset, entry.time_ms, outcome, placed, read))

    def _count(self, rejected: Rejected, report: Report) -> None:
        report.checked["rejected"] += 1
        report.rejected[f"{self.aggregate.name}/{rejected.reason}"] += 1

    def _live(self, life: Life, event: EventMessage, *, settled: bool) -> None:
        life.state = event_to_state(self.aggregate, life.state, event)
        life.due.append(event)
        if settled:
            life.must = len(life.due)
            life.allowed = [life.state]
        else:
            life.allowed.append(life.state)

    def _compare(self, key: str, tp: TP, life: Life, log: list[Logged], report: Report) -> None:
        for each in (*versions(log), *differences(life.due, life.must, log)):
            expected = "the version after the last" if each.kind.startswith("version") else short(each.expected)
            finding = Finding(each.kind, self.service, *tp, key, each.offset, expected, short(each.found), each.version)
            report.add(finding)
