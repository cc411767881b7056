"""The aggregate: a decider. Two pure functions and a first state; the engine does the rest."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

from pipeline.errors import TopologyError
from pipeline.model.changes.migrations import Migrations, check_migrations
from pipeline.model.changes.upcasts import Upcasts, check_upcasts
from pipeline.model.context import CommandContext, EventContext, Given, asks_context
from pipeline.model.projection.projection import Replica
from pipeline.model.projection.versions import table_of
from pipeline.model.records.topics import TopicKind
from pipeline.model.source import Source
from pipeline.model.unique import Unique

C = TypeVar("C")
E = TypeVar("E")
S = TypeVar("S")

WINDOW_S_MAX = 6 * 24 * 3600.0  # the changelog of what is remembered is kept for a week


@dataclass(frozen=True, slots=True)
class Rejected:
    """The refusal of a command: a value, not an exception. `reason` is a word for machines."""

    reason: str
    details: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Idempotency:
    """How long the ids of commands are kept, each with its reply. An id is unique per aggregate id.

    A repeated id gets the first reply again and has no second effect. `window_s`: a command that is stored later than
    so long after it was issued is rejected as expired, as its id may have been forgotten. `records`: of each partition
    of the command topic, at most so many ids are remembered; a command issued before the first of them is expired, too.
    """

    window_s: float = 24 * 3600.0
    records: int = 1_000_000

    def __post_init__(self) -> None:
        if not 0 < self.window_s <= WINDOW_S_MAX:
            raise TopologyError(f"window_s={self.window_s} is not between 0 and {WINDOW_S_MAX:.0f} seconds (six days)")
        if self.records < 1:
            raise TopologyError(f"records={self.records} remembers nothing; give at least 1, or no Idempotency")


def check_revision(name: str, revision: int) -> None:
    """Raise TopologyError if that is no revision of the states of `name`."""
    if type(revision) is not int or revision < 1:
        raise TopologyError(f"{name!r} has revision={revision!r}; revisions are whole numbers, counted from 1")


@dataclass(frozen=True, slots=True)
class Aggregate(Generic[C, E, S]):
    """A kind of thing that a service owns. Each has an id, and changes by its own commands, in order.

    `name`: also the name of its table and the owner part of its topics.
    `command`, `event`: the classes of its commands and events, a class or a union of classes.
    `initial`: state of an id that has no event yet.
    `decide(command, state, *copies)`: the events that follow, with Deadline, Cancel and Ask among them; or Rejected.
    No events: the command is accepted and changes nothing.
    `evolve(state, event)`: the next state. It must not fail: the event has happened.
    `idempotency`: how long repeated commands are recognised; None decides each as if it were new.
    `unique`: values of its state that no two of its kind may have.
    `history`: whether the owner of a partition keeps its events by key, for `pipeline history` and /v1/history.
    `asks`: classes of the commands that it may send, by the name of the aggregate that takes them, its own service's or
    another's. `decide` returns them as Ask, among its events; the answer comes back to it, as a Replied.
    `reads`: a replica of its service, or several, that it decides with. `decide` gets a Copy of each, in their order;
    as of when it has read them is recorded in its events and in the reply.
    `deadlines`: whether it takes deadlines and scheduled commands, which are kept in a table and a topic of their own.
    `revision`: one more if states have come to mean something else: their class, or `evolve`. They are folded anew from
    the event log, into the topic `<name>_v<revision>.state`, before a worker of this revision decides anything.
    `migrate`: by the class of an old state, of which records are on the topic, the pure function that makes a state of
    today of it, or another old one. A state is migrated when it is read, and stored as one of today when it changes.
    `upcasts`: by the class of an old event, of which records are on the log, the pure function that makes an event of
    today of it, or a sequence of events: several, none, or old ones that have upcasters themselves. `evolve`, and all
    that follows the events, never see an old one.

    Both functions are pure. Each is given its context, too, if it has a parameter `context`: `decide` a CommandContext,
    `evolve` an EventContext, which have key, version, time and ids.
    """

    name: str
    command: object
    event: object
    initial: S
    decide: Given[C, S, Sequence[object] | Rejected]  # events, and effects among them
    evolve: Given[S, E, S]
    idempotency: Idempotency | None = Idempotency()
    history: bool = True
    deadlines: bool = True
    asks: Mapping[str, object] = field(default_factory=dict)
    unique: Sequence[Unique] = ()
    reads: Replica[Any, Any] | Sequence[Replica[Any, Any]] = ()
    revision: int = 1
    migrate: Migrations = field(default_factory=dict)
    upcasts: Upcasts = field(default_factory=dict)
    decide_in_context: bool = field(init=False, repr=False, compare=False)
    evolve_in_context: bool = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        where, copies = f"aggregate {self.name!r}: its", [f"a copy of {replica.name!r}" for replica in self.replicas]
        decides = asks_context(self.decide, f"{where} decide", ["the command", "the state", *copies], CommandContext)
        evolves = asks_context(self.evolve, f"{where} evolve", ["the state", "the event"], EventContext)
        object.__setattr__(self, "decide_in_context", decides)
        object.__setattr__(self, "evolve_in_context", evolves)
        check_revision(self.name, self.revision)
        check_migrations(f"aggregate {self.name!r}", type(self.initial), self.migrate)
        check_upcasts(f"aggregate {self.name!r}", self.event, self.upcasts)
        if self.reads and self.unique:
            raise TopologyError(
                f"the aggregate {self.name!r} has unique values and reads copies: what waits for a value would be "
                "decided twice, as of two positions; leave one of them to another aggregate"
            )

    @property
    def replicas(self) -> tuple[Replica[Any, Any], ...]:
        """Those that it reads, in the order in which `decide` gets them."""
        return (self.reads,) if isinstance(self.reads, Replica) else tuple(self.reads)

    @property
    def kept_as(self) -> str:
        """What the topic of its states is named by."""
        return table_of(self.name, self.revision)

    @property
    def states(self) -> str:
        """The topic of its states."""
        return TopicKind.STATE.topic(self.kept_as)

    @property
    def events(self) -> Source:
        """The event log, for projections and reactions of the same service."""
        return Source(TopicKind.EVENT.topic(self.name), self.event, self.upcasts)
