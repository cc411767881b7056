"""What became of a command. Pure values; they know nothing of how they are fetched."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from pipeline.model import Acceptance, Rejected, ReplyMessage, Token, TopicKind

Decode = Callable[[bytes | None], Any]


@dataclass(frozen=True, slots=True)
class Accepted:
    """The command was decided. `version` of the aggregate after it, `events` that it caused: none is an answer, too.

    `position`: the token for reads that are to see what came of it: where the command stands or, where it has waited,
    how far was folded when it was decided. `complete`: False where the events were too large for the reply; the
    event log has them.
    """

    version: int
    events: tuple[Any, ...]
    position: Token
    complete: bool = True


Outcome = Accepted | Rejected


def position_token(aggregate: str, partition: int, offset: int) -> Token:
    """`users.command/3@77`: where a command stands."""
    return Token.of({(TopicKind.COMMAND.topic(aggregate), partition): offset})


def outcome_of(reply: ReplyMessage, events: Mapping[str, Decode]) -> Outcome:
    """What a reply says. `events`: how each aggregate's events are read."""
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
