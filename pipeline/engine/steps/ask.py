"""Sends an aggregate's Asks to others; the replies arrive in its inbox."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from pipeline.engine.state.table import Codecs, RowCodec
from pipeline.engine.steps.scheduler import CommandPlace
from pipeline.errors import TopologyError
from pipeline.flow import ask_to_command, command_position
from pipeline.model import Aggregate, Ask, CommandMessage, Effect, TopicKind
from pipeline.model.records.keys import KEY_BYTES_MAX, key_bytes

Records = list[tuple[str, bytes, bytes]]  # topic, key, value


def asked_codecs(codecs: Codecs, aggregate: Aggregate[Any, Any, Any]) -> dict[str, RowCodec]:
    """The codecs of the commands that an aggregate sends to others, by their names."""
    topics = {name: TopicKind.COMMAND.topic(name) for name in aggregate.asks}
    return {name: codecs(topics[name], CommandMessage, aggregate.asks[name], strict="fields") for name in topics}


class AskSender:
    """Encodes the Asks of one partition of an aggregate. `targets`: topic and codec of each aggregate it asks."""

    def __init__(self, aggregate: str, inbox: str, partition: int, targets: Mapping[str, tuple[str, RowCodec]]) -> None:
        self._name, self._targets = aggregate, targets
        self._to = f"{inbox}/{partition}/"

    def records(self, effects: Iterable[Effect], key: bytes, command: CommandMessage, at: CommandPlace) -> Records:
        """Encode the commands to send. Raises TopologyError if `asks` does not declare a target."""
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
                giver = f"{self._name!r}: its step {ask.step!r}"
                to = key_bytes(ask.key, KEY_BYTES_MAX, giver, f"the command to {ask.to!r}")
                found.append((topic, to, codec.encode(message)))
        return found
