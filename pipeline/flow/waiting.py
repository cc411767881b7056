"""What becomes of a key of which a record cannot be folded: one table of states and events. No I/O, no clock.

While the first record of a key waits, all later ones wait behind it; other keys go on. `RULES` says what each event
does to a key, and what its first record waits for then. The engine applies them to queues and transactions; nothing
else decides about waiting. The table in docs/parking.md is made from them.
"""

from __future__ import annotations

from enum import Enum, StrEnum
from typing import NamedTuple


class KeyState(StrEnum):
    """What the first record of a key waits for. Queues store these values."""

    FREE = "free"  # nothing waits
    FAILED = "error"  # an operator: it raised, or cannot be read
    BEHIND = "behind"  # an operator: the records before it are gone, nothing else speaks against it
    RESERVING = "reserving"  # the reply to the reservation of a unique value
    MISPLACED = "misplaced"  # an operator: its key belongs to another partition


class KeyEvent(Enum):
    """What happens to a key."""

    ARRIVES = "a record arrives"
    RAISES = "its fold raises"
    NEEDS_VALUE = "its fold needs a unique value"
    ELSEWHERE = "its key belongs to another partition"
    GRANTED = "the value is reserved"
    TAKEN = "the value is another's"
    REDRIVE = "redrive"
    DISCARD = "discard"


class Action(Enum):
    """What is done about it, in the transaction in which it happens."""

    FOLD = "fold it"
    QUEUE = "queue it"
    QUEUE_AND_REPLY = "queue it; reply that it is parked"
    PARK = "queue it; write a notice; reply that it is parked"
    RESERVE = "queue it; send the reservation"
    FOLD_ON = "fold the queue, up to one that has to wait"
    SEND_ON = "send the queue where it belongs; see below"
    REJECT = "reject and remove the first record"
    REJECT_AND_FOLD_ON = "reject and remove the first record; fold the rest, up to one that has to wait"
    REFUSE = "refuse"
    IGNORE = "nothing"


class Rule(NamedTuple):
    """What an event leads to. `then`: what the key waits for now; None: as before, or as the fold ends."""

    action: Action
    then: KeyState | None = None


_BY_HAND = (KeyState.FAILED, KeyState.BEHIND)  # states that only an operator ends
_OTHERS = (KeyState.FREE, *_BY_HAND, KeyState.MISPLACED)  # states in which no reservation is under way


def _rules(on: KeyEvent, *rows: tuple[tuple[KeyState, ...], Rule]) -> dict[tuple[KeyState, KeyEvent], Rule]:
    return {(state, on): rule for states, rule in rows for state in states}


RULES: dict[tuple[KeyState, KeyEvent], Rule] = (
    _rules(
        KeyEvent.ARRIVES,
        ((KeyState.FREE,), Rule(Action.FOLD)),
        ((*_BY_HAND, KeyState.MISPLACED), Rule(Action.QUEUE_AND_REPLY)),
        ((KeyState.RESERVING,), Rule(Action.QUEUE)),  # it will not be long
    )
    | _rules(KeyEvent.RAISES, (tuple(KeyState), Rule(Action.PARK, KeyState.FAILED)))
    | _rules(KeyEvent.NEEDS_VALUE, (tuple(KeyState), Rule(Action.RESERVE, KeyState.RESERVING)))
    | _rules(KeyEvent.ELSEWHERE, (tuple(KeyState), Rule(Action.PARK, KeyState.MISPLACED)))
    | _rules(KeyEvent.GRANTED, (_OTHERS, Rule(Action.IGNORE)), ((KeyState.RESERVING,), Rule(Action.FOLD_ON)))
    | _rules(KeyEvent.TAKEN, (_OTHERS, Rule(Action.IGNORE)), ((KeyState.RESERVING,), Rule(Action.REJECT_AND_FOLD_ON)))
    | _rules(
        KeyEvent.REDRIVE,
        ((KeyState.FREE, KeyState.RESERVING), Rule(Action.REFUSE)),
        (_BY_HAND, Rule(Action.FOLD_ON)),
        ((KeyState.MISPLACED,), Rule(Action.SEND_ON)),
    )
    | _rules(
        KeyEvent.DISCARD,
        ((KeyState.FREE, KeyState.RESERVING), Rule(Action.REFUSE)),
        (_BY_HAND, Rule(Action.REJECT, KeyState.BEHIND)),  # or free, if it was the last
        ((KeyState.MISPLACED,), Rule(Action.REJECT, KeyState.MISPLACED)),  # the same
    )
)


def waiting_table() -> str:
    """The rules in Markdown: a row for each event, a column for each state of a key."""
    lines = [f"| | {' | '.join(state.name.lower() for state in KeyState)} |", "|---" * (len(KeyState) + 1) + "|"]
    for event in KeyEvent:
        rules = [RULES[state, event] for state in KeyState]
        cells = (rule.action.value + (f" → {rule.then.name.lower()}" if rule.then else "") for rule in rules)
        lines.append(f"| {event.value} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"
