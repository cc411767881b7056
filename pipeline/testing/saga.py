"""given_saga(saga, *messages).when(message).then(*the commands that it sends)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from pipeline.model import Ask, Effect, Intervention, Rejected, Replied, Saga


def given_saga(saga: Saga[Any], *messages: object) -> GivenSaga:
    """Return an instance that has received `messages`, in order. Raises AssertionError if it refuses one."""
    given = GivenSaga(saga, saga.initial)
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

    def when(self, message: object) -> WhenTold:
        """Let the instance receive `message`."""
        decision = self.saga.decide(message, self.state)
        if isinstance(decision, Rejected):
            return WhenTold(self, self.state, (), decision)
        after = self.state
        for event in decision:
            if not isinstance(event, Effect):
                after = self.saga.evolve(after, event)
        return WhenTold(self, after, tuple(each for each in decision if isinstance(each, Ask)), None)

    def is_at(self, status: str, reason: str = "") -> GivenSaga:
        """Assert the status in its summary, and its reason."""
        summary = self.saga.summary(self.state)
        assert summary.status == status, f"it is {summary.status}, expected {status}"
        assert reason in ("", summary.reason), f"the reason is {summary.reason}, expected {reason}"
        return self


@dataclass(frozen=True, slots=True)
class WhenTold:
    """An instance that has received a message."""

    before: GivenSaga
    state: Any
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
        return GivenSaga(self.before.saga, self.state)


def by_hand(action: str, by: str = "a person", why: str = "") -> Intervention:
    """Return an operator's action."""
    return Intervention(action, by, why)
