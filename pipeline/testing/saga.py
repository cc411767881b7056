"""given_saga(saga, *messages).when(message).then(*what it owes now)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from pipeline.model import Ask, Effect, Intervention, Rejected, Replied, Saga


def given_saga(saga: Saga[Any], *messages: object) -> GivenSaga:
    """An instance that has been told `messages`, in order. AssertionError where it refuses one."""
    given = GivenSaga(saga, saga.initial)
    for message in messages:
        given = given.when(message).after()
    return given


def accepted(step: str, attempt: int = 1) -> Replied:
    """A yes to an Ask."""
    return Replied(step, attempt, True)


def rejected(step: str, reason: str, attempt: int = 1) -> Replied:
    """A no to an Ask."""
    return Replied(step, attempt, False, reason)


@dataclass(frozen=True, slots=True)
class GivenSaga:
    """An instance with a past."""

    saga: Saga[Any]
    state: Any

    def when(self, message: object) -> WhenTold:
        """Tells it `message`."""
        decision = self.saga.decide(message, self.state)
        if isinstance(decision, Rejected):
            return WhenTold(self, self.state, (), decision)
        after = self.state
        for event in decision:
            if not isinstance(event, Effect):
                after = self.saga.evolve(after, event)
        return WhenTold(self, after, tuple(each for each in decision if isinstance(each, Ask)), None)

    def is_at(self, status: str, reason: str = "") -> GivenSaga:
        """Asserts where it stands, as its summary says, and why."""
        summary = self.saga.summary(self.state)
        assert summary.status == status, f"it is {summary.status}, expected {status}"
        assert reason in ("", summary.reason), f"the reason is {summary.reason}, expected {reason}"
        return self


@dataclass(frozen=True, slots=True)
class WhenTold:
    """An instance that has just been told something."""

    before: GivenSaga
    state: Any
    asks: tuple[Ask, ...]
    refused: Rejected | None

    def then(self, *expected: object) -> GivenSaga:
        """Asserts what it sends because of that, in order, and goes on from there; or that it refuses an Intervention.

        Each is given as an Ask, or as the step's label alone, such as `reserve.0`. Nothing given: nothing is sent.
        """
        if self.refused is not None:
            assert expected == (self.refused,), f"refused: {self.refused}, expected {expected}"
            return self.before
        shown = [ask if isinstance(want, Ask) else ask.step for ask, want in zip(self.asks, expected, strict=False)]
        shown += [ask.step for ask in self.asks[len(expected) :]]
        assert shown == list(expected), f"sent {shown}, expected {list(expected)}"
        return self.after()

    def after(self) -> GivenSaga:
        """The instance as it is now."""
        assert self.refused is None, f"refused: {self.refused}"
        return GivenSaga(self.before.saga, self.state)


def by_hand(action: str, by: str = "a person", why: str = "") -> Intervention:
    """What a person asks of it."""
    return Intervention(action, by, why)
