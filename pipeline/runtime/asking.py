"""What a node does about asking: sends an aggregate's Asks to others, and reads their answers from its own inbox."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from pipeline.errors import TopologyError, UndecodableRecord
from pipeline.flow import ask_to_command, command_position, reply_to_command
from pipeline.model import Acceptance, Aggregate, Ask, CommandMessage, Effect, Parked, Rejected, ReplyMessage, TopicKind
from pipeline.runtime.table import Codecs, RowCodec
from pipeline.runtime.timers import Place

Records = list[tuple[str, bytes, bytes]]  # topic, key, value


class InboxCodec:
    """Reads the command topic of an aggregate that asks: commands, and answers as commands with a Replied."""

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
            raise UndecodableRecord(f"an answer to {reply.command_id!r}, which {self.asker!r} has not asked")
        return command


def command_codec(codecs: Codecs, aggregate: Aggregate[Any, Any, Any]) -> RowCodec:
    """What reads and writes the command topic of an aggregate."""
    commands = codecs(TopicKind.COMMAND.topic(aggregate.name), CommandMessage, aggregate.command)
    if not aggregate.asks:
        return commands
    return InboxCodec(
        aggregate.name, commands, codecs(TopicKind.REPLY.value, ReplyMessage, Acceptance | Rejected | Parked)
    )


def asked_codecs(codecs: Codecs, aggregate: Aggregate[Any, Any, Any]) -> dict[str, RowCodec]:
    """What writes the commands that an aggregate asks of others, by their names."""
    topics = {name: TopicKind.COMMAND.topic(name) for name in aggregate.asks}
    return {name: codecs(topics[name], CommandMessage, aggregate.asks[name], strict="fields") for name in topics}


class Asking:
    """The Asks of one partition of an aggregate. `targets`: topic and codec of each aggregate that it asks."""

    def __init__(self, aggregate: str, inbox: str, partition: int, targets: Mapping[str, tuple[str, RowCodec]]) -> None:
        self._name, self._targets = aggregate, targets
        self._to = f"{inbox}/{partition}/"

    def records(self, effects: Iterable[Effect], key: bytes, command: CommandMessage, at: Place) -> Records:
        """The commands to be sent. Raises TopologyError where one goes to nobody known."""
        found: Records = []
        own = key.decode()
        cause = command_position(self._name, at.partition, at.offset)
        for ask in effects:
            if isinstance(ask, Ask):
                if ask.to not in self._targets:
                    raise TopologyError(
                        f"{self._name!r} asks {ask.to!r}, which its declaration does not say; "
                        f"it says {', '.join(sorted(self._targets)) or 'nothing'} (asks=…)"
                    )
                topic, codec = self._targets[ask.to]
                correlation_id, reply_to = command.correlation_id, self._to + own
                message = ask_to_command(self._name, own, ask, correlation_id, cause, at.time_ms, reply_to)
                found.append((topic, ask.key.encode(), codec.encode(message)))
        return found
