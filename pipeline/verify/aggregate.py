"""Commands, events, state: replays each command of a partition and holds log, changelog and table against it.

In memory: events, states and rows of one partition.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from pipeline.adapters.avro.registry import Registry
from pipeline.errors import UndecodableRecord
from pipeline.flow import command_to_event, event_to_state
from pipeline.model import Aggregate, CommandMessage, EventMessage, Rejected, StateMessage, TopicKind
from pipeline.query.murmur2 import partition_of
from pipeline.runtime.ports import TP
from pipeline.verify.agenda import Agenda
from pipeline.verify.answers import AnswerCheck, Decided
from pipeline.verify.asks import AskCheck
from pipeline.verify.deadlines import DeadlineCheck
from pipeline.verify.decode import Decoder, command_decoder
from pipeline.verify.events import Logged, differences, versions
from pipeline.verify.history import Entry, History
from pipeline.verify.memory import Given, Memory
from pipeline.verify.notices import refused
from pipeline.verify.report import Finding, Report, short
from pipeline.verify.tables import compare_changelog, compare_table, last_values, unreadable


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
        self._answers = AnswerCheck(service, aggregate, registry, self._event)
        self._deadlines = DeadlineCheck(service, aggregate, registry, self._command)
        self.asks = AskCheck(service, aggregate, registry)

    def __call__(self, history: History, partition: int, report: Report) -> None:
        """Reads results before what caused them, so that whatever is seen has its cause in what is read later."""
        rows = history.rows(self.aggregate.name, partition)
        states = last_values(history, TP(self.states, partition), self._state, self.service, report)
        logs = self._logs(history, TP(self.events, partition), report)
        answers = self._answers.read(history, partition, report)
        deadlines = self._deadlines.read(history, partition, report)
        agenda = Agenda(self.aggregate, partition)
        memory = self._answers.memory(history, TP(self.commands, partition), answers, agenda)
        lives = self._replay(history, TP(self.commands, partition), logs, memory, report)
        for key in logs.keys() | lives.keys():
            self._compare(key, TP(self.events, partition), lives.get(key) or Life(), logs.get(key, []), report)
        allowed = {key: life.allowed for key, life in lives.items() if life.allowed != [None]}
        compare_changelog("state", self.service, TP(self.states, partition), allowed, states, report)
        compare_table(self.service, self.aggregate.name, partition, allowed, rows, report)
        settled = history.bound(self.service, TP(self.commands, partition)) or 0
        self._answers.compare(history, partition, memory, answers, settled, report)
        self._deadlines.compare(history, TP(self.commands, partition), agenda, deadlines, report)
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
        self, history: History, tp: TP, logs: dict[str, list[Logged]], memory: Memory, report: Report
    ) -> dict[str, Life]:
        """What each key's commands must have caused; decides each command below the bound, and those since as well."""
        must = history.bound(self.service, tp) or 0
        end = history.committed(self.service, tp) or 0
        lives: dict[str, Life] = {}
        if history.low(tp) > 0:
            report.notes.append(f"{tp.topic}-{tp.partition} begins at {history.low(tp)}: older commands are not judged")
            lives = self._lives_before(history, tp, end, logs)
        for entry, key, command in self._commands(history, tp, end):
            if key not in lives:
                lives[key] = Life()
                if partition_of(key.encode(), history.partitions(tp.topic)) != tp.partition:
                    where = f"partition {partition_of(key.encode(), history.partitions(tp.topic))}"
                    report.add(Finding("misplaced", self.service, *tp, key, entry.offset, where, str(tp.partition)))
            known = memory.known(key, command, entry.offset, entry.time_ms)
            memory.agenda.see(key, command, entry.offset, entry.time_ms)
            if known is None and memory.agenda.schedules(key, command, entry.offset, entry.time_ms):
                report.checked["scheduled"] += entry.offset < must
            elif known is None:
                self._decide(lives[key], entry, key, command, entry.offset < must, tp, memory, report)
            elif entry.offset < must:
                report.checked["commands"] += 1
                report.checked["answered again"] += isinstance(known, Given)
                if isinstance(known, Rejected):
                    self._count(known, report)
        return lives

    def _commands(self, history: History, tp: TP, end: int) -> Iterator[tuple[Entry, str, CommandMessage]]:
        """Those that had an effect; the others are the parked topic's matter."""
        without = refused(history, self.service, tp)
        for entry in history.records(tp):
            if entry.offset >= end:
                return
            if entry.offset in without:
                continue
            try:
                read = self._command.read(entry)
            except UndecodableRecord:
                continue
            if read is not None:
                yield entry, *read

    def _lives_before(self, history: History, tp: TP, end: int, logs: dict[str, list[Logged]]) -> dict[str, Life]:
        """Each key's life up to its first event that a command still held has caused."""
        held = {(key, command.id, entry.time_ms) for entry, key, command in self._commands(history, tp, end)}
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
        tp: TP,
        memory: Memory,
        report: Report,
    ) -> None:
        try:
            decision = command_to_event(self.aggregate, life.state, command, entry.time_ms)
            events, effects = ([], ()) if isinstance(decision, Rejected) else decision
            for event in events:
                self._live(life, event, settled=settled)
            memory.agenda.decided(key, command, effects, entry.offset, entry.time_ms)
            self.asks.decided(tp, key, command, effects, (entry.offset, entry.time_ms), must=settled)
        except Exception as error:  # the engine would have stopped before this record
            report.add(Finding("raised", self.service, *tp, key, entry.offset, "a decision", short(repr(error))))
            return
        if settled:
            report.checked["commands"] += 1
            if isinstance(decision, Rejected):
                self._count(decision, report)
        version = 0 if life.state is None else life.state.version
        outcome = decision if isinstance(decision, Rejected) else Decided(version, tuple(events))
        memory.remember(Given(key, command, entry.offset, entry.time_ms, outcome))

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
