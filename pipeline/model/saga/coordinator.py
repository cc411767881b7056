"""Two-phase commit as a saga: what a coordinator has noted, moved on by the table of two_phase.COORDINATOR.

What it has decided is its event before anybody is told, as all that a saga sends follows from its state.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, NamedTuple, TypeVar

from pipeline.errors import TopologyError
from pipeline.model.aggregate import Rejected
from pipeline.model.context import EventContext, asks_context
from pipeline.model.saga.saga import Ask, Intervention, Owed, Replied, Saga, Summary, TimeUp, timer
from pipeline.model.saga.steps import STUCK_AFTER, TIMEOUT, Retry, To
from pipeline.model.saga.two_phase import (
    ABORTED,
    COMMITTED,
    COORDINATOR,
    IDLE,
    VOTING,
    WAITING,
    Coordination,
    Do,
    Event,
    Guard,
    rows,
    state_diagram,
)

FORCED = {"commit": Event.FORCE_COMMIT, "abort": Event.FORCE_ABORT}
ACTIONS = tuple(FORCED)
S = TypeVar("S")

ONCE = Retry()


class Work(NamedTuple):
    """What one participant does in a transaction, as the three commands to it.

    `abort_again`: the abort of an attempt after which there will be another; default: the same.
    """

    aggregate: str
    key: str
    prepare: Any
    commit: Any
    abort: Any
    abort_again: Any = None


@dataclass(frozen=True, slots=True)
class Tell:
    """An outcome not acknowledged yet."""

    attempt: int
    place: int  # of the participant, or of who waits
    outcome: str  # commit, abort, again: abort, and there will be another attempt; or settled, to who waits for that
    times: int  # told so far


@dataclass(frozen=True, slots=True)
class Transaction:
    """The coordinator's notes. A state of `two_phase_saga` has them as its field `transaction`."""

    state: str = IDLE
    attempt: int = 0
    missing: tuple[int, ...] = ()  # places of the participants that have not voted
    telling: tuple[Tell, ...] = ()
    told: int = 0  # how often all in `telling` have been told again
    reason: str = ""  # why it was aborted, or why an attempt was
    trouble: str = ""  # why an outcome was not accepted


def two_phase_saga(
    name: str,
    *,
    state: S,
    begin: object,
    begun: Callable[..., Any],
    asks: Mapping[str, object],
    works: Callable[[Any, int], Sequence[Work]],
    settled: Callable[[Any], Sequence[To]] = lambda state: (),
    vote_s: float = 30.0,
    tell_again_s: float | None = None,
    retry: Retry = ONCE,
    table: Coordination = COORDINATOR,
) -> Saga[S]:
    """A saga whose participants do all of their work, or none of it.

    `state`: the initial state, a frozen dataclass with a field `transaction: Transaction = Transaction()`.
    `begin`: the class of the message that begins it, `begun(message)` the state then. With a parameter `context`
    `begun` is given an EventContext, such as for the saga's key.
    `works(state, attempt)`: who takes part, and with what; always as many, and each attempt with ids of its own, as in
    `order/1`, `order/2`.
    `settled(state)`: what to send once it is committed or aborted for good, until it is accepted. Where an outcome is
    told again, by time or by hand, so is this, under another id: it has to do no more the second time.
    `vote_s`: by when all must have voted. `tell_again_s`: after how long without an acknowledgement an outcome is told
    again; None: by hand only, as commands in Kafka do not get lost: who is away will find it when it is back.
    `retry`: when an attempt that came to nothing is made again, such as for `locked`. Raises TopologyError.
    """
    if vote_s <= 0 or (tell_again_s is not None and tell_again_s <= 0):
        raise TopologyError(f"two-phase commit {name!r}: vote_s and tell_again_s are seconds above 0")
    in_context = asks_context(begun, f"saga {name!r}: its begun", ["the message"], EventContext)
    c = _Coordinator(begin, begun, works, settled, vote_s, tell_again_s, retry, table)
    return Saga(
        name,
        begin,
        asks,
        state,
        c.evolve_in_context if in_context else c.evolve,
        c.plan,
        c.summary,
        c.refuse,
        actions=ACTIONS,
        turn=c.turn,
        diagram=state_diagram(table),
    )


