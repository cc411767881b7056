"""The saga: work that spans services, as state from which follows which commands are owed.

Two pure functions and a first state, like an aggregate, and with an event log of its own: what is told to a saga and
changes it, is its event. What it does to others follows from its state alone: what the state after a message owes, and
the state before did not, is sent. `linear_saga` and `two_phase_saga` make the two usual kinds of it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property, update_wrapper
from typing import Any, Generic, NamedTuple, TypeVar

from pipeline.model.aggregate import Aggregate, Rejected
from pipeline.model.changes.migrations import Migrations
from pipeline.model.context import CommandContext, EventContext, Given, asks_context
from pipeline.model.deadline import Cancel, Deadline, Effect
from pipeline.model.records.topics import TopicKind

S = TypeVar("S")

IN_FLIGHT = ("running", "compensating", "stuck")  # states of a saga that has not ended
STATUSES = (*IN_FLIGHT, "done", "undone")
ACTIONS = ("retry", "skip", "abort", "commit")  # what a person may ask of a saga; each kind of saga knows some of them


@dataclass(frozen=True, slots=True)
class Ask(Effect):
    """A command that a saga owes to an aggregate, its own service's or another's; it is known by (step, attempt).

    Its id is `<saga>/<saga's key>/<step>/<attempt>`: the same debt is the same command, however often it is sent.
    """

    step: str  # without a slash
    to: str  # name of the aggregate
    key: str  # the aggregate's id
    command: Any
    attempt: int = 1

    def __post_init__(self) -> None:
        if not self.step or "/" in self.step:
            raise ValueError(f"an Ask's step, such as {self.step!r}, is not empty and has no slash")


def timer(name: str, after_s: float) -> Deadline:
    """What a saga waits for besides answers: told as TimeUp(name), so long after the message that made it owed."""
    return Deadline(name, TimeUp(name), after=after_s)


Owed = Ask | Deadline


@dataclass(frozen=True, slots=True)
class Started:
    """That an instance has begun, and by which version of the saga's definition: it goes by that one to its end."""

    version: int


@dataclass(frozen=True, slots=True)
class Replied:
    """The reply to an Ask: accepted, or rejected for a reason."""

    step: str
    attempt: int
    accepted: bool
    reason: str = ""
    details: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class TimeUp:
    """The end of a timer."""

    timer: str


@dataclass(frozen=True, slots=True)
class Intervention:
    """An operator's request to a saga: one of ACTIONS; by whom, and why."""

    action: str
    by: str
    why: str


class Summary(NamedTuple):
    """The state of a saga, for people. `status`: one of STATUSES."""

    status: str
    step: str  # what is under way, empty if nothing is
    attempt: int
    waits_for: tuple[str, ...]  # the Asks without a reply
    reason: str  # why it is undone, or tried again
    blocks: tuple[str, ...] = ()  # what others may find locked meanwhile, as `<aggregate>/<key>`


