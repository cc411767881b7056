"""One instance of a saga, told one message after the other, and what is due of it then."""

from __future__ import annotations

from typing import Any, Self

from pipeline.model import Cancel, Deadline, Effect, Rejected
from pipeline.model.saga.saga import Ask, Replied, Saga


class SagaRun:
    """`due`: what the last message has made due."""

    def __init__(self, saga: Saga[Any]) -> None:
        self.saga, self.state = saga, saga.initial
        self.due: list[Effect] = []

    def tell(self, *messages: Any) -> Self:
        for message in messages:
            decision = self.saga.decide(message, self.state)
            assert not isinstance(decision, Rejected), decision
            self.due = [each for each in decision if isinstance(each, Effect)]
            for event in decision:
                if not isinstance(event, Effect):
                    self.state = self.saga.evolve(self.state, event)
        return self

    def asks(self) -> tuple[Ask, ...]:
        return tuple(each for each in self.due if isinstance(each, Ask))

    def timers(self) -> tuple[tuple[str, float], ...]:
        return tuple((each.name, each.after) for each in self.due if isinstance(each, Deadline))

    def over(self) -> tuple[str, ...]:
        return tuple(each.name for each in self.due if isinstance(each, Cancel))

    def sent(self) -> list[str]:
        return [f"{ask.step}/{ask.attempt}" for ask in self.asks()]


def yes(step: str, attempt: int = 1) -> Replied:
    return Replied(step, attempt, True)


def no(step: str, reason: str, attempt: int = 1) -> Replied:
    return Replied(step, attempt, False, reason)
