"""Holds what an aggregate remembers of its commands, the replies on `<aggregate>.replies`, against their log."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from pipeline.adapters.avro.registry import Registry
from pipeline.engine.ports import TP
from pipeline.errors import UndecodableRecord
from pipeline.model import Acceptance, Aggregate, CommandMessage, Parked, Rejected, ReplyMessage, TopicKind
from pipeline.verify.checks.tables import unreadable
from pipeline.verify.replay.expected_deadlines import ExpectedDeadlines
from pipeline.verify.replay.expected_replies import Decided, ExpectedReplies, Given
from pipeline.verify.report import Finding, Report, short
from pipeline.verify.sources.decode import Decoder
from pipeline.verify.sources.history import Entry, History


def placed_of(message: ReplyMessage) -> tuple[int, int] | None:
    """Of a command that was parked, offset and time from which it is remembered."""
    return None if message.placed_offset < 0 else message.place


class Reply(NamedTuple):
    """A reply as it stands in the log."""

    entry: Entry
    key: str
    message: ReplyMessage


class ReplyCheck:
    """Judges the replies of one aggregate, a partition at a time."""

    def __init__(self, service: str, aggregate: Aggregate[Any, Any, Any], registry: Registry, events: Decoder) -> None:
        self.service, self.idempotency, self._events = service, aggregate.idempotency, events
        self.topic = TopicKind.REPLIES.topic(aggregate.name)
        self._reply = Decoder(registry, TopicKind.REPLY.value, ReplyMessage, Acceptance | Rejected | Parked)

    def read(self, history: History, partition: int, report: Report) -> list[Reply]:
        """All replies that are held."""
        found: list[Reply] = []
        for entry in history.records(TP(self.topic, partition)) if self.idempotency is not None else ():
            try:
                message = self._reply.value(entry.value)
                key = entry.key or b""
                length = int.from_bytes(key[:4], "big")
                if key[4 + length :].decode() != message.command_id:
                    raise UndecodableRecord(f"the key {key!r} is not that of {message.command_id!r}")
                found.append(Reply(entry, key[4 : 4 + length].decode(), message))
            except UndecodableRecord as error:
                report.add(unreadable(self.service, TP(self.topic, partition), entry, error))
        report.checked["replies"] += len(found)
        return found

    def memory(
        self, history: History, commands: TP, replies: list[Reply], agenda: ExpectedDeadlines
    ) -> ExpectedReplies:
        """An empty memory; where retention has cut the command log, one of the commands that were cut away."""
        memory, low = ExpectedReplies(self.idempotency, agenda), history.low(commands)
        for reply in replies:
            message = reply.message
            if message.offset < low:
                asked = CommandMessage(
                    message.command_id, "", None, message.issued_ms, None
                )  # what it asked for is gone
                memory.remember(Given(reply.key, asked, message.offset, message.time_ms, None, placed_of(message)))
        return memory

    def compare(
        self,
        history: History,
        partition: int,
        memory: ExpectedReplies,
        replies: list[Reply],
        settled: Callable[[Given], bool],
        report: Report,
    ) -> None:
        """Report `missing_`, `wrong_`, `duplicate_`, `extra_reply`. Commands that are `settled` must have theirs."""
        if memory.idempotency is None:
            return
        tp = TP(self.topic, partition)
        since_ms = min((reply.entry.time_ms for reply in replies), default=0) if history.low(tp) else 0
        due = {given.offset: given for given in memory.decided}
        seen: set[int] = set()
        for entry, key, message in replies:
            given = due.get(message.offset)
            found = short(message.body)
            if given is None:
                report.add(Finding("extra_reply", self.service, *tp, key, entry.offset, "nothing", found))
            elif message.offset in seen:
                report.add(Finding("duplicate_reply", self.service, *tp, key, entry.offset, "one answer", found))
            elif not self._is_right(given, key, message):
                expected = short(given.outcome)
                report.add(Finding("wrong_reply", self.service, *tp, key, entry.offset, expected, found))
            seen.add(message.offset)
        for offset, given in due.items():
            if settled(given) and offset not in seen and given.time_ms > since_ms and given.outcome is not None:
                expected = f"{given.command.id}: {short(given.outcome)}"
                report.add(Finding("missing_reply", self.service, *tp, given.key, None, expected, "nothing"))

    def _is_right(self, given: Given, key: str, message: ReplyMessage) -> bool:
        command = given.command
        told = key, message.command_id, message.issued_ms, message.time_ms
        if (given.key, command.id, command.issued_ms, given.time_ms) != told or given.place != message.place:
            return False
        if given.outcome is None:
            return True
        if message.correlation_id not in (None, command.correlation_id):  # None: also of before replies said it
            return False
        if message.read != given.read:
            return False
        body = message.body
        if isinstance(body, Acceptance):
            try:
                events = tuple(self._events.value(data) for data in body.events)
            except UndecodableRecord:
                return False
            version, decided = given.outcome if isinstance(given.outcome, Decided) else (None, ())
            return version == body.version and len(decided) == body.count and events in (decided, ())
        return bool(body == given.outcome)
