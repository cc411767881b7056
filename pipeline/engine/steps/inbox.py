"""The command topic of an aggregate, which also receives the replies to its Asks."""

from __future__ import annotations

from typing import Any

from pipeline.engine.state.table import Codecs, RowCodec
from pipeline.errors import UndecodableRecord
from pipeline.flow import reply_to_command
from pipeline.model import Acceptance, Aggregate, CommandMessage, Parked, Rejected, ReplyMessage, TopicKind


class InboxCodec:
    """Reads the command topic of an aggregate that asks: commands, and replies as commands with a Replied."""

    def __init__(self, asker: str, commands: RowCodec, replies: RowCodec) -> None:
        self.asker, self.encode = asker, commands.encode
        self._command, self._reply = commands.decode, replies.decode

    def decode(self, data: bytes | None) -> Any:
        try:
            reply = self._reply(data)  # by far the more frequent
        except UndecodableRecord:
            return self._command(data)
        command = reply_to_command(self.asker, reply)
        if command is None:
            raise UndecodableRecord(f"a reply to {reply.command_id!r}, which {self.asker!r} did not send")
        return command


def command_codec(codecs: Codecs, aggregate: Aggregate[Any, Any, Any]) -> RowCodec:
    """The codec of an aggregate's command topic."""
    commands = codecs(TopicKind.COMMAND.topic(aggregate.name), CommandMessage, aggregate.command)
    if not aggregate.asks:
        return commands
    return InboxCodec(
        aggregate.name, commands, codecs(TopicKind.REPLY.value, ReplyMessage, Acceptance | Rejected | Parked)
    )
