"""event -> state: fold one event into the state of its aggregate."""

from __future__ import annotations

from typing import Any

from pipeline.flow.functions.in_context import of_event
from pipeline.model.aggregate import Aggregate
from pipeline.model.changes.upcasts import Upcast
from pipeline.model.records.messages import EventMessage, StateMessage
from pipeline.model.records.topics import TopicKind

new = tuple.__new__  # what a named tuple's own constructor does, in half the time: one is made for each event


def event_to_state(
    aggregate: Aggregate[Any, Any, Any], key: bytes, state: StateMessage | None, event: EventMessage
) -> StateMessage:
    """The state after `event`; `state` is None before an aggregate's first event.

    What an old event was upcast to is folded part by part, and counts as one version.
    """
    value = aggregate.initial if state is None else state.body
    version, _, _, time_ms, body, _ = event
    if type(body) is Upcast:
        state = StateMessage(version, time_ms, value)  # if there is no part, this is all that it does
        for part in body.of(event):
            state = event_to_state(aggregate, key, state, part)
        return state
    evolve = aggregate.evolve
    if aggregate.evolve_in_context:
        evolve = of_event(evolve, TopicKind.EVENT.topic(aggregate.name), key.decode(), event)
    after = evolve(value, body)
    if after is None:
        raise TypeError(f"evolve of {aggregate.name!r} returned None on a {type(body).__name__}: is a case missing?")
    return new(StateMessage, (version, time_ms, after))
