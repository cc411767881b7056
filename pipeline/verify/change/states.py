"""Events and states of one aggregate: each event is read and folded by present code, each recorded state compared.

In memory: events and states of one partition.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, NamedTuple

from pipeline.adapters.avro.registry import Registry
from pipeline.adapters.json.writing import to_json
from pipeline.engine.ports import TP
from pipeline.errors import UndecodableRecord
from pipeline.flow import event_to_state
from pipeline.flow.functions.raised import is_topologys
from pipeline.model import Aggregate, EventMessage, StateMessage
from pipeline.verify.change.report import ChangeReport, Example, Group, Scope
from pipeline.verify.checks.tables import last_values
from pipeline.verify.report import Report, short
from pipeline.verify.sources.decode import Decoder, state_decoder, text_key
from pipeline.verify.sources.history import Entry, History

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


class StateChanges:
    """Compares the events and states of one aggregate, a partition at a time. `aggregate`: as what is stored has it."""

    def __init__(self, service: str, aggregate: Aggregate[Any, Any, Any], events: Decoder, registry: Registry) -> None:
        self.aggregate, self.name = aggregate, aggregate.name
        self.events, self.states = events.topic, aggregate.states
        self._service, self._event = service, events
        self._state = state_decoder(registry, aggregate)

    def __call__(
        self, history: History, topics: frozenset[str], partition: int, scope: Scope, report: ChangeReport
    ) -> dict[str, Past]:
        """Return what each key has lived through. States are read before their events."""
        states = self._last_states(history, topics, partition, scope, report)
        pasts = self._fold(history, partition, scope, report)
        self._compare_states(pasts, states, scope, report)
        return pasts

    def _last_states(
        self, history: History, topics: frozenset[str], partition: int, scope: Scope, report: ChangeReport
    ) -> dict[str, StateMessage]:
        """Return the recorded states that can be read."""
        if self.states not in topics:
            report.not_judged[f"states of {self.name}: {self.states} is not recorded"] = 1
            return {}
        last = last_values(history, TP(self.states, partition), self._state, self._service, Report())
        for key, (entry, value) in last.items():
            if isinstance(value, UndecodableRecord) and scope.has_key(key):
                place = f"{self.states}-{partition}@{entry.offset}"
                group = Group("state", self.name, "cannot be read", "")
                report.add(group, Example(key, place, "a state", short(str(value))))
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
