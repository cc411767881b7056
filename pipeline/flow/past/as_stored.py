"""Folds of what is stored: events, states and rows as they are read back, not as the author's functions gave them.

A float of 32 bits is rounded before it is folded, so that a fold today and a replay tomorrow agree.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import wraps
from typing import Any, TypeVar

from pipeline.flow.functions.returned import returned_list
from pipeline.model.aggregate import Aggregate, Rejected
from pipeline.model.deadline import Effect
from pipeline.model.projection.projection import Projection, Replica

Fit = Callable[[Any], Any] | None  # None: a value is read back as it is
Folded = TypeVar("Folded", Projection[Any, Any], Replica[Any, Any])


def events_as_stored(aggregate: Aggregate[Any, Any, Any], event: Fit, state: Fit) -> Aggregate[Any, Any, Any]:
    """Return the aggregate, deciding on events and folding states that are as they will be read back."""
    if event is not None:
        aggregate = replace(aggregate, decide=_decided(aggregate, event))
    return aggregate if state is None else replace(aggregate, evolve=_folded(aggregate.evolve, state))


def rows_as_stored(table: Folded, row: Fit) -> Folded:
    """Return the projection or replica, folding rows that are as they will be read back."""
    return table if row is None else replace(table, evolve=_folded(table.evolve, row))


def _decided(aggregate: Aggregate[Any, Any, Any], fit: Callable[[Any], Any]) -> Callable[..., Any]:
    decide: Callable[..., Any] = aggregate.decide
    where = f"decide of {aggregate.name!r}"

    @wraps(decide)
    def decided(*given: Any, **context: Any) -> Any:
        decision = decide(*given, **context)
        if isinstance(decision, Rejected):
            return decision
        events = returned_list(where, given[0], decision, "events, or a Rejected")
        return [each if isinstance(each, Effect) else fit(each) for each in events]

    return decided


def _folded(evolve: Callable[..., Any], fit: Callable[[Any], Any]) -> Callable[..., Any]:
    @wraps(evolve)
    def folded(*given: Any, **context: Any) -> Any:
        found = evolve(*given, **context)
        return None if found is None else fit(found)

    return folded
