"""Two-phase commit as a table of transitions, for both of its roles; who asks, who remembers what, and when it ends.

The tables are the protocol: what runs, what the tests drive and what the documentation draws is taken from them. The
coordinator's event that brings it from `voting` to `committing` is the commit point. Aborts are presumed: who asks the
coordinator about a transaction that is not committed is told to abort.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum
from typing import Generic, NamedTuple, TypeVar

E = TypeVar("E", bound=StrEnum)
G = TypeVar("G", bound=StrEnum)
A = TypeVar("A", bound=StrEnum)


class Transition(NamedTuple, Generic[E, G, A]):
    """One row: in `state`, on `event`, if `guard` holds, comes `to`, and `does` happens in order, or it is refused."""

    state: str
    event: E
    guard: G | None
    to: str
    does: tuple[A, ...] = ()
    refuses: str | None = None  # the reason of the Rejected

    @property
    def effect(self) -> str:
        """What it does, in words."""
        return ", ".join(self.does) if self.refuses is None else f"refuse: {self.refuses}"


# --- the coordinator -------------------------------------------------------------------------------------------------
# A "late yes" votes for an attempt that has been aborted. Whoever has not acknowledged an outcome is told again.

IDLE, VOTING, WAITING, COMMITTING, COMMITTED, ABORTED = (
    "idle",
    "voting",
    "waiting",
    "committing",
    "committed",
    "aborted",
)


class Event(StrEnum):
    """What the coordinator hears."""

    BEGIN = "begin"
    YES = "yes"
    NO = "no"
    TIME_OUT = "time-out"
    FORCE_COMMIT = "force commit"
    FORCE_ABORT = "force abort"
    ACKNOWLEDGED = "acknowledged"
    LATE_YES = "late yes"
    REFUSED = "outcome refused"
    UNACKNOWLEDGED = "not acknowledged in time"


class Guard(StrEnum):
    """A condition of the coordinator's."""

    NOBODY = "nobody takes part"
    MISSING = "votes are missing"
    RETRIES = "worth another attempt"
    OTHERS = "others have not"


class Do(StrEnum):
    """An action of the coordinator's."""

    ASK = "ask all to prepare"
    NEXT = "begin the next attempt"
    COUNT = "count it"
    NOTE_WHY = "note why"
    NOTE_TROUBLE = "note trouble"
    COMMIT = "tell all to commit"
    ABORT = "tell all to abort"
    ABORT_IT = "tell it to abort"
    TELL_NO_MORE = "tell it no more"
    SETTLE = "tell who waits"
    TELL_AGAIN = "tell again"


Coordination = Sequence[Transition[Event, Guard, Do]]
COORDINATOR: Coordination = (
    Transition(IDLE, Event.BEGIN, Guard.NOBODY, COMMITTED, (Do.SETTLE,)),
    Transition(IDLE, Event.BEGIN, None, VOTING, (Do.ASK,)),
    Transition(VOTING, Event.YES, Guard.MISSING, VOTING, (Do.COUNT,)),
    Transition(VOTING, Event.YES, None, COMMITTING, (Do.COUNT, Do.COMMIT)),
    Transition(VOTING, Event.NO, Guard.RETRIES, WAITING, (Do.NOTE_WHY, Do.ABORT)),
    Transition(VOTING, Event.NO, None, ABORTED, (Do.NOTE_WHY, Do.ABORT, Do.SETTLE)),
    Transition(VOTING, Event.TIME_OUT, Guard.RETRIES, WAITING, (Do.NOTE_WHY, Do.ABORT)),
    Transition(VOTING, Event.TIME_OUT, None, ABORTED, (Do.NOTE_WHY, Do.ABORT, Do.SETTLE)),
    Transition(VOTING, Event.FORCE_ABORT, None, ABORTED, (Do.NOTE_WHY, Do.ABORT, Do.SETTLE)),
    Transition(VOTING, Event.FORCE_COMMIT, None, VOTING, refuses="votes_are_missing"),
    Transition(WAITING, Event.TIME_OUT, None, VOTING, (Do.NEXT, Do.ASK)),
    Transition(WAITING, Event.FORCE_ABORT, None, ABORTED, (Do.NOTE_WHY, Do.ABORT, Do.SETTLE)),
    Transition(WAITING, Event.FORCE_COMMIT, None, WAITING, refuses="votes_are_missing"),
    Transition(COMMITTING, Event.ACKNOWLEDGED, Guard.OTHERS, COMMITTING, (Do.TELL_NO_MORE,)),
    Transition(COMMITTING, Event.ACKNOWLEDGED, None, COMMITTED, (Do.TELL_NO_MORE, Do.SETTLE)),
    Transition(COMMITTING, Event.FORCE_COMMIT, None, COMMITTING, (Do.TELL_AGAIN,)),
    Transition(COMMITTING, Event.FORCE_ABORT, None, COMMITTING, refuses="already_decided"),
    Transition(COMMITTED, Event.FORCE_COMMIT, None, COMMITTED, refuses="already_settled"),
    Transition(COMMITTED, Event.FORCE_ABORT, None, COMMITTED, refuses="already_decided"),
    Transition(ABORTED, Event.FORCE_COMMIT, None, ABORTED, refuses="already_decided"),
    Transition(ABORTED, Event.FORCE_ABORT, None, ABORTED, (Do.TELL_AGAIN,)),
    *(
        row
        for state in (VOTING, WAITING, COMMITTING, COMMITTED, ABORTED)
        for row in (
            *([Transition(state, Event.ACKNOWLEDGED, None, state, (Do.TELL_NO_MORE,))] if state != COMMITTING else []),
            Transition(state, Event.LATE_YES, None, state, (Do.ABORT_IT,)),
            Transition(state, Event.REFUSED, None, state, (Do.NOTE_TROUBLE,)),
            Transition(state, Event.UNACKNOWLEDGED, None, state, (Do.TELL_AGAIN,)),
        )
    ),
)

