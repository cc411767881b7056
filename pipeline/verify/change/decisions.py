"""Decisions of one aggregate, made again one by one beside what is recorded.

Each command is decided in the state that the recorded events before it give, so one difference does not become many.
In memory: events, states and replies of one partition.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple

from pipeline.adapters.avro.registry import Registry
from pipeline.adapters.json.writing import to_json
from pipeline.engine.ports import TP
from pipeline.errors import InvalidToken, UndecodableRecord
from pipeline.flow import command_to_event, is_later
from pipeline.flow.functions.raised import is_topologys
from pipeline.model import (
    Acceptance,
    Aggregate,
    CommandMessage,
    Rejected,
    ReplyMessage,
    StateMessage,
    TopicKind,
    is_barrier,
)
from pipeline.model.changes.upcasts import today
from pipeline.verify.change.report import ChangeReport, Example, Group, Scope
from pipeline.verify.change.states import Logged, Past, StateChanges
from pipeline.verify.checks.reads import ReadCheck
from pipeline.verify.checks.replies import ReplyCheck
from pipeline.verify.report import Report, short
from pipeline.verify.sources.decode import command_decoder, event_decoder
from pipeline.verify.sources.history import Entry, History
from pipeline.verify.sources.stored import aggregate_as_stored

# Rejections by the engine alone.
UNDECIDED = {"expired", "issued_in_the_future", "id_reused", "no_deadlines", "discarded", "taken"}
NO_OUTCOME = "commands of which no event and no reply is recorded"
NO_COPY = "commands decided with a copy whose source is not recorded"
UNFOLDED = "commands whose state or events cannot be folded"


class Turn(NamedTuple):
    """A command with what is recorded of its decision."""

    entry: Entry
    key: str
    command: CommandMessage
    events: list[Logged]
    reply: ReplyMessage | None

    @property
    def place(self) -> tuple[int, int]:
        """The order of decisions: one that has waited came behind the record that had been folded last by then."""
        placed = -1 if self.reply is None else self.reply.placed_offset
        return (self.entry.offset, 0) if placed < 0 else (placed, 1)


class AggregateChanges:
    """Compares one aggregate, a partition at a time."""

    def __init__(self, service: str, aggregate: Aggregate[Any, Any, Any], registry: Registry) -> None:
        self.aggregate = aggregate_as_stored(aggregate, registry)
        self.name = aggregate.name
        self.commands, self.events, self.replies = (
            kind.topic(aggregate.name) for kind in (TopicKind.COMMAND, TopicKind.EVENT, TopicKind.REPLIES)
        )
        self._command = command_decoder(registry, self.aggregate)
        self._event = event_decoder(registry, aggregate.events, follows=False)
        self._states = StateChanges(service, self.aggregate, self._event, registry)
        self._answers = ReplyCheck(service, self.aggregate, registry, self._event)
        self._reads = ReadCheck(service, self.aggregate, registry)

    def __call__(
        self, history: History, topics: frozenset[str], partition: int, scope: Scope, report: ChangeReport
    ) -> None:
        """Read results before what has caused them. `topics`: what is recorded."""
        # What cannot be read of replies, the engine's own records, is for verify to find.
        replies = self._answers.read(history, partition, Report()) if self.replies in topics else []
        pasts = self._states(history, topics, partition, scope, report)
        if self.commands in topics:
            outcomes = {reply.message.offset: reply.message for reply in replies}
            self._decide(history, partition, pasts, outcomes, scope, report)

    # --- decisions ----------------------------------------------------------------------------------------------------

    def _decide(
        self,
        history: History,
        partition: int,
        pasts: dict[str, Past],
        outcomes: dict[int, ReplyMessage],
        scope: Scope,
        report: ChangeReport,
    ) -> None:
        caused = _by_cause(pasts)
        turns: dict[str, list[Turn]] = {}
        known: set[tuple[str, str]] = set()  # whose ids were answered
        for entry in history.records(TP(self.commands, partition)):
            if is_barrier(entry.value, entry.headers):
                continue
            reply = outcomes.get(entry.offset)
            try:
                read, why = self._command.read(entry), "its class is none of the aggregate's commands"
            except UndecodableRecord as error:
                read, why = None, short(str(error))
            if read is None:
                self._unread(entry, partition, reply, why, scope, report)
                continue
            if not isinstance(read[1], CommandMessage) or not scope.has_key(read[0]):
                continue
            key, command = read
            turn = Turn(entry, key, command, caused.pop((key, command.id, entry.time_ms), []), reply)
            if turn.events or turn.reply:
                known.add((key, command.id))
            elif (key, command.id) in known:
                report.checked["commands sent again"] += 1
                continue
            turns.setdefault(key, []).append(turn)
        gone = {(key, event.event.version) for (key, _, _), log in caused.items() for event in log}
        for key, of_key in turns.items():
            past = pasts.get(key) or Past()
            version = 0
            for turn in sorted(of_key, key=lambda turn: turn.place):
                while (key, version + 1) in gone and past.log[version].event.time_ms <= turn.entry.time_ms:
                    version += 1  # of commands that are not recorded
                version = self._decide_again(history, past, turn, version, partition, scope, report)

    def _unread(
        self, entry: Entry, partition: int, reply: ReplyMessage | None, why: str, scope: Scope, report: ChangeReport
    ) -> None:
        """Take in a command that present code cannot read; it is a difference if earlier code has decided it."""
        key = (entry.key or b"").decode(errors="replace")
        if reply is None:
            report.not_judged["commands that cannot be read"] += 1
        elif scope.has_key(key) and scope.has_time(entry.time_ms):
            place = f"{self.commands}-{partition}@{entry.offset}"
            report.add(Group("decision", self.name, "cannot be read", ""), Example(key, place, "a command", why))

    def _decide_again(
        self, history: History, past: Past, turn: Turn, version: int, partition: int, scope: Scope, report: ChangeReport
    ) -> int:
        """Decide one command, and compare. Return the version of its aggregate after it, as recorded."""
        if past.broken and turn.events and turn.events[-1] is past.log[-1]:  # more may have followed
            report.not_judged[UNFOLDED] += 1
            return turn.events[-1].event.version
        recorded = self._recorded(turn, report)
        if recorded is None:
            return version
        if turn.events:
            version = turn.events[0].event.version - 1
        elif turn.reply is not None and isinstance(turn.reply.body, Acceptance):
            version = turn.reply.body.version
        after = version + len(turn.events)
        if not scope.has_time(turn.entry.time_ms):
            return after
        last = len(past.states) - 1
        if version > last or (past.broken and version == last and isinstance(recorded, Rejected)):
            report.not_judged[UNFOLDED] += 1
            return after
        kind = type(turn.command.body).__name__
        place = f"{self.commands}-{partition}@{turn.entry.offset}"
        try:
            now = self._decision(history, turn, past.states[version])
        except InvalidToken:
            report.not_judged[NO_COPY] += 1
            return after
        except BaseException as error:
            if not is_topologys(error):
                raise
            group = Group("decision", self.name, kind, "decide raises")
            report.add(group, Example(turn.key, place, outcome(recorded), short(repr(error))))
            return after
        report.checked["commands"] += 1
        self._compare(Group("decision", self.name, kind, ""), turn.key, place, recorded, now, report)
        return after

    def _recorded(self, turn: Turn, report: ChangeReport) -> list[Any] | Rejected | None:
        """Return what was decided then: events, or a rejection; None if that is not known, or nothing was."""
        if turn.events:
            return [part.body for logged in turn.events for part in today(logged.event)]
        if turn.reply is not None and isinstance(turn.reply.body, Rejected):
            return None if turn.reply.body.reason in UNDECIDED else turn.reply.body
        if turn.reply is not None and turn.reply.body.count == 0:
            return []
        if not is_later(turn.command, turn.entry.time_ms):
            report.not_judged[NO_OUTCOME] += 1
        return None

    def _decision(self, history: History, turn: Turn, state: StateMessage | None) -> list[Any] | Rejected:
        """Return what present code decides. Raises InvalidToken if what it read is not recorded."""
        copies = None
        if self.aggregate.replicas:
            read = turn.events[0].event.read if turn.events else turn.reply.read if turn.reply is not None else None
            past = self._reads.copies(history)
            past.take_in(read)
            copies = past.as_of(read)
        decision = command_to_event(self.aggregate, turn.key.encode(), state, turn.command, turn.entry.time_ms, copies)
        return decision if isinstance(decision, Rejected) else [event.body for event in decision[0]]

    @staticmethod
    def _compare(
        group: Group,
        key: str,
        place: str,
        recorded: list[Any] | Rejected,
        now: list[Any] | Rejected,
        report: ChangeReport,
    ) -> None:
        if isinstance(recorded, Rejected) and isinstance(now, Rejected):
            report.compare(group, key, place, _rejection(recorded), _rejection(now))
        elif isinstance(recorded, Rejected) or isinstance(now, Rejected) or outcome(recorded) != outcome(now):
            report.add(group._replace(field="outcome"), Example(key, place, outcome(recorded), outcome(now)))
        else:
            for then, event in zip(recorded, now, strict=True):
                of_event = group._replace(type=type(event).__name__)
                report.compare(of_event, key, place, to_json(then), to_json(event))


def _by_cause(pasts: dict[str, Past]) -> dict[tuple[str, str, int], list[Logged]]:
    """Return the events by key, and by id and time of the command that has caused them."""
    found: dict[tuple[str, str, int], list[Logged]] = {}
    for key, past in pasts.items():
        for logged in past.log:
            cause = key, logged.event.command_id, logged.event.time_ms
            found.setdefault(cause, []).append(logged)
    return found


def outcome(decision: Iterable[Any] | Rejected) -> str:
    """Return what was decided, in short."""
    if isinstance(decision, Rejected):
        return f"rejected: {decision.reason}"
    return ", ".join(type(event).__name__ for event in decision) or "no event"


def _rejection(rejected: Rejected) -> dict[str, Any]:
    return {"rejected": rejected.reason, "details": dict(rejected.details)}
