"""The aggregate: a decider. Two pure functions and a first state; the engine does the rest."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from pipeline.model.source import Source
from pipeline.model.topics import TopicKind

C = TypeVar("C")
E = TypeVar("E")
S = TypeVar("S")


@dataclass(frozen=True, slots=True)
class Rejected:
    """The decision not to act on a command: a value, not an exception. `reason` is a word for machines."""

    reason: str
    details: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Aggregate(Generic[C, E, S]):
    """A kind of thing that a service owns, each known by its id, each changed by its own commands in order.

    `name`: also the name of its table and the owner part of its topics.
    `command`, `event`: the classes of its commands and events, a class or a union of classes.
    `initial`: state of an id that has no event yet.
    `decide(command, state)`: the events that follow, or Rejected. No events: nothing to do, and that is an answer.
    `evolve(state, event)`: the next state; total, never fails, as what happened has happened.

    Both functions are pure. Time and ids arrive in the command.
    """

    name: str
    command: object
    event: object
    initial: S
    decide: Callable[[C, S], Sequence[E] | Rejected]
    evolve: Callable[[S, E], S]

    @property
    def events(self) -> Source:
        """The event log, for projections and reactions of the same service."""
        return Source(TopicKind.EVENT.topic(self.name), self.event)
