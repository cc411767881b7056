"""The invariant: what must be true of several tables together, once nothing is under way."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

Rows = Mapping[str, Mapping[str, Any]]


@dataclass(frozen=True, slots=True)
class Invariant:
    """What must be true of several tables together, once nothing is under way.

    A module of a topology declares its own as `invariants = [Invariant(...), ...]`. `pipeline verify` judges them, and
    so does the simulator.

    `name`: what is true, such as "every order is confirmed or refused".
    `tables`: the aggregates, sagas and projections whose rows it needs, of any services.
    `broken(rows)`: what is not so, a text for each thing, with its key in it. `rows["inventory"]["TEA"]` is the state
    of an aggregate or the row of a projection, as an instance of its class; each table has all of its rows.
    """

    name: str
    tables: Sequence[str]
    broken: Callable[[Rows], Iterable[str]]
