"""The codec of an aggregate's command topic, which may also receive replies."""

from __future__ import annotations

from typing import Any

from pipeline.engine.state.table import Codecs, RowCodec
from pipeline.flow import Inbox
from pipeline.model import Acceptance, Aggregate, CommandMessage, Parked, Rejected, ReplyMessage, TopicKind


class InboxCodec:
    """Writes commands, and reads what stands there; see Inbox."""

    def __init__(self, commands: RowCodec, inbox: Inbox) -> None:
        self.encode, self.decode, self.fit = commands.encode, inbox.decode, commands.fit


def command_codec(codecs: Codecs, aggregate: Aggregate[Any, Any, Any]) -> RowCodec:
    """The codec of an aggregate's command topic."""
    commands = codecs(TopicKind.COMMAND.topic(aggregate.name), CommandMessage, aggregate.command)
    if not aggregate.asks and not aggregate.unique:
        return commands
    replies = codecs(TopicKind.REPLY.value, ReplyMessage, Acceptance | Rejected | Parked)
    return InboxCodec(commands, Inbox(aggregate, commands.decode, replies.decode))