@dataclass(frozen=True, slots=True)
class _Coordinator:
    begin: Any
    begun: Callable[..., Any]
    works: Callable[[Any, int], Sequence[Work]]
    settled: Callable[[Any], Sequence[To]]
    vote_s: float
    tell_again_s: float | None
    retry: Retry
    table: Coordination

    # --- evolve: from a message to an event of the table, and from its row to the next state --------------------------

    def evolve(self, state: Any, message: Any) -> Any:
        t: Transaction = state.transaction
        if isinstance(message, self.begin):
            if t.state != IDLE:
                return state
            state = self.begun(message)
            return self._go(state, Transaction(attempt=1), Event.BEGIN, Tell(1, 0, "", 0), "")
        match message:
            case Replied(step, _, accepted, reason):
                event, tell = self._of_reply(t, step, accepted)
                return self._go(state, t, event, tell, reason)
            case TimeUp(timer):
                return self._go(state, t, self._of_timer(t, timer), Tell(t.attempt, 0, "", 0), TIMEOUT)
            case Intervention(action, by):
                return self._go(state, t, FORCED.get(action), Tell(t.attempt, 0, "", 0), f"{action} forced by {by}")
        return state

    def evolve_in_context(self, state: Any, message: Any, context: EventContext) -> Any:
        """Return what `evolve` does, for a `begun` that asks for its context."""
        return replace(self, begun=partial(self.begun, context=context)).evolve(state, message)

    def _of_reply(self, t: Transaction, step: str, accepted: bool) -> tuple[Event | None, Tell]:
        """Which event of the table a reply is, and which participant's."""
        kind, _, numbers = step.partition("-")
        attempt, _, place = numbers.partition(".")
        if not (attempt.isdecimal() and place.isdecimal()):
            return None, Tell(0, 0, "", 0)
        tell = Tell(int(attempt), int(place), kind, 0)
        current = tell.attempt == t.attempt
        if kind == "prepare":
            if t.state == VOTING and current:
                return ((Event.YES if accepted else Event.NO) if tell.place in t.missing else None), tell
            aborted = tell.attempt < t.attempt or (current and t.state in (WAITING, ABORTED))
            return (Event.LATE_YES if accepted and aborted else None), tell
        if not any(_same(tell, other) and tell.outcome == other.outcome for other in t.telling):
            return None, tell
        return (Event.ACKNOWLEDGED if accepted else Event.REFUSED), tell

    def _of_timer(self, t: Transaction, timer: str) -> Event | None:
        if timer == f"outcome/{t.told}" and t.telling:
            return Event.UNACKNOWLEDGED
        if timer == (f"vote/{t.attempt}" if t.state == VOTING else f"backoff/{t.attempt}"):
            return Event.TIME_OUT
        return None

    def _go(self, state: Any, t: Transaction, event: Event | None, who: Tell, reason: str) -> Any:
        for row in rows(self.table, t.state, event):
            if row.guard is None or self._holds(row.guard, state, t, who, reason):
                after = replace(t, state=row.to)
                for does in row.does:
                    after = self._do(does, row.to, state, after, who, reason)
                return replace(state, transaction=after)
        return state

    def _holds(self, guard: Guard, state: Any, t: Transaction, who: Tell, reason: str) -> bool:
        match guard:
            case Guard.NOBODY:
                return not self.works(state, t.attempt)
            case Guard.MISSING:
                return t.missing != (who.place,)
            case Guard.RETRIES:
                return t.attempt < self.retry.attempts and self.retry.is_worth(reason)
            case Guard.OTHERS:
                commits = [tell for tell in t.telling if tell.outcome == "commit"]
                return any(not _same(tell, who) for tell in commits)

    def _do(self, does: Do, to: str, state: Any, t: Transaction, who: Tell, reason: str) -> Transaction:
        match does:
            case Do.ASK:
                return replace(t, missing=tuple(range(len(self.works(state, t.attempt)))))
            case Do.NEXT:
                return replace(t, attempt=t.attempt + 1)
            case Do.COUNT:
                return replace(t, missing=tuple(place for place in t.missing if place != who.place))
            case Do.NOTE_WHY:
                return replace(t, reason=reason)
            case Do.NOTE_TROUBLE:
                return replace(t, trouble=reason)
            case Do.COMMIT:
                return self._tell_all(state, t, "commit")
            case Do.ABORT:
                return self._tell_all(replace(state, transaction=t), t, "again" if to == WAITING else "abort")
            case Do.ABORT_IT:
                outcome = "again" if t.state in (VOTING, WAITING) else "abort"
                if any(_same(who, tell) and tell.outcome != "settled" for tell in t.telling):
                    return t
                return replace(t, telling=(*t.telling, Tell(who.attempt, who.place, outcome, 1)))
            case Do.TELL_NO_MORE:
                left = tuple(tell for tell in t.telling if not (_same(tell, who) and tell.outcome == who.outcome))
                return replace(t, telling=left)
            case Do.SETTLE:
                places = range(len(self.settled(replace(state, transaction=t))))
                return replace(t, telling=(*t.telling, *(Tell(t.attempt, n, "settled", 1) for n in places)))
            case Do.TELL_AGAIN:
                again = tuple(replace(tell, times=tell.times + 1) for tell in t.telling)
                return replace(t, telling=again, told=t.told + 1)

    def _tell_all(self, state: Any, t: Transaction, outcome: str) -> Transaction:
        """All participants, instead of what they may have been told of the same attempt."""
        others = tuple(tell for tell in t.telling if tell.attempt != t.attempt)
        places = range(len(self.works(state, t.attempt)))
        return replace(t, missing=(), telling=(*others, *(Tell(t.attempt, n, outcome, 1) for n in places)))

    # --- plan ---------------------------------------------------------------------------------------------------------

    def plan(self, state: Any) -> list[Owed]:
        t: Transaction = state.transaction
        attempts = {tell.attempt for tell in t.telling if tell.outcome != "settled"}
        works = {attempt: self.works(state, attempt) for attempt in attempts | {t.attempt}}
        owed: list[Owed] = []
        if t.state == VOTING:
            owed += [Ask(f"prepare-{t.attempt}.{n}", *works[t.attempt][n][:3]) for n in t.missing]
            owed.append(timer(f"vote/{t.attempt}", self.vote_s))
        if t.state == WAITING:
            owed.append(timer(f"backoff/{t.attempt}", self.retry.after_s(t.attempt)))
        for tell in t.telling:
            to = self.settled(state)[tell.place] if tell.outcome == "settled" else _told(tell, works)
            owed.append(Ask(_step(tell), *to, tell.times))
        if t.telling and self.tell_again_s is not None:
            owed.append(timer(f"outcome/{t.told}", self.tell_again_s))
        return owed

    def turn(self, state: Any) -> object:
        t: Transaction = state.transaction
        # Acknowledgements only shorten `telling`; what is added to it comes last. Timers go with the last of them.
        return t.state, t.attempt, t.told, t.telling[-1:]

    # --- a person's view and hand -------------------------------------------------------------------------------------

    def summary(self, state: Any) -> Summary:
        t: Transaction = state.transaction
        waits_for = [f"prepare-{t.attempt}.{n}" for n in t.missing] + [_step(tell) for tell in t.telling]
        names = {IDLE: "", COMMITTED: "done", ABORTED: "undone"}
        if t.telling:
            names = {ABORTED: "compensating"}
        status = "stuck" if t.told >= STUCK_AFTER and t.telling else names.get(t.state, "running")
        works = self.works(state, t.attempt) if status in ("running", "stuck", "compensating") else ()
        blocks = tuple(f"{work.aggregate}/{work.key}" for work in works)
        return Summary(status, t.state, t.attempt, tuple(waits_for), t.reason or t.trouble, blocks)

    def refuse(self, state: Any, asked: Intervention) -> Rejected | None:
        """Abort and commit are forced: only if that does not contradict what has been decided."""
        t: Transaction = state.transaction
        if t.state == IDLE:
            return Rejected("unknown_transaction")
        found = rows(self.table, t.state, FORCED.get(asked.action))
        if not found:
            return Rejected("unknown_action", {"actions": ", ".join(ACTIONS)})
        reason = found[0].refuses
        return None if reason is None else Rejected(reason, {"state": t.state, "missing": str(len(t.missing))})


def _same(one: Tell, other: Tell) -> bool:
    """Whether both are of the same participant in the same attempt."""
    return (one.attempt, one.place) == (other.attempt, other.place)


def _told(tell: Tell, works: Mapping[int, Sequence[Work]]) -> To:
    work = works[tell.attempt][tell.place]
    again = work.abort if work.abort_again is None else work.abort_again
    return To(work.aggregate, work.key, {"commit": work.commit, "abort": work.abort, "again": again}[tell.outcome])


def _step(tell: Tell) -> str:
    return f"{tell.outcome}-{tell.attempt}.{tell.place}"
