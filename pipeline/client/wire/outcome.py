"""The outcome of a command, as pure values."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from pipeline.errors import NotKnownYet
from pipeline.flow.command_to_reply import AHEAD_S_MAX
from pipeline.model import Acceptance, Rejected, ReplyMessage, Token, TopicKind
from pipeline.model.changes.upcasts import today
from pipeline.model.records.token import marked

Decode = Callable[[bytes | None], Any]


@dataclass(frozen=True, slots=True)
class Accepted:
    """The command was accepted. `version`: the aggregate's after it; `events`: those that it caused, maybe none.

    `position`: a token for reads that must contain the command's effects. It is the command's own position or, if the
    command had to wait, the position up to which records were folded when it was decided. `complete`: False if the
    events were too large for the reply, or some are of newer code than this; the event log has them.
    """

    version: int
    events: tuple[Any, ...]
    position: Token
    complete: bool = True


Outcome = Accepted | Rejected
# Of the engine's reasons: a detail that tells them from an aggregate's own, and what they mean.
MEANINGS = {
    "version_conflict": (
        "actual",
        "the aggregate is at another version than the command expects; read it and decide again",
    ),
    "id_reused": ("position", "the id was used before, for another command; give each command its own"),
    "issued_in_the_future": (
        "issued_ms",
        f"the sender's clock is more than {AHEAD_S_MAX:g} s ahead of the broker's; set the clock right and send again",
    ),
    "expired": (
        "issued_ms",
        "it was stored too long after it was issued to know whether it was answered before, or the sender's clock is "
        "behind the broker's; ask for its outcome, set the clock right, or send it as a new command",
    ),
}


def explained(rejected: Rejected) -> str | None:
    """Return what a rejection by the engine means, and the cure; None for one by the aggregate."""
    wanted, sentence = MEANINGS.get(rejected.reason, ("", ""))
    return sentence if sentence and wanted in rejected.details else None


def position_token(aggregate: str, partition: int, offset: int, mark: str = "") -> Token:
    """Return a command's position as a token: `users.command/3@77`. `mark`: of a restored cluster, see `marked`."""
    return marked({(TopicKind.COMMAND.topic(aggregate), partition): offset}, mark)


def outcome_of(reply: ReplyMessage, events: Mapping[str, Decode], mark: str = "") -> Outcome:
    """Return the outcome in a reply. `events`: the decoder of each aggregate's events."""
    if isinstance(reply.body, Rejected):
        return reply.body
    accepted: Acceptance = reply.body
    known = list(_known(accepted.events, events[reply.aggregate]))
    return Accepted(
        accepted.version,
        tuple(event.body for message in known for event in today(message)),
        position_token(reply.aggregate, reply.partition, reply.place[0], mark),
        complete=len(known) == accepted.count,
    )


def _known(events: Iterable[bytes], decode: Decode) -> Iterator[Any]:
    """Yield the events that this code knows."""
    for data in events:
        with suppress(NotKnownYet):
            yield decode(data)
