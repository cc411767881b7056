"""The outcome of a command, as pure values."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from pipeline.model import Acceptance, Rejected, ReplyMessage, Token, TopicKind

Decode = Callable[[bytes | None], Any]


@dataclass(frozen=True, slots=True)
class Accepted:
    """The command was accepted. `version`: the aggregate's after it; `events`: those that it caused, maybe none.

    `position`: a token for reads that must contain the command's effects. It is the command's own position or, if the
    command had to wait, the position up to which records were folded when it was decided. `complete`: False if the
    events were too large for the reply; the event log has them.
    """

    version: int
    events: tuple[Any, ...]
    position: Token
    complete: bool = True


Outcome = Accepted | Rejected


def position_token(aggregate: str, partition: int, offset: int) -> Token:
    """Return a command's position as a token: `users.command/3@77`."""
    return Token.of({(TopicKind.COMMAND.topic(aggregate), partition): offset})


def outcome_of(reply: ReplyMessage, events: Mapping[str, Decode]) -> Outcome:
    """Return the outcome in a reply. `events`: the decoder of each aggregate's events."""
    if isinstance(reply.body, Rejected):
        return reply.body
    accepted: Acceptance = reply.body
    decode = events[reply.aggregate]
    return Accepted(
        accepted.version,
        tuple(decode(data).body for data in accepted.events),
        position_token(reply.aggregate, reply.partition, reply.place[0]),
        complete=len(accepted.events) == accepted.count,
    )
