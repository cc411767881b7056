"""Commands, events, state: replays each command of a partition and holds log, changelog and table against it.

In memory: events, states and rows of one partition.
"""

from __future__ import annotations

from collections.abc import Container
from typing import Any

from pipeline.adapters.avro.registry import Registry
from pipeline.engine.ports import TP
from pipeline.errors import UndecodableRecord
from pipeline.model import Acceptance, Aggregate, TopicKind
from pipeline.verify.checks.asks import AskCheck
from pipeline.verify.checks.deadlines import DeadlineCheck
from pipeline.verify.checks.events import Logged, differences, versions
from pipeline.verify.checks.parked_checks import compare_queue, rows_of, still_held
from pipeline.verify.checks.reads import ReadCheck
from pipeline.verify.checks.replies import ReplyCheck
from pipeline.verify.checks.tables import compare_changelog, compare_table, last_values, unreadable
from pipeline.verify.replay.commands import UNTOLD, CommandReplay, Life
from pipeline.verify.replay.expected_deadlines import ExpectedDeadlines
from pipeline.verify.replay.notices import acts_on
from pipeline.verify.report import Finding, Report, short
from pipeline.verify.sources.decode import command_decoder, event_decoder, state_decoder
from pipeline.verify.sources.history import History
from pipeline.verify.sources.revised import decided_from, is_unbuilt
from pipeline.verify.sources.stored import aggregate_as_stored


class AggregateCheck:
    """Judges one aggregate, a partition at a time."""

    def __init__(self, service: str, aggregate: Aggregate[Any, Any, Any], registry: Registry) -> None:
        aggregate = aggregate_as_stored(aggregate, registry)
        self.service, self.aggregate = service, aggregate
        name = aggregate.name
        self.commands, self.events = (kind.topic(name) for kind in (TopicKind.COMMAND, TopicKind.EVENT))
        self.states = aggregate.states
        self._command = command_decoder(registry, aggregate)
        self._event = event_decoder(registry, aggregate.events, follows=False)
        self._state = state_decoder(registry, aggregate)
        self._answers = ReplyCheck(service, aggregate, registry, self._event)
        self._deadlines = DeadlineCheck(service, aggregate, registry, self._command)
        self.asks = AskCheck(service, aggregate, registry)
        self._reads = ReadCheck(service, aggregate, registry)

    def __call__(self, history: History, partition: int, report: Report) -> None:
        """Read results before what caused them, so that whatever is seen has its cause in what is read later."""
        tp = TP(self.commands, partition)
        self.asks.begin(history)
        before = acts_on(history, self.service)
        queued = rows_of(history, self.service, tp)
        rows = history.rows(self.aggregate.name, partition)
        states = last_values(history, TP(self.states, partition), self._state, self.service, report)
        logs = self._logs(history, TP(self.events, partition), report)
        answers = self._answers.read(history, partition, report)
        deadlines = self._deadlines.read(history, partition, report)
        agenda = ExpectedDeadlines(self.aggregate, partition)
        memory = self._answers.memory(history, tp, answers, agenda)
        bound = history.bound(self.service, tp) or 0
        queues = still_held(history, self.service, tp, report)
        replay = CommandReplay(
            service=self.service,
            aggregate=self.aggregate,
            tp=tp,
            history=history,
            decoder=self._command,
            replies=memory,
            queues=queues,
            early=set(before.get(tp, [])),
            recorded=self._reads.recorded(history, TP(self.events, partition), logs, answers, report),
            asked=self.asks.decided,
            began=decided_from(history, self.service, tp, self.aggregate),
            report=report,
        )
        lives = replay.run({key: [each.event for each in log] for key, log in logs.items()})
        compare_queue(self.service, tp, queues, queued, before, history, report)
        told = {answer.message.command_id for answer in answers}
        for key in logs.keys() | lives.keys():
            self._compare(key, TP(self.events, partition), lives.get(key) or Life(), logs.get(key, []), told, report)
        allowed = {key: life.allowed for key, life in lives.items() if life.allowed != [None]}
        if is_unbuilt(history, self.service, tp, self.aggregate):
            report.not_judged[
                f"states of {self.aggregate.name}, as revision {self.aggregate.revision} is not built"
            ] += len(allowed)
        else:
            compare_changelog("state", self.service, TP(self.states, partition), allowed, states, report)
            compare_table(self.service, self.aggregate.name, partition, allowed, rows, report)
        early = {act.offset for act in before.get(tp, []) if act.action != "parked"}
        otherwise = self._answers.compare(
            history, partition, memory, answers, lambda g: g.offset in early if g.placed else g.offset < bound, report
        )
        for _, key, message in otherwise:
            count = message.body.count if isinstance(message.body, Acceptance) else 0
            if count == sum(each.event.command_id == message.command_id for each in logs.get(key, ())):
                report.saw_decided_otherwise(message.time_ms)
        self._deadlines.compare(history, tp, agenda, deadlines, report)
        if untold := report.checked[UNTOLD]:
            report.notes.append(
                f"{tp.topic}-{tp.partition}: {untold} commands read a copy, and no reply and no event says as of when; "
                "what was decided is not judged"
            )
        report.checked["keys"] += len(logs)
        report.checked["states"] += len(states)

    def _logs(self, history: History, tp: TP, report: Report) -> dict[str, list[Logged]]:
        """Read the events by key, in the order of the log."""
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

    def _compare(self, key: str, tp: TP, life: Life, log: list[Logged], told: Container[str], report: Report) -> None:
        """`told`: the commands whose replies are held, which say what was decided."""
        found = [*versions(log), *differences(life.due, life.must, log)]
        for each in found:
            finding = Finding(each.kind, self.service, *tp, key, each.offset, "", "", each.version)
            if each.kind.startswith("version"):
                report.add(finding._replace(expected="the version after the last", found=short(each.found)))
            else:
                report.add(finding.of_values(each.expected, each.found))
        kinds = {each.kind for each in found}
        if kinds & {"wrong_event", "extra_event"} and kinds <= {"wrong_event", "extra_event", "missing_event"}:
            events = (event for each in found for event in (each.expected, each.found) if event is not None)
            for time_ms in {e.command_id: e.time_ms for e in events if e.command_id not in told}.values():
                report.saw_decided_otherwise(time_ms)
