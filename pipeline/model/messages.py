"""What travels on the topics: an author's value (`body`) with the metadata that the engine adds.

Each is the Python side of the outermost record in the topic's schema; named tuples, since one is made per record.
"""

from __future__ import annotations

from typing import Any, NamedTuple


class CommandMessage(NamedTuple):
    """A command as it stands on `<aggregate>.command`. The record's key is the aggregate's id."""

    id: str  # unique per aggregate id; a repeated id is a repeated command
    correlation_id: str  # common to all that one request from outside has caused
    causation_id: str | None  # what caused it: an event's identity, or None for a request from outside
    issued_ms: int  # when the sender issued it, milliseconds since the epoch
    body: Any


class EventMessage(NamedTuple):
    """An event as it stands on `<aggregate>.event`; `(topic, key, version)` identifies it."""

    version: int  # 1 for an aggregate's first event, then contiguous
    command_id: str  # the command that it answers
    correlation_id: str
    time_ms: int  # when the broker stored that command, milliseconds since the epoch
    body: Any


class StateMessage(NamedTuple):
    """State of one aggregate as it stands on `<aggregate>.state` and in the aggregate's table."""

    version: int  # version of the last event folded into it
    time_ms: int  # time of that event
    body: Any
