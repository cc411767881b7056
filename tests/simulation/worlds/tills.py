"""A topology made for histories: small, and each of the engine's ways is in it.

Service `tills`: an aggregate, and a projection with the same key whose rows are deleted. Service `books`: a reaction to
the tills' events, its aggregate, a projection keyed otherwise, and a replica.
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from pipeline import (
    Aggregate,
    Cancel,
    Database,
    Deadline,
    Idempotency,
    Projection,
    Reaction,
    Rejected,
    Replica,
    Send,
    Service,
    Source,
)
from pipeline.adapters.memory.kafka import RECORD_BYTES_MAX
from pipeline.topology import Topology

SCHEMAS = Path(__file__).parent / "schemas"


@dataclass(frozen=True, slots=True)
class Take:
    amount: int


@dataclass(frozen=True, slots=True)
class Close:
    pass


@dataclass(frozen=True, slots=True)
class Scribble:
    """Gives an event that is too large for the broker, or even for the client."""

    size: int


@dataclass(frozen=True, slots=True)
class Taken:
    amount: int


@dataclass(frozen=True, slots=True)
class Closed:
    pass


@dataclass(frozen=True, slots=True)
class Scribbled:
    text: str


@dataclass(frozen=True, slots=True)
class Till:
    total: int = 0
    closed: int = 0


class Jammed(Exception):
    """What broken code raises."""


class Code:
    """The state of this very code, which a history breaks and mends. `slow`: how often it still times out."""

    mended = True
    slow = 0

    @classmethod
    def mend(cls, mended: bool) -> None:
        cls.mended, cls.slow = mended, 0 if mended else SLOW

    @classmethod
    def check(cls, amount: int, unlucky: int) -> None:
        """Raises on one amount while it is broken, and is slow for a while on another."""
        if not cls.mended and amount == unlucky:
            raise Jammed(f"{amount} does not fit")
        if cls.slow and amount == SLOW_AMOUNT:
            cls.slow -= 1
            raise TimeoutError("too slow")


SLOW, SLOW_AMOUNT = 7, 8


# Set for soon and for later, set again, cancelled by Close; what they send sets none.
DEADLINES: dict[int, list[Any]] = {
    6: [Deadline("close", Close(), after=2.0)],
    7: [Deadline("close", Close(), after=0.3), Deadline("more", Take(1), after=0)],
    8: [Deadline("more", Take(2), after=6.0)],
    9: [Deadline("close", Close(), after=60.0), Cancel("more")],
}


def decide_till(command: Take | Close | Scribble, till: Till) -> list[Any] | Rejected:
    if isinstance(command, Take):
        Code.check(command.amount, 6)
    match command:
        case Take(amount):
            events = [Taken(amount), Taken(1)] if amount % 5 == 0 else [Taken(amount)]
            return [*events, *DEADLINES.get(amount, [])]
        case Close():
            return [Closed(), Cancel("close")] if till.total else Rejected("empty")
        case Scribble(size):
            return [Scribbled("x" * size)]


def evolve_till(till: Till, event: Taken | Closed | Scribbled) -> Till:
    match event:
        case Taken(amount):
            return Till(till.total + amount, till.closed)
        case Closed():
            return Till(0, till.closed + 1)
        case _:
            return till


@dataclass(frozen=True, slots=True)
class OpenTill:
    total: int = 0
    taken: int = 0


def evolve_open(row: OpenTill, event: Taken | Closed | Scribbled) -> OpenTill | None:
    if isinstance(event, Taken):
        Code.check(event.amount, 11)
    match event:
        case Taken(amount):
            return OpenTill(row.total + amount, row.taken + 1)
        case Closed():
            return None
        case _:
            return row


tills = Aggregate(
    "tills",
    Take | Close | Scribble,
    Taken | Closed | Scribbled,
    Till(),
    decide_till,
    evolve_till,
    Idempotency(window_s=5.0, records=12),
)
open_tills = Projection("open_tills", [tills.events], OpenTill(), evolve_open)
TILLS = Service("tills", aggregates=[tills], projections=[open_tills], transient=(TimeoutError,))

# --- books -----------------------------------------------------------------------------------------------------------

EVENTS = Source("tills.event", Taken | Closed)


@dataclass(frozen=True, slots=True)
class Enter:
    till: str
    amount: int


@dataclass(frozen=True, slots=True)
class Entered:
    till: str
    amount: int


@dataclass(frozen=True, slots=True)
class Book:
    total: int = 0
    entries: int = 0


books = Aggregate(
    "books",
    Enter,
    Entered,
    Book(),
    lambda command, book: [Entered(command.till, command.amount)],
    lambda book, event: Book(book.total + event.amount, book.entries + 1),
    history=False,
)


def enter(key: str, event: Taken | Closed) -> Iterable[Send]:
    return (
        [Send(f"book-{'ab'[ord(key[-1]) % 2 ^ len(key) % 2]}", Enter(key, event.amount))]
        if isinstance(event, Taken)
        else []
    )


@dataclass(frozen=True, slots=True)
class Part:
    amount: int


@dataclass(frozen=True, slots=True)
class Sum:
    amount: int = 0


def route(key: str, event: Taken | Closed) -> Iterator[tuple[str, Part]]:
    if isinstance(event, Taken):
        Code.check(event.amount, 7)  # after the reaction to the same event
        yield "even" if event.amount % 2 == 0 else "odd", Part(event.amount)


@dataclass(frozen=True, slots=True)
class Seen:
    taken: int = 0


def evolve_sum(row: Sum, part: Part) -> Sum | None:
    """A sum that is a multiple of seven is deleted."""
    Code.check(part.amount, 9)
    amount = row.amount + part.amount
    return Sum(amount) if amount % 7 else None


BOOKS = Service(
    "books",
    aggregates=[books],
    reactions=[Reaction("entries", EVENTS, enter)],
    projections=[Projection("sums", [EVENTS], Sum(), evolve_sum, by_key=Part, route=route)],
    replicas=[
        Replica("seen", EVENTS, Seen(), lambda row, event: Seen(row.taken + 1) if isinstance(event, Taken) else None)
    ],
    transient=(TimeoutError,),
)
TOPOLOGY = Topology("tills", {"tills": TILLS, "books": BOOKS}, SCHEMAS)


def commands(rng: random.Random) -> Iterator[tuple[str, str, Any]]:
    """What clients ask in one history."""
    keys = [f"till-{n}" for n in range(rng.choice((1, 2, 4)))]
    for _ in range(rng.randrange(3, 14)):
        chance = rng.random()
        command: Any = Take(rng.randrange(1, 12))
        if chance < 0.2:
            command = Close()
        elif chance < 0.22:
            command = Scribble(RECORD_BYTES_MAX + 1)
        elif chance < 0.23:
            command = b"\0 not a command"
        yield "tills", rng.choice(keys), command


def in_a_database(service: Service) -> Service:
    """The service with its projections in SQL."""
    return replace(service, projections=[replace(p, database=Database.SQLITE) for p in service.projections])


IN_DATABASES = Topology("tills", {name: in_a_database(s) for name, s in TOPOLOGY.services.items()}, SCHEMAS)
