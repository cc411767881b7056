"""event -> commands."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from pipeline.engine.ports import Record
from pipeline.engine.steps.step import DecidedAt, Encode, Output, Step
from pipeline.errors import TopologyError
from pipeline.flow import event_to_command
from pipeline.model import CommandMessage, EventMessage, Reaction, Send
from pipeline.model.records.keys import KEY_BYTES_MAX, key_bytes, named


class ReactStep(Step):
    """event -> commands to aggregates of the same service, each to its key's partition."""

    def __init__(
        self,
        reaction: Reaction,
        targets: Mapping[type, tuple[str, Encode]],
        takers: Mapping[type, Sequence[str]],
        out: Output,
    ) -> None:
        self.name, self.start = f"react:{reaction.name}", reaction.start
        self.reaction, self.targets, self._takers, self.emit = reaction, targets, takers, out.emit
        self._giver = f"reaction {reaction.name!r}: its react {named(reaction.react)}"

    def fold(self, key: bytes, record: Record, message: EventMessage, placed: DecidedAt | None = None) -> None:
        commands = event_to_command(self.reaction, key.decode(), message)
        for topic, to, data in [self._addressed(send, command) for send, command in commands]:
            self.emit(topic, to, data, -1)

    def _addressed(self, send: Send, command: CommandMessage) -> tuple[str, bytes, bytes]:
        target = self.targets.get(type(send.command))
        if target is None:
            names = self._takers.get(type(send.command), ())
            who = f"the aggregates {', '.join(names)} all take" if names else "no aggregate of its service takes"
            raise TopologyError(
                f"reaction {self.reaction.name!r} sends {type(send.command).__name__}, which {who}; "
                "send a command that exactly one of them takes"
            )
        topic, encode = target
        return topic, key_bytes(send.key, KEY_BYTES_MAX, self._giver, "a command"), encode(command)
