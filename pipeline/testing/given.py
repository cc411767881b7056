"""given(aggregate, *events).with_copy(replica, rows).with_context(...).when(command).then(*events or Rejected)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from pipeline.flow import Copies, Find, command_to_event, event_to_state
from pipeline.flow.functions.upcasting import upcasting
from pipeline.model import (
    Aggregate,
    CommandContext,
    CommandMessage,
    Effect,
    EventMessage,
    Rejected,
    Replica,
    StateMessage,
)
from pipeline.testing.author_checks import check_command, checked_aggregate

Aggregated = Aggregate[Any, Any, Any]
CONTEXT = CommandContext("key", 0, 0, "id", "id", None, 0)


def given(aggregate: Aggregated, *events: object, key: str = CONTEXT.key, time_ms: int = CONTEXT.time_ms) -> Given:
    """Return the aggregate `key` to which `events` have happened, in order, at that time; old ones are upcast."""
    aggregate = checked_aggregate(aggregate)
    upcast = upcasting(aggregate.events.topic, aggregate.event, aggregate.upcasts)
    context = replace(CONTEXT, key=key, time_ms=time_ms, issued_ms=time_ms)
    state: StateMessage | None = None
    for version, event in enumerate(events, 1):
        ids = context.command_id, context.correlation_id
        message = upcast(EventMessage(version, *ids, time_ms, event))
        state = event_to_state(aggregate, key.encode(), state, message)
    return Given(aggregate, state, context)


@dataclass(frozen=True, slots=True)
class Given:
    """An aggregate with a past."""

    aggregate: Aggregated
    state: StateMessage | None
    context: CommandContext = CONTEXT  # of the next command; its version is that of the state
    copies: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)  # rows, by replica and key

    def with_copy(self, replica: Replica[Any, Any], rows: Mapping[str, Any]) -> Given:
        """Give the rows of a replica that the aggregate reads. A replica without given rows is empty."""
        assert replica in self.aggregate.replicas, f"{self.aggregate.name} does not read {replica.name}"
        return replace(self, copies={**self.copies, replica.name: rows})

    def with_context(self, *, version: int | None = None, **fields: Any) -> Given:
        """Set fields of the CommandContext of the next commands, such as `time_ms`, and the version of the state."""
        state = self.state
        if version is not None:
            state = (state or StateMessage(0, 0, self.aggregate.initial))._replace(version=version)
        return replace(self, state=state, context=replace(self.context, **fields))

    def when(self, command: object) -> When:
        """Let the aggregate decide `command`. Raises AuthorError if its functions do what they must not do."""
        check_command(self.aggregate, command)
        at = self.context
        message = CommandMessage(at.command_id, at.correlation_id, at.causation_id, at.issued_ms, command)
        copies = Copies([(replica.source.topic, self._finder(replica.name)) for replica in self.aggregate.replicas])
        decision = command_to_event(self.aggregate, at.key.encode(), self.state, message, at.time_ms, copies)
        return When(self, decision)

    def _finder(self, replica: str) -> Find:
        rows = self.copies.get(replica, {})
        return lambda key: (0, 0, rows.get(key))

    def has(self, state: object) -> Given:
        """Assert the state itself, for what no command shows. Return the aggregate as it is."""
        value = self.aggregate.initial if self.state is None else self.state.body
        assert value == state, f"state is {value}, expected {state}"
        return self


@dataclass(frozen=True, slots=True)
class When:
    """A decision of an aggregate."""

    before: Given
    decision: tuple[list[EventMessage], tuple[Effect, ...]] | Rejected

    def then(self, *expected: object) -> Given:
        """Assert the decision, events or one Rejected, and return the aggregate after it. No argument: no event.

        Deadlines and cancellations follow the events. Rejections are compared by reason, and by details if the expected
        one has any.
        """
        if isinstance(self.decision, Rejected):
            shown: tuple[object, ...] = (self.decision,)
            match expected:
                case (Rejected(reason, details),) if not details:
                    shown = (Rejected(self.decision.reason),)
                    expected = (Rejected(reason),)
        else:
            events, effects = self.decision
            shown = (*(event.body for event in events), *effects)
        assert shown == expected, f"decided {shown}, expected {expected}"
        return self.after()

    def after(self) -> Given:
        """Return the aggregate after the decision."""
        state = self.before.state
        for event in [] if isinstance(self.decision, Rejected) else self.decision[0]:
            state = event_to_state(self.before.aggregate, self.before.context.key.encode(), state, event)
        return replace(self.before, state=state)
