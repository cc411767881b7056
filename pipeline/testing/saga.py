"""given_saga(saga, *messages).when(message).then(*the commands that it sends)."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from pipeline.flow import command_to_event, event_to_state
from pipeline.model import Ask, CommandMessage, Intervention, Rejected, Replied, Saga, StateMessage
from pipeline.model.saga.saga import STATUSES


def given_saga(saga: Saga[Any], *messages: object, key: str = "key", time_ms: int = 0) -> GivenSaga:
    """Return the instance `key` that has received `messages`, in order, all at one time.

    Raises AssertionError if it refuses one.
    """
    given = GivenSaga(saga, saga.initial, 0, key, time_ms)
    for message in messages:
        given = given.when(message).after()
    return given


def accepted(step: str, attempt: int = 1) -> Replied:
    """Return an acceptance of an Ask."""
    return Replied(step, attempt, True)


def rejected(step: str, reason: str, attempt: int = 1) -> Replied:
    """Return a rejection of an Ask."""
    return Replied(step, attempt, False, reason)


@dataclass(frozen=True, slots=True)
class GivenSaga:
    """An instance with a past."""

    saga: Saga[Any]
    state: Any
    version: int = 0
    key: str = "key"
    time_ms: int = 0

    def when(self, message: object) -> WhenTold:
        """Let the instance receive `message`."""
        aggregate, key = self.saga.aggregate, self.key.encode()
        state = StateMessage(self.version, self.time_ms, self.state)
        command = CommandMessage("id", "id", None, self.time_ms, message)
        decision = command_to_event(aggregate, key, state, command, self.time_ms)
        if isinstance(decision, Rejected):
            return WhenTold(self, self.state, self.version, (), decision)
        events, effects = decision
        for event in events:
            state = event_to_state(aggregate, key, state, event)
        return WhenTold(self, state.body, state.version, tuple(each for each in effects if isinstance(each, Ask)), None)

    def is_at(self, status: str, reason: str = "") -> GivenSaga:
        """Assert the status in its summary, and its reason.

        `status`: "running", "compensating", "stuck", "done" or "undone", of a two-phase commit, too; "" before it has
        begun.
        """
        assert status in ("", *STATUSES), f"no saga is ever {status!r}; it is one of {', '.join(STATUSES)}"
        summary = self.saga.summary(self.state)
        assert summary.status == status, f"it is {summary.status}, expected {status}"
        assert reason in ("", summary.reason), f"the reason is {summary.reason}, expected {reason}"
        return self


@dataclass(frozen=True, slots=True)
class WhenTold:
    """An instance that has received a message."""

    before: GivenSaga
    state: Any
    version: int
    asks: tuple[Ask, ...]
    refused: Rejected | None

    def then(self, *expected: object) -> GivenSaga:
        """Assert what it sends then, in order, or that it refuses an Intervention; return the instance after it.

        Each argument is an Ask, or just its step's label such as `reserve.0`. No argument: nothing is sent.
        """
        if self.refused is not None:
            assert expected == (self.refused,), f"refused: {self.refused}, expected {expected}"
            return self.before
        shown = [ask if isinstance(want, Ask) else ask.step for ask, want in zip(self.asks, expected, strict=False)]
        shown += [ask.step for ask in self.asks[len(expected) :]]
        assert shown == list(expected), f"sent {shown}, expected {list(expected)}"
        return self.after()

    def after(self) -> GivenSaga:
        """Return the instance as it is now."""
        assert self.refused is None, f"refused: {self.refused}"
        return replace(self.before, state=self.state, version=self.version)


def by_hand(action: str, by: str = "a person", why: str = "") -> Intervention:
    """Return an operator's action."""
    return Intervention(action, by, why)
