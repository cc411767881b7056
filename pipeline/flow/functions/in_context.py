"""function, record -> function: bind the context of what a function is given, for one that asks for it."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from pipeline.model.context import CommandContext, EventContext
from pipeline.model.records.messages import CommandMessage, EventMessage


def of_command(
    decide: Callable[..., Any], key: bytes, version: int, command: CommandMessage, time_ms: int
) -> Callable[..., Any]:
    """Return `decide` with the context of a command to the aggregate `key` at that version, stored at `time_ms`."""
    ids = command.id, command.correlation_id, command.causation_id
    return partial(decide, context=CommandContext(key.decode(), version, time_ms, *ids, command.issued_ms))


def of_event(function: Callable[..., Any], topic: str, key: str, event: EventMessage) -> Callable[..., Any]:
    """Return `function` with the context of an event of the aggregate `key`. `topic`: by its declared name."""
    version, command_id, correlation_id, time_ms, _, _ = event
    event_id = f"{topic}/{key}/{version}"
    return partial(function, context=EventContext(key, version, time_ms, event_id, command_id, correlation_id))
