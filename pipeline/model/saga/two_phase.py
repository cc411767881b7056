"""Two-phase commit as a table of transitions, for both of its roles; who asks, who remembers what, and when it ends.

The tables are the protocol: what runs, what the tests drive and what the documentation draws is taken from them. The
coordinator's event that brings it from `voting` to `committing` is the commit point. Aborts are presumed: who asks the
coordinator about a transaction that is not committed is told to abort.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple


class Transition(NamedTuple):
    """One row: in `state`, on `event`, where `guard` holds (empty: always), comes `to`, and `does` happens in order."""

    state: str
    event: str
    guard: str
    to: str
    does: tuple[str, ...] = ()


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

COORDINATOR: tuple[Transition, ...] = (
    Transition(IDLE, "begin", "nobody takes part", COMMITTED, ("tell who waits",)),
    Transition(IDLE, "begin", "", VOTING, ("ask all to prepare",)),
    Transition(VOTING, "yes", "votes are missing", VOTING, ("count it",)),
    Transition(VOTING, "yes", "", COMMITTING, ("count it", "tell all to commit")),
    Transition(VOTING, "no", "worth another attempt", WAITING, ("note why", "tell all to abort")),
    Transition(VOTING, "no", "", ABORTED, ("note why", "tell all to abort", "tell who waits")),
    Transition(VOTING, "time-out", "worth another attempt", WAITING, ("note why", "tell all to abort")),
    Transition(VOTING, "time-out", "", ABORTED, ("note why", "tell all to abort", "tell who waits")),
    Transition(VOTING, "force abort", "", ABORTED, ("note why", "tell all to abort", "tell who waits")),
    Transition(VOTING, "force commit", "", VOTING, ("refuse: votes_are_missing",)),
    Transition(WAITING, "time-out", "", VOTING, ("begin the next attempt", "ask all to prepare")),
    Transition(WAITING, "force abort", "", ABORTED, ("note why", "tell all to abort", "tell who waits")),
    Transition(WAITING, "force commit", "", WAITING, ("refuse: votes_are_missing",)),
    Transition(COMMITTING, "acknowledged", "others have not", COMMITTING, ("tell it no more",)),
    Transition(COMMITTING, "acknowledged", "", COMMITTED, ("tell it no more", "tell who waits")),
    Transition(COMMITTING, "force commit", "", COMMITTING, ("tell again",)),
    Transition(COMMITTING, "force abort", "", COMMITTING, ("refuse: already_decided",)),
    Transition(COMMITTED, "force commit", "", COMMITTED, ("refuse: already_settled",)),
    Transition(COMMITTED, "force abort", "", COMMITTED, ("refuse: already_decided",)),
    Transition(ABORTED, "force commit", "", ABORTED, ("refuse: already_decided",)),
    Transition(ABORTED, "force abort", "", ABORTED, ("tell again",)),
    *(
        row
        for state in (VOTING, WAITING, COMMITTING, COMMITTED, ABORTED)
        for row in (
            *([Transition(state, "acknowledged", "", state, ("tell it no more",))] if state != COMMITTING else []),
            Transition(state, "late yes", "", state, ("tell it to abort",)),
            Transition(state, "outcome refused", "", state, ("note trouble",)),
            Transition(state, "not acknowledged in time", "", state, ("tell again",)),
        )
    ),
)

# --- the participant -------------------------------------------------------------------------------------------------
# `unknown` is also the state of a transaction that a participant has voted against: it does nothing for it.

UNKNOWN, PREPARED = "unknown", "prepared"

PARTICIPANT: tuple[Transition, ...] = (
    Transition(UNKNOWN, "prepare", "it can", PREPARED, ("hold", "vote yes")),
    Transition(UNKNOWN, "prepare", "", UNKNOWN, ("vote no",)),
    Transition(UNKNOWN, "commit", "", UNKNOWN, ("refuse: not_prepared",)),
    Transition(UNKNOWN, "abort", "", ABORTED, ("remember", "acknowledge")),
    Transition(PREPARED, "prepare", "", PREPARED, ("vote yes",)),
    Transition(PREPARED, "commit", "", COMMITTED, ("make it so", "remember", "acknowledge")),
    Transition(PREPARED, "abort", "", ABORTED, ("let go", "remember", "acknowledge")),
    Transition(COMMITTED, "prepare", "", COMMITTED, ("vote yes",)),
    Transition(COMMITTED, "commit", "", COMMITTED, ("acknowledge",)),
    Transition(COMMITTED, "abort", "", COMMITTED, ("refuse: already_committed",)),
    Transition(ABORTED, "prepare", "", ABORTED, ("vote no",)),
    Transition(ABORTED, "abort", "", ABORTED, ("acknowledge",)),
    Transition(ABORTED, "commit", "", ABORTED, ("refuse: already_aborted",)),
)

Table = Sequence[Transition]


def rows(table: Table, state: str, event: str) -> tuple[Transition, ...]:
    """What may follow on `event` in `state`, to be tried in this order; nothing if the event changes nothing."""
    return tuple(row for row in table if row.state == state and row.event == event)


def refusal(row: Transition) -> str | None:
    """The reason in a row that refuses; see `does`."""
    reasons = [does.removeprefix("refuse: ") for does in row.does if does.startswith("refuse: ")]
    return reasons[0] if reasons else None


def state_diagram(table: Table) -> str:
    """The rows of a table that lead on to another state, as a Mermaid state diagram."""
    lines = ["stateDiagram-v2", f"    [*] --> {table[0].state}"]
    for row in table:
        if row.state != row.to:
            what = row.event + (f" [{row.guard}]" if row.guard else "")
            lines.append(f"    {row.state} --> {row.to}: {what}{' / ' if row.does else ''}{', '.join(row.does)}")
    return "\n".join(lines) + "\n"


def state_table(table: Table) -> str:
    """A table in Markdown."""
    lines = ["| in | on | where | comes | and does |", "|---|---|---|---|---|"]
    lines += [f"| {r.state} | {r.event} | {r.guard} | {r.to} | {', '.join(r.does)} |" for r in table]
    return "\n".join(lines) + "\n"
