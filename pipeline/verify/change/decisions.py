"""Events, states and decisions of one aggregate, made again one by one beside what is recorded.

Each command is decided in the state that the recorded events before it give, so one difference does not become many.
In memory: events, states and replies of one partition.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from pipeline.adapters.avro.registry import Registry
from pipeline.adapters.json.writing import to_json
from pipeline.engine.ports import TP
from pipeline.errors import InvalidToken, UndecodableRecord
from pipeline.flow import command_to_event, event_to_state, is_later
from pipeline.flow.functions.raised import is_topologys
from pipeline.model import (
    Acceptance,
    Aggregate,
    CommandMessage,
    EventMessage,
    Rejected,
    ReplyMessage,
    StateMessage,
    TopicKind,
    is_barrier,
)
from pipeline.verify.change.report import ChangeReport, Example, Group, Scope
from pipeline.verify.checks.reads import ReadCheck
from pipeline.verify.checks.replies import ReplyCheck
from pipeline.verify.checks.tables import last_values
from pipeline.verify.report import Report, short
from pipeline.verify.sources.decode import Decoder, command_decoder, text_key
from pipeline.verify.sources.history import Entry, History
from pipeline.verify.sources.stored import aggregate_as_stored

UNDECIDED = {
    "expired",
    "issued_in_the_future",
    "id_reused",
    "no_deadlines",
    "discarded",
    "taken",
}  # by the engine alone
NO_OUTCOME = "commands of which no event and no reply is recorded"
NO_COPY = "commands decided with a copy whose source is not recorded"
UNFOLDED = "commands whose state or events cannot be folded"
CUT = "keys whose earlier events are not recorded"


class Logged(NamedTuple):
    """A recorded event, and where it stands."""

    offset: int
    event: EventMessage


@dataclass(slots=True)
class Past:
    """What one aggregate has lived through: recorded events, and the states that present code makes of them.

    `states`: before the first event, then after each. `broken`: what follows could not be folded.
    """

    log: list[Logged] = field(default_factory=list)
    states: list[StateMessage | None] = field(default_factory=lambda: [None])
    broken: bool = False


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
        self.states = aggregate.states
        self._service = service
        self._command = command_decoder(registry, self.aggregate)
        self._event = Decoder(registry, self.events, EventMessage, aggregate.event)
        self._state = Decoder(registry, self.states, StateMessage, type(aggregate.initial))
        self._answers = ReplyCheck(service, self.aggregate, registry, self._event)
        self._reads = ReadCheck(service, self.aggregate, registry)

    def __call__(
        self, history: History, topics: frozenset[str], partition: int, scope: Scope, report: ChangeReport
    ) -> None:
        """Read results before what has caused them. `topics`: what is recorded."""
        aside = Report()  # what cannot be read of what the engine writes alone is for verify to find
        states = self._last_states(history, topics, partition, aside)
        if self.states not in topics:
            report.not_judged[f"states of {self.name}: {self.states} is not recorded"] = 1
        replies = self._answers.read(history, partition, aside) if self.replies in topics else []
        pasts = self._fold(history, partition, scope, report)
        self._compare_states(pasts, states, scope, report)
        if self.commands in topics:
            outcomes = {reply.message.offset: reply.message for reply in replies}
            self._decide(history, partition, pasts, outcomes, scope, report)

    def _last_states(
        self, history: History, topics: frozenset[str], partition: int, aside: Report
    ) -> dict[str, StateMessage]:
        if self.states not in topics:
            return {}
        last = last_values(history, TP(self.states, partition), self._state, self._service, aside)
        return {key: value for key, (_, value) in last.items() if isinstance(value, StateMessage)}

    # --- events and states --------------------------------------------------------------------------------------------

    def _fold(self, history: History, partition: int, scope: Scope, report: ChangeReport) -> dict[str, Past]:
        """Read and fold the events of each key."""
        pasts: dict[str, Past] = {}
        for entry in history.records(TP(self.events, partition)):
            try:
                key = text_key(entry)
            except UndecodableRecord:
                continue  # nothing that an aggregate has written
            if not scope.has_key(key):
                continue
            past = pasts.setdefault(key, Past())
            event = self._read_event(entry, key, partition, report)
            if event is None or past.broken:
                past.broken = True
            elif event.version != len(past.states):
                past.broken = True
                report.not_judged[CUT] += 1
            else:
                past.log.append(Logged(entry.offset, event))
                self._evolve(key, past, partition, report)
        report.checked["keys"] += len(pasts)
        return pasts

    def _read_event(self, entry: Entry, key: str, partition: int, report: ChangeReport) -> EventMessage | None:
        report.checked["events"] += 1
        try:
            read = self._event.read(entry)
            if read is not None:
                event: EventMessage = read[1]
                return event
            why = "its class is none of the aggregate's events"
        except UndecodableRecord as error:
            why = short(str(error))
        place = f"{self.events}-{partition}@{entry.offset}"
        report.add(Group("event", self.name, "cannot be read", ""), Example(key, place, "an event", why))
        return None

    def _evolve(self, key: str, past: Past, partition: int, report: ChangeReport) -> None:
        offset, event = past.log[-1]
        try:
            past.states.append(event_to_state(self.aggregate, key.encode(), past.states[-1], event))
        except BaseException as error:
            if not is_topologys(error):
                raise
            past.broken = True
            place = f"{self.events}-{partition}@{offset}"
            group = Group("event", self.name, type(event.body).__name__, "evolve raises")
            report.add(group, Example(key, place, "a state", short(repr(error))))

    def _compare_states(
        self, pasts: dict[str, Past], states: dict[str, StateMessage], scope: Scope, report: ChangeReport
    ) -> None:
        for key, recorded in states.items():
            if not scope.has_key(key) or not scope.has_time(recorded.time_ms):
                continue
            past = pasts.get(key) or Past()
            if recorded.version >= len(past.states):
                report.not_judged["states whose events are not recorded, or cannot be folded"] += 1
                continue
            report.checked["states"] += 1
            now = past.states[recorded.version]
            body = None if now is None else now.body
            group = Group("state", self.name, type(recorded.body).__name__, "")
            report.compare(group, key, f"version {recorded.version}", to_json(recorded.body), to_json(body))

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
            try:
                read = self._command.read(entry)
            except UndecodableRecord:
                report.not_judged["commands that cannot be read"] += 1
                continue
            if read is None or not isinstance(read[1], CommandMessage) or not scope.has_key(read[0]):
                continue
            key, command = read
            turn = Turn(
                entry, key, command, caused.pop((key, command.id, entry.time_ms), []), outcomes.get(entry.offset)
            )
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
            return [logged.event.body for logged in turn.events]
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
