"""Holds the deadlines of an aggregate, those still to come and the commands that they have sent, against the log."""

from __future__ import annotations

from typing import Any, NamedTuple

from pipeline.adapters.avro.registry import Registry
from pipeline.engine.ports import TP
from pipeline.errors import UndecodableRecord
from pipeline.flow.command_to_deadline import SCHEDULED
from pipeline.model import NEVER, Aggregate, CommandMessage, DeadlineMessage, TopicKind
from pipeline.verify.checks.tables import unreadable
from pipeline.verify.replay.expected_deadlines import Came, ExpectedDeadlines, Identity, Name, Setting, identity
from pipeline.verify.report import Finding, Report, short
from pipeline.verify.sources.decode import Decoder
from pipeline.verify.sources.history import Entry, History


class Row(NamedTuple):
    """What is still to come, as the changelog has it last."""

    offset: int
    due_ms: int
    command: CommandMessage


class DeadlineCheck:
    """Judges one aggregate's deadlines, a partition at a time."""

    def __init__(
        self, service: str, aggregate: Aggregate[Any, Any, Any], registry: Registry, commands: Decoder
    ) -> None:
        self.service, self.declared, self._commands = service, aggregate.deadlines, commands
        self.topic = TopicKind.DEADLINES.topic(aggregate.name)
        self._deadline = Decoder(registry, TopicKind.DEADLINES.value, DeadlineMessage)

    def read(self, history: History, partition: int, report: Report) -> dict[Name, Row]:
        """What is still to come."""
        tp = TP(self.topic, partition)
        last = {entry.key or b"": entry for entry in history.records(tp)} if self.declared else {}
        found: dict[Name, Row] = {}
        for row_key, entry in last.items():
            if entry.value is not None:
                try:
                    end = 4 + int.from_bytes(row_key[:4], "big")
                    name = row_key[4:end].decode(), row_key[end:].decode()
                    message: DeadlineMessage = self._deadline.value(entry.value)
                    found[name] = Row(entry.offset, message.due_ms, self._commands.value(message.command))
                except (UndecodableRecord, UnicodeDecodeError) as error:
                    report.add(unreadable(self.service, tp, entry, error))
        report.checked["deadlines to come"] += len(found)
        return found

    def compare(
        self, history: History, tp: TP, agenda: ExpectedDeadlines, rows: dict[Name, Row], report: Report
    ) -> None:
        """Report findings about what is to come and what has come. `agenda` has taken the committed commands of `tp`.

        `extra_`, `wrong_` and `missing_deadline`; `extra_`, `wrong_`, `duplicate_` and `early_fired`.
        """
        must, low = history.bound(self.service, tp) or 0, history.low(tp)
        came = self._judge_came(tp, agenda, low, history.ahead_ms, report)
        here = TP(self.topic, tp.partition)
        for name, row in rows.items():
            setting = agenda.settings.get(identity(name[0], row.command))
            expected = self._expected_row(setting, row, agenda, came, must)
            if expected is None and not (setting is None and _cause(row.command) < low):
                where = (self.service, *here, name[0], row.offset)
                report.add(Finding("extra_deadline", *where, "nothing", _told(name, row)))
            elif expected is not None and expected != row:
                where = (self.service, *here, name[0], row.offset)
                report.add(Finding("wrong_deadline", *where, "", "").of_values(expected, row))
        there = {identity(name[0], row.command) for name, row in rows.items()}
        lost = {
            identity(setting.name[0], setting.command): setting
            for setting in agenda.last.values()
            if setting.offset < must and identity(setting.name[0], setting.command) not in there | came.keys()
        }
        offsets, times = {setting.offset for setting in lost.values()}, dict[int, int]()
        for entry in history.records(tp) if lost else ():  # it may be under way
            if entry.offset >= must:
                self._found(entry, lost)
            elif entry.offset in offsets:
                times[entry.offset] = entry.time_ms
        first: dict[str, int] = {}  # where the first of each name was set that is there, or has come
        for known, setting in agenda.settings.items() if lost else ():
            if known in there or known in came:
                first[setting.name[1]] = min(setting.offset, first.get(setting.name[1], setting.offset))
        for setting in lost.values():
            due = f"{setting.name[1]} due at {setting.due_ms}, or its command"
            report.add(Finding("missing_deadline", self.service, *here, setting.name[0], None, due, "neither"))
            is_first = setting.offset < first.get(setting.name[1], must)
            if is_first and not setting.name[1].startswith(SCHEDULED) and setting.offset in times:
                report.saw_decided_otherwise(times[setting.offset])

    def _judge_came(
        self, tp: TP, agenda: ExpectedDeadlines, low: int, ahead_ms: int, report: Report
    ) -> dict[Identity, Came]:
        """The commands that were due, each once, as it was set, and not before its time."""
        seen: dict[Identity, Came] = {}
        report.checked["deadlines fired"] += len(agenda.came)
        for came in agenda.came:
            key, command, offset, time_ms = came
            setting, name = agenda.settings.get(identity(key, command)), identity(key, command)
            where = (self.service, *tp, key, offset)
            if setting is None:
                if _cause(command) >= low:
                    report.add(Finding("extra_fired", *where, "nothing: no command has set it", short(command)))
            elif name in seen:
                expected = f"once, at offset {seen[name].offset}"
                report.add(Finding("duplicate_fired", *where, expected, short(command)))
            elif setting.command != command:
                report.add(Finding("wrong_fired", *where, "", "").of_values(setting.command, command))
            elif setting.offset >= offset:
                report.add(
                    Finding("wrong_fired", *where, f"behind offset {setting.offset}, which sets it", "before it")
                )
            elif time_ms < setting.due_ms - ahead_ms:
                report.add(Finding("early_fired", *where, f"not before {setting.due_ms}", str(time_ms)))
            seen.setdefault(name, came)
        return seen

    def _expected_row(
        self, setting: Setting | None, row: Row, agenda: ExpectedDeadlines, came: dict[Identity, Came], must: int
    ) -> Row | None:
        """What there should be; None for nothing. What has happened since `must` may not be in yet."""
        if setting is None:
            return None
        name = identity(setting.name[0], setting.command)
        if agenda.ended.get(name, must) < must:
            return None
        fired = came.get(name)
        scheduled = setting.name[1].startswith(SCHEDULED)
        if fired is not None and fired.offset < must and not scheduled:
            return None
        due_ms = NEVER if scheduled and row.due_ms == NEVER else setting.due_ms
        return Row(row.offset, due_ms, setting.command)

    def _found(self, entry: Entry, lost: dict[Identity, Setting]) -> None:
        try:
            read = self._commands.read(entry)
        except UndecodableRecord:
            return
        if read is not None:
            lost.pop(identity(*read), None)


def _cause(command: CommandMessage) -> int:
    """The offset of the command that has set it."""
    last = (command.causation_id or "").rpartition("/")[2]
    return int(last) if last.isdecimal() else 0


def _told(name: Name, row: Row) -> str:
    return short(f"{name[1]} due at {row.due_ms}: {row.command.body}")
