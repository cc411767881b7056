"""events -> state then: fold an aggregate's events up to a version, and find the version of a time."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from pipeline.errors import HistoryIncomplete
from pipeline.flow.event_to_state import event_to_state
from pipeline.model.aggregate import Aggregate
from pipeline.model.records.messages import EventMessage, StateMessage


def events_to_state(
    aggregate: Aggregate[Any, Any, Any], key: bytes, state: StateMessage | None, events: Iterable[EventMessage]
) -> StateMessage | None:
    """The state after `events`, which follow on `state` (None: before the first event) in the order of their versions.

    Raises HistoryIncomplete if a version is missing between them.
    """
    version = 0 if state is None else state.version
    for event in events:
        version += 1
        if event.version != version:
            raise HistoryIncomplete(f"version {version} is missing: the event log holds {event.version} next")
        state = event_to_state(aggregate, key, state, event)
    return state


def version_at(time_ms: int, first: int, last: int, time_of: Callable[[int], int]) -> int:
    """The version of an aggregate at a time: of its last event that is not later; `first - 1` if all are later.

    `time_of(version)`: the time of each event from `first` to `last`, in milliseconds since the epoch like `time_ms`.
    It is called about log2 of their number times. If a broker's clock has stepped back, times do not rise with the
    versions; the result is then one of the versions whose next event is later.
    """
    low, high = first - 1, last + 1  # not later than the time, and later
    while high - low > 1:
        middle = (low + high) // 2
        if time_of(middle) <= time_ms:
            low = middle
        else:
            high = middle
    return low
