"""Whether a history of one object is linearizable: the search of Wing and Gong, with Lowe's memory of what failed."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Operation:
    """From when to when somebody waited for it, what was done, and for a read what it told.

    `ended` is infinite for a write whose end nobody saw: it may take effect at any time, or never.
    """

    began: float
    ended: float
    write: Any = None  # None: a read
    told: Any = None


def is_linearizable(history: Sequence[Operation], initial: Hashable, apply: Callable[[Any, Any], Hashable]) -> bool:
    """Whether there is an order of the operations, true to their times, in which each read tells the state of then."""
    operations = sorted(history, key=lambda each: each.began)
    must = sum(1 << n for n, each in enumerate(operations) if each.ended != float("inf"))
    failed: set[tuple[int, Hashable]] = set()
    ways: list[tuple[int, Any]] = [(0, initial)]
    while ways:
        done, state = ways.pop()
        if done & must == must:
            return True
        if (done, state) in failed:
            continue
        failed.add((done, state))
        left = [n for n in range(len(operations)) if not done >> n & 1]
        first_end = min(operations[n].ended for n in left)
        may_be_next = [n for n in left if operations[n].began <= first_end]
        reads = sum(1 << n for n in may_be_next if operations[n].write is None and operations[n].told == state)
        if reads:  # they change nothing, so now is as good as later
            ways.append((done | reads, state))
            continue
        for n in may_be_next:
            if operations[n].write is not None:
                ways.append((done | 1 << n, apply(state, operations[n].write)))
    return False
