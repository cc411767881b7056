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
    ) -> list[Reply]:
        """Report `missing_`, `wrong_`, `duplicate_`, `extra_reply`. Commands that are `settled` must have theirs.

        Return the replies that are wrong about nothing but what was decided.
        """
        if memory.idempotency is None:
            return []
        otherwise: list[Reply] = []
        tp = TP(self.topic, partition)
        since_ms = min((reply.entry.time_ms for reply in replies), default=0) if history.low(tp) else 0
        due = {given.offset: given for given in memory.decided}
        seen: set[int] = set()
        for reply in replies:
            entry, key, message = reply
            given = due.get(message.offset)
            where = (self.service, *tp, key, entry.offset)
            if given is None:
                report.add(Finding("extra_reply", *where, "nothing", short(self._outcome(message.body))))
            elif message.offset in seen:
                report.add(Finding("duplicate_reply", *where, "one answer", short(self._outcome(message.body))))
            else:
                expected, found = self._sides(given, key, message)
                if expected != found:
                    report.add(Finding("wrong_reply", *where, "", "").of_values(expected, found))
                    if expected.pop("outcome", None) != found.pop("outcome", None) and expected == found:
                        otherwise.append(reply)
            seen.add(message.offset)
        for offset, given in due.items():
            if settled(given) and offset not in seen and given.time_ms > since_ms and given.outcome is not None:
                told = f"{given.command.id}: {short(given.outcome)}"
                report.add(Finding("missing_reply", self.service, *tp, given.key, None, told, "nothing"))
        return otherwise

    def _sides(self, given: Given, key: str, message: ReplyMessage) -> tuple[dict[str, Any], dict[str, Any]]:
        """What a reply must say, and what it says: equal if it is right."""
        command = given.command
        expected = {"key": given.key, "command_id": command.id, "issued_ms": command.issued_ms}
        expected |= {"time_ms": given.time_ms, "place": given.place}
        found = {"key": key, "command_id": message.command_id, "issued_ms": message.issued_ms}
        found |= {"time_ms": message.time_ms, "place": message.place}
        if given.outcome is not None:
            if message.correlation_id is not None:  # there is none in replies from before they said it
                expected["correlation_id"], found["correlation_id"] = command.correlation_id, message.correlation_id
            events_told = isinstance(message.body, Acceptance) and bool(message.body.events)
            expected |= {"read": given.read, "outcome": _decided(given.outcome, events_told=events_told)}
            found |= {"read": message.read, "outcome": self._outcome(message.body)}
        return expected, found

    def _outcome(self, body: Any) -> Any:
        """What a reply says was decided, its events decoded."""
        if not isinstance(body, Acceptance):
            return body
        outcome: dict[str, Any] = {"type": "Accepted", "version": body.version, "count": body.count}
        if not body.events:  # they had no room, or there are none
            return outcome
        try:
            return outcome | {"events": tuple(self._events.value(data) for data in body.events)}
        except UndecodableRecord as error:
            return outcome | {"events": f"cannot be read: {error}"}


def _decided(outcome: Any, *, events_told: bool) -> Any:
    """What was decided, as a reply says it."""
    if not isinstance(outcome, Decided):
        return outcome
    told: dict[str, Any] = {"type": "Accepted", "version": outcome.version, "count": len(outcome.events)}
    return told | ({"events": outcome.events} if events_told else {})