@dataclass(frozen=True)  # without slots: `aggregate` is kept
class Saga(Generic[S]):
    """A kind of work that spans services, each instance known by its key.

    `name`: also the name of its table and the owner part of its topics.
    `message`: the classes of what begins and moves it, besides Replied, TimeUp and Intervention, which come by
    themselves. A Reaction of its service sends them.
    `asks`: the classes of the commands that it sends, by the aggregate that takes them.
    `initial`: state of an instance that nothing has begun.
    `evolve(state, message)`: the next state; total. The same state if the message comes too late, or again. With a
    parameter `context` it is given an EventContext, such as for the saga's key.
    `plan(state)`: all that the state owes, Asks and timers, in the order in which they are to be sent.
    `summary(state)`: where it stands.
    `refuse(state, intervention)`: why a person may not do that now; None if it may be done.
    `actions`: which of ACTIONS it knows.
    `version`: of the definition; an instance keeps the one that it began with, which its first event Started says.
    `revision`, `migrate`: of its states; see Aggregate.
    `turn(state)`: optional. If `turn(before) == turn(after)`, the change owes nothing new, so `plan` is skipped.
    `diagram`: of its steps, in Mermaid.
    """

    name: str
    message: object
    asks: Mapping[str, object]
    initial: S
    evolve: Given[S, Any, S]
    plan: Callable[[S], Sequence[Owed]]
    summary: Callable[[S], Summary]
    refuse: Callable[[S, Intervention], Rejected | None] = lambda state, _: Rejected("not_supported")
    actions: tuple[str, ...] = ()
    version: int = 1
    revision: int = 1
    migrate: Migrations = field(default_factory=dict)
    turn: Callable[[S], object] | None = None
    diagram: str = ""
    evolve_in_context: bool = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        given = ["the state", "the message"]
        evolves = asks_context(self.evolve, f"saga {self.name!r}: its evolve", given, EventContext)
        object.__setattr__(self, "evolve_in_context", evolves)

    def decide(self, message: Any, state: S) -> list[Any] | Rejected:
        """Return the message as the saga's event if it changes the state, and the effects that the change owes."""
        return self._decide(message, state, self.evolve)

    def decide_in_context(self, message: Any, state: S, context: CommandContext) -> list[Any] | Rejected:
        """Return what `decide` does, for an `evolve` that asks for the context of the event that there will be."""
        version, topic = context.version, TopicKind.EVENT.topic(self.name)
        asking: Callable[..., S] = self.evolve

        def evolve(before: S, event: Any) -> S:
            nonlocal version
            version += 1
            ids = f"{topic}/{context.key}/{version}", context.command_id, context.correlation_id
            return asking(before, event, context=EventContext(context.key, version, context.time_ms, *ids))

        return self._decide(message, state, evolve)

    def _decide(self, message: Any, state: S, evolve: Callable[[S, Any], S]) -> list[Any] | Rejected:
        if isinstance(message, Intervention) and (refused := self.refuse(state, message)):
            return refused
        first: list[Any] = [Started(self.version)] if state == self.initial else []
        before = state
        for event in first:
            before = evolve(before, event)
        after = evolve(before, message)
        return [] if after == before else [*first, message, *self.due(before, after)]

    def due(self, before: S, after: S) -> list[Effect]:
        """The effects that `after` owes and `before` did not, and the cancellation of timers no longer owed.

        Raises ValueError if a plan owes two different things under one name.
        """
        if self.turn is not None and self.turn(before) == self.turn(after):
            return []
        old, new = self._plan(before), self._plan(after)
        over = [Cancel(name) for name in old if isinstance(name, str) and name not in new]
        return [*over, *(owed for name, owed in new.items() if name not in old)]

    def _plan(self, state: S) -> dict[str | tuple[str, int], Owed]:
        plan: dict[str | tuple[str, int], Owed] = {}
        for owed in self.plan(state):
            name = owed.name if isinstance(owed, Deadline) else (owed.step, owed.attempt)
            if plan.setdefault(name, owed) is not owed:
                raise ValueError(f"saga {self.name!r}: its plan has two things of the name {name!r}")
        return plan

    @cached_property
    def aggregate(self) -> Aggregate[Any, Any, S]:
        """The saga as an aggregate: its commands are messages to it, its events are the messages that changed it.

        It keeps no replies: a repeated message changes nothing. One value: two would not be equal, as `decide` is bound
        to a saga made for it.
        """
        command: Any = self.message
        command = command | TimeUp | Intervention
        remembering = replace(self, evolve=_Remembering(self.evolve))
        return Aggregate(
            self.name,
            command=command,
            event=command | Started | Replied,
            initial=self.initial,
            decide=remembering.decide_in_context if self.evolve_in_context else remembering.decide,
            evolve=remembering.evolve,
            idempotency=None,
            asks=self.asks,
            revision=self.revision,
            migrate=self.migrate,
        )


class _Remembering(Generic[S]):
    """An `evolve` that caches its last result: `decide` has computed the state that the event gives next.

    Any number of threads may use it: one that finds another's answer evolves.
    """

    def __init__(self, evolve: Callable[..., S]) -> None:
        update_wrapper(self, evolve)  # so that it may ask for its context
        self._evolve = evolve
        self._last: tuple[S, Any, dict[str, Any], S] | None = None

    def __call__(self, state: S, message: Any, **context: Any) -> S:
        last = self._last
        if last is not None and last[0] is state and last[1] is message and last[2] == context:
            return last[3]
        after = self._evolve(state, message, **context)
        self._last = state, message, context, after
        return after