# --- the participant -------------------------------------------------------------------------------------------------
# `unknown` is also the state of a transaction that a participant has voted against: it does nothing for it.

UNKNOWN, PREPARED = "unknown", "prepared"


class Asked(StrEnum):
    """What a participant is asked."""

    PREPARE = "prepare"
    COMMIT = "commit"
    ABORT = "abort"


class Able(StrEnum):
    """The participant's condition: what its aggregate decides."""

    CAN = "it can"


class Act(StrEnum):
    """An action of a participant's."""

    HOLD = "hold"
    VOTE_YES = "vote yes"
    VOTE_NO = "vote no"
    MAKE_IT_SO = "make it so"
    LET_GO = "let go"
    REMEMBER = "remember"
    ACKNOWLEDGE = "acknowledge"


Participation = Sequence[Transition[Asked, Able, Act]]
PARTICIPANT: Participation = (
    Transition(UNKNOWN, Asked.PREPARE, Able.CAN, PREPARED, (Act.HOLD, Act.VOTE_YES)),
    Transition(UNKNOWN, Asked.PREPARE, None, UNKNOWN, (Act.VOTE_NO,)),
    Transition(UNKNOWN, Asked.COMMIT, None, UNKNOWN, refuses="not_prepared"),
    Transition(UNKNOWN, Asked.ABORT, None, ABORTED, (Act.REMEMBER, Act.ACKNOWLEDGE)),
    Transition(PREPARED, Asked.PREPARE, None, PREPARED, (Act.VOTE_YES,)),
    Transition(PREPARED, Asked.COMMIT, None, COMMITTED, (Act.MAKE_IT_SO, Act.REMEMBER, Act.ACKNOWLEDGE)),
    Transition(PREPARED, Asked.ABORT, None, ABORTED, (Act.LET_GO, Act.REMEMBER, Act.ACKNOWLEDGE)),
    Transition(COMMITTED, Asked.PREPARE, None, COMMITTED, (Act.VOTE_YES,)),
    Transition(COMMITTED, Asked.COMMIT, None, COMMITTED, (Act.ACKNOWLEDGE,)),
    Transition(COMMITTED, Asked.ABORT, None, COMMITTED, refuses="already_committed"),
    Transition(ABORTED, Asked.PREPARE, None, ABORTED, (Act.VOTE_NO,)),
    Transition(ABORTED, Asked.ABORT, None, ABORTED, (Act.ACKNOWLEDGE,)),
    Transition(ABORTED, Asked.COMMIT, None, ABORTED, refuses="already_aborted"),
)

Table = Sequence[Transition[E, G, A]]


def rows(table: Table[E, G, A], state: str, event: E | None) -> tuple[Transition[E, G, A], ...]:
    """What may follow on `event` in `state`, to be tried in this order; nothing if the event changes nothing."""
    return tuple(row for row in table if row.state == state and row.event == event)


def state_diagram(table: Table[E, G, A]) -> str:
    """The rows of a table that lead on to another state, as a Mermaid state diagram."""
    lines = ["stateDiagram-v2", f"    [*] --> {table[0].state}"]
    for row in table:
        if row.state != row.to:
            what = row.event + (f" [{row.guard}]" if row.guard else "")
            lines.append(f"    {row.state} --> {row.to}: {what}{' / ' if row.does else ''}{', '.join(row.does)}")
    return "\n".join(lines) + "\n"


def state_table(table: Table[E, G, A]) -> str:
    """A table in Markdown."""
    lines = ["| in | on | where | comes | and does |", "|---|---|---|---|---|"]
    lines += [f"| {r.state} | {r.event} | {r.guard or ''} | {r.to} | {r.effect} |" for r in table]
    return "\n".join(lines) + "\n"
