"""The participant: an aggregate that holds work until it is told to make it so, or to let it go.

It answers by the table of two_phase.PARTICIPANT, whichever coordinates: a saga, whose steps hold, confirm and release,
or a two-phase commit. What it must not forget stands in its own state, as a Ledger that its `evolve` keeps.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeVar

from pipeline.model.aggregate import Aggregate, Rejected
from pipeline.model.saga.two_phase import (
    ABORTED,
    COMMITTED,
    PARTICIPANT,
    PREPARED,
    UNKNOWN,
    Act,
    Asked,
    Participation,
    rows,
)

CHANGES = {Act.HOLD, Act.MAKE_IT_SO, Act.LET_GO, Act.REMEMBER}
D = TypeVar("D", bound=Callable[..., Sequence[Any] | Rejected])
REMEMBERED = 32  # transactions that have ended, of each aggregate id


@dataclass(frozen=True, slots=True)
class Hold:
    """What is held for a transaction: an amount that others cannot have meanwhile, or 0 if it is all or nothing."""

    transaction: str
    amount: int


@dataclass(frozen=True, slots=True)
class Ended:
    """How a transaction ended."""

    transaction: str
    committed: bool


@dataclass(frozen=True, slots=True)
class Claim:
    """The turn of a transaction that was aborted and will be tried again: before those that have begun after it."""

    name: str  # of the transaction, without the number of the attempt
    since: int  # when it has begun


@dataclass(frozen=True, slots=True)
class Ledger:
    """The transactions that an aggregate id takes part in. A transaction is called `<name>` or `<name>/<attempt>`.

    `ended` are the last that ended, so that what is repeated late finds them; the coordinator remembers the rest.
    """

    holds: tuple[Hold, ...] = ()
    ended: tuple[Ended, ...] = ()
    claims: tuple[Claim, ...] = ()

    @property
    def held(self) -> int:
        """The sum of all that is held."""
        return sum(hold.amount for hold in self.holds)

    def amount(self, transaction: str) -> int:
        """What is held for that transaction; 0 if nothing is."""
        return next((hold.amount for hold in self.holds if hold.transaction == transaction), 0)

    def state_of(self, transaction: str) -> str:
        """The state of a transaction, as the table calls it."""
        if any(hold.transaction == transaction for hold in self.holds):
            return PREPARED
        for ended in self.ended:
            if ended.transaction == transaction:
                return COMMITTED if ended.committed else ABORTED
        return UNKNOWN

    def hold(self, transaction: str, amount: int = 0) -> Ledger:
        """The ledger once that is held; a claim of the transaction is settled by it."""
        return replace(self, holds=(*self.holds, Hold(transaction, amount)), claims=self._claims_without(transaction))

    def end(self, transaction: str, *, committed: bool, again_since: int = 0) -> Ledger:
        """The ledger once a transaction has ended. `again_since`: it will be tried again, and has begun then."""
        holds = tuple(hold for hold in self.holds if hold.transaction != transaction)
        ended = (*self.ended, Ended(transaction, committed))[-REMEMBERED:]
        claims = self._claims_without(transaction)
        if again_since and not self._knows_later(transaction):
            claims = (*claims, Claim(name_of(transaction), again_since))
        return Ledger(holds, ended, claims)

    def is_before(self, transaction: str, since: int) -> bool:
        """Whether no other transaction has a claim from before that one began."""
        name = name_of(transaction)
        return all(claim.name == name or (claim.since, claim.name) > (since, name) for claim in self.claims)

    def _claims_without(self, transaction: str) -> tuple[Claim, ...]:
        return tuple(claim for claim in self.claims if claim.name != name_of(transaction))

    def _knows_later(self, transaction: str) -> bool:
        """Whether a later attempt has been here already, so that this news comes late."""
        known = [*(hold.transaction for hold in self.holds), *(ended.transaction for ended in self.ended)]
        name, number = name_of(transaction), attempt_of(transaction)
        return any(name_of(other) == name and attempt_of(other) > number for other in known)


def name_of(transaction: str) -> str:
    """A transaction's name, without the attempt's number."""
    name, _, attempt = transaction.rpartition("/")
    return name if name and attempt.isdecimal() else transaction


def attempt_of(transaction: str) -> int:
    """The number of the attempt; 0 if there is none."""
    name, _, attempt = transaction.rpartition("/")
    return int(attempt) if name and attempt.isdecimal() else 0


@dataclass(frozen=True, slots=True)
class Participant:
    """Which commands of an aggregate are its part in a transaction. Each has a field `transaction`.

    `prepare`: to hold work; the aggregate decides on an event that holds it, or on a Rejected, which is its no.
    `commit`, `abort`: to make it so, and to let go; an event each. An abort comes for what was never held, too.
    `ledger(state)`: the Ledger in the aggregate's state; `evolve` keeps it, by `hold` and `end`.
    `exclusive`: one transaction at a time: others are rejected as `locked`, and an older one that will be tried again
    has the next turn. `prepare` has a field `since` then, and `abort` a field `again_since`. Otherwise holds are
    amounts that commute, and any number of them stand side by side.
    `without(state)`: the state to be shown to who reads with `pending=hide`; None: as it is once all that is held has
    been aborted, for which an `abort` needs to be told no more than the transaction.
    """

    prepare: type
    commit: type
    abort: type
    ledger: Callable[[Any], Ledger]
    exclusive: bool = False
    table: Participation = PARTICIPANT
    without: Callable[[Any], Any] | None = None

    def decide(
        self, command: Any, state: Any, inner: Callable[..., Sequence[Any] | Rejected], *copies: Any, **context: Any
    ) -> Any:
        """What the table says, or what the aggregate's own `inner` decides if the table leaves it to that.

        `copies`: of the replicas that the aggregate reads. `context`: the command's, if `inner` asks for it.
        """
        kinds = {self.prepare: Asked.PREPARE, self.commit: Asked.COMMIT, self.abort: Asked.ABORT}
        kind = kinds.get(type(command))
        if kind is None:
            return inner(command, state, *copies, **context)
        ledger = self.ledger(state)
        answer: Sequence[Any] | Rejected = []
        for row in rows(self.table, ledger.state_of(command.transaction), kind):
            if row.refuses is not None:
                return Rejected(row.refuses)
            if Act.VOTE_NO in row.does:
                return answer if isinstance(answer, Rejected) else Rejected("already_aborted")
            if CHANGES.isdisjoint(row.does):
                return []
            answer = self._locked(ledger, command) if kind is Asked.PREPARE else []
            answer = answer or inner(command, state, *copies, **context)
            if not isinstance(answer, Rejected):
                return answer
        return answer

    def _locked(self, ledger: Ledger, command: Any) -> Rejected | list[Any]:
        if not self.exclusive or (not ledger.holds and ledger.is_before(command.transaction, command.since)):
            return []
        return Rejected("locked", {"by": ledger.holds[0].transaction if ledger.holds else ledger.claims[0].name})

    def guards(self, inner: D) -> D:
        """A `decide` for the aggregate that obeys the protocol; to type checkers it is what `inner` is."""
        guarded: Any = Guarded(self, inner)
        return guarded  # type: ignore[no-any-return]


@dataclass(frozen=True)  # without slots, for what functools.wraps sets
class Guarded:
    """A `decide` that asks a participant first."""

    participant: Participant
    inner: Callable[..., Sequence[Any] | Rejected]

    def __post_init__(self) -> None:
        object.__setattr__(self, "__wrapped__", self.inner)  # so that `inner` may ask for its context

    def __call__(self, command: Any, state: Any, *copies: Any, **context: Any) -> Any:
        return self.participant.decide(command, state, self.inner, *copies, **context)


def participants(aggregate: Aggregate[Any, Any, Any]) -> Iterator[Participant]:
    """What an aggregate takes part in transactions with; nothing if its `decide` is not made by `guards`."""
    decide: object = aggregate.decide
    while isinstance(decide, Guarded):
        yield decide.participant
        decide = decide.inner


def holds(aggregate: Aggregate[Any, Any, Any], state: Any) -> list[Hold]:
    """All that is held in a state of the aggregate."""
    found = (hold for participant in participants(aggregate) for hold in participant.ledger(state).holds)
    return list(dict.fromkeys(found))  # two participants may share a ledger
