"""command -> event: call `decide`, number its events, and separate its other effects."""

from __future__ import annotations

from typing import Any

from pipeline.flow.copies import Copies
from pipeline.flow.functions.in_context import of_command
from pipeline.flow.functions.returned import returned_list
from pipeline.model.aggregate import Aggregate, Rejected
from pipeline.model.deadline import Effect
from pipeline.model.records.messages import CommandMessage, EventMessage, StateMessage

new = tuple.__new__  # what a named tuple's own constructor does, in half the time: one is made for each event


def command_to_event(
    aggregate: Aggregate[Any, Any, Any],
    key: bytes,
    state: StateMessage | None,
    command: CommandMessage,
    time_ms: int,
    copies: Copies | None = None,
) -> tuple[list[EventMessage], tuple[Effect, ...]] | Rejected:
    """Decide `command` in `state` (None: no event yet). Return events with contiguous versions and other effects.

    Or return the rejection; a command that expects another version than the aggregate has is rejected undecided.
    `time_ms`: when the command was stored, which becomes the events' time. `copies`: of what the aggregate reads;
    afterwards `copies.position` is the position read, which the events carry, too.
    """
    version, _, value = state if state is not None else (0, 0, aggregate.initial)
    command_id, correlation_id, _, _, body, expected, _, _ = command
    if copies is not None:
        copies.begin()
    if expected is not None and expected != version:
        return Rejected("version_conflict", {"expected": str(expected), "actual": str(version)})
    decide = aggregate.decide
    if aggregate.decide_in_context:
        decide = of_command(decide, key, version, command, time_ms)
    if copies is None:
        decision, read = decide(body, value), None
    else:
        decision = copies.decide(decide, body, value)
        read = copies.position
    if isinstance(decision, Rejected):
        return decision
    if type(decision) is not list:
        decision = returned_list(f"decide of {aggregate.name!r}", body, decision, "events, or a Rejected")
    events: list[EventMessage] = []
    effects: tuple[Effect, ...] = ()
    for event in decision:
        if isinstance(event, Effect):
            effects = (*effects, event)
            continue
        version += 1
        events.append(new(EventMessage, (version, command_id, correlation_id, time_ms, event, read)))
    return events, effects
