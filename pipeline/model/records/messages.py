"""What travels on the topics: an author's value (`body`) with the metadata that the engine adds.

Each is the Python side of the outermost record in the topic's schema; named tuples, since one is made per record.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple


class CommandMessage(NamedTuple):
    """A command as it stands on `<aggregate>.command`. The record's key is the aggregate's id."""

    id: str  # unique per aggregate id; a repeated id is a repeated command
    correlation_id: str  # common to all that one request from outside has caused
    causation_id: str | None  # what caused it: an event's identity, a command's position; None: a request from outside
    issued_ms: int  # when the sender issued it, milliseconds since the epoch
    body: Any
    expected_version: int | None = None  # the version that the sender has seen, which must be the newest; None: any
    reply_to: str | None = None  # `<topic>/<partition>/<key>` of the reply; None: the sender does not wait for one
    due_ms: int | None = None  # when it is to be decided, milliseconds since the epoch; None: now


class EventMessage(NamedTuple):
    """An event as it stands on `<aggregate>.event`; `(topic, key, version)` identifies it."""

    version: int  # 1 for an aggregate's first event, then contiguous
    command_id: str  # the command that it answers
    correlation_id: str
    time_ms: int  # when the broker stored that command, milliseconds since the epoch
    body: Any
    read: str | None = None  # token of what the decision read of copies; None: it read none


class StateMessage(NamedTuple):
    """State of one aggregate as it stands on `<aggregate>.state` and in the aggregate's table."""

    version: int  # version of the last event folded into it
    time_ms: int  # time of that event, milliseconds since the epoch
    body: Any


@dataclass(frozen=True, slots=True)
class Acceptance:
    """The answer to a command that was decided: events, or nothing to do."""

    version: int  # of the aggregate, after the events
    count: int  # of the events
    events: tuple[bytes, ...]  # as they stand on `<aggregate>.event`; none where they are too large for a reply


@dataclass(frozen=True, slots=True)
class Parked:
    """Not a reply yet: the command is parked, and is answered once it is redriven or discarded."""

    cause: str


class ReplyMessage(NamedTuple):
    """The answer to a command, on `<requester>.reply` and, to be given again, on `<aggregate>.replies`.

    `(aggregate, partition, offset)` is where the command stands; with the offset of `place` instead it is the position
    token of all that the command has caused.
    """

    command_id: str
    aggregate: str
    partition: int
    offset: int
    issued_ms: int  # as the command says
    time_ms: int  # when the broker stored the command, milliseconds since the epoch
    fingerprint: int  # of what was asked; see flow.command_to_reply
    body: Any  # Acceptance or Rejected; Parked on `<requester>.reply` only
    placed_offset: int = -1  # of a command that was parked: the last offset that was folded when it was decided
    placed_ms: int = -1  # and when the last command before that was stored
    read: str | None = None  # as its events say, of a rejection, too: token of what the decision read of copies
    correlation_id: str | None = None  # of the command, if an aggregate or a saga has asked it; else None

    @property
    def place(self) -> tuple[int, int]:
        """Offset and time from which the reply is kept."""
        return (self.offset, self.time_ms) if self.placed_offset < 0 else (self.placed_offset, self.placed_ms)


class DeadlineMessage(NamedTuple):
    """A command to be sent later, on `<aggregate>.deadlines` and in the table of that name."""

    due_ms: int  # milliseconds since the epoch; see NEVER
    command: bytes  # as it will stand on `<aggregate>.command`


NEVER = 2**63 - 1  # `due_ms` of a scheduled command that has fired; the row stays until the command is decided
