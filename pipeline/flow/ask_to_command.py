"""ask -> command, and reply -> command: the commands a saga sends to others, and their replies as its commands."""

from __future__ import annotations

from typing import Any

from pipeline.model.aggregate import Rejected
from pipeline.model.records.messages import Acceptance, CommandMessage, ReplyMessage
from pipeline.model.records.topics import TopicKind
from pipeline.model.saga.saga import Ask, Replied


def ask_to_command(
    asker: str, key: str, ask: Ask, correlation_id: str, cause: str, time_ms: int, reply_to: str
) -> CommandMessage:
    """The command that `asker`, whose aggregate id is `key`, sends for an Ask; `cause`: its own command's position.

    The same Ask is always the same command: `<asker>/<key>/<step>/<attempt>`.
    """
    command_id = f"{asker}/{key}/{ask.step}/{ask.attempt}"
    return CommandMessage(command_id, correlation_id, cause, time_ms, ask.command, None, reply_to)


def asked_by(command_id: str) -> str:
    """The sender of a command of that id, as `<asker>/<key>`; empty if the id is no Ask's."""
    asker, _, attempt = command_id.rpartition("/")
    return asker.rpartition("/")[0] if attempt.isdecimal() else ""


def reply_to_command(asker: str, reply: ReplyMessage) -> CommandMessage | None:
    """The command that carries a reply to the asker; None if the reply is to no command of its own.

    It belongs to the request that the ask belonged to. A reply of before replies said so belongs to `<asker>/<key>`.
    """
    whom = asked_by(reply.command_id)
    if not whom.startswith(f"{asker}/"):
        return None
    step, _, attempt = reply.command_id[len(whom) + 1 :].partition("/")
    body: Any = reply.body  # Parked: it will take longer, and changes nothing
    if isinstance(reply.body, Acceptance):
        body = Replied(step, int(attempt), True)
    elif isinstance(reply.body, Rejected):
        body = Replied(step, int(attempt), False, reply.body.reason, dict(reply.body.details))
    cause = f"{TopicKind.COMMAND.topic(reply.aggregate)}/{reply.partition}/{reply.offset}"
    return CommandMessage(f"reply:{reply.command_id}", reply.correlation_id or whom, cause, reply.time_ms, body)
