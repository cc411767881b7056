"""given(aggregate, *events).when(command).then(*events or Rejected)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from pipeline.flow import command_to_event, event_to_state
from pipeline.model import Aggregate, CommandMessage, Effect, EventMessage, Rejected, StateMessage

Aggregated = Aggregate[Any, Any, Any]


def given(aggregate: Aggregated, *events: object) -> Given:
    """An aggregate to which `events` have happened, in order."""
    state: StateMessage | None = None
    for version, event in enumerate(events, 1):
        state = event_to_state(aggregate, state, EventMessage(version, "", "", 0, event))
    return Given(aggregate, state)


@dataclass(frozen=True, slots=True)
class Given:
    """An aggregate with a past."""

    aggregate: Aggregated
    state: StateMessage | None

    def when(self, command: object) -> When:
        """Lets it decide on `command`."""
        decision = command_to_event(self.aggregate, self.state, CommandMessage("id", "id", None, 0, command), 0)
        return When(self, decision)

    def has(self, state: object) -> None:
        """Asserts the state itself, for what no command shows."""
        value = self.aggregate.initial if self.state is None else self.state.body
        assert value == state, f"state is {value}, expected {state}"


@dataclass(frozen=True, slots=True)
class When:
    """A decision that was made."""

    before: Given
    decision: tuple[list[EventMessage], tuple[Effect, ...]] | Rejected

    def then(self, *expected: object) -> Given:
        """Asserts what was decided, events or one Rejected, and goes on from there. Nothing given: nothing happens.

        Deadlines and cancellations are given behind the events. Rejections are compared by reason; by details too where
        the expected one has any.
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
        """The aggregate once the decision has taken effect."""
        state = self.before.state
        for event in [] if isinstance(self.decision, Rejected) else self.decision[0]:
            state = event_to_state(self.before.aggregate, state, event)
        return Given(self.before.aggregate, state)
