"""command -> event: ask the aggregate to decide, and number what it decided."""

from __future__ import annotations

from typing import Any

from pipeline.model.aggregate import Aggregate, Rejected
from pipeline.model.messages import CommandMessage, EventMessage, StateMessage


def command_to_event(
    aggregate: Aggregate[Any, Any, Any], state: StateMessage | None, command: CommandMessage, time_ms: int
) -> list[EventMessage] | Rejected:
    """Events that `command` gives in `state` (None: no event yet), with contiguous versions; or the rejection.

    `time_ms`: when the command was stored, which becomes the events' time. A command that expects another version than
    the aggregate has is not decided.
    """
    version, value = (state.version, state.body) if state is not None else (0, aggregate.initial)
    if command.expected_version is not None and command.expected_version != version:
        return Rejected("version_conflict", {"expected": str(command.expected_version), "actual": str(version)})
    decision = aggregate.decide(command.body, value)
    if isinstance(decision, Rejected):
        return decision
    return [
        EventMessage(version + n, command.id, command.correlation_id, time_ms, event)
        for n, event in enumerate(decision, 1)
    ]
