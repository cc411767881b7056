"""What aggregates ask of others: each Ask that was decided on is there once, and was answered once."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from pipeline.engine.state.table import Codecs, RowCodec
from pipeline.engine.steps.ask import asked_codecs
from pipeline.flow import ask_to_command, command_position
from pipeline.model import Aggregate, Ask, CommandMessage, Effect, TopicKind
from pipeline.testing.simulation.judge.differences import counted

Sent = Counter[tuple[str, bytes, bytes]]


class Asked:
    """What one aggregate must have asked, collected while its commands are decided again."""

    def __init__(self, aggregate: Aggregate[Any, Any, Any], codecs: Codecs) -> None:
        self.aggregate, self.codecs = aggregate, asked_codecs(codecs, aggregate)
        self.due: Sent = Counter()
        self.ids: Counter[str] = Counter()

    def decided(
        self, key: bytes, message: CommandMessage, effects: Iterable[Effect], place: tuple[int, int, int]
    ) -> None:
        """`place`: partition, offset and time of what was decided on."""
        partition, offset, time_ms = place
        name = self.aggregate.name
        own = key.decode()
        inbox = f"{TopicKind.COMMAND.topic(name)}/{partition}/{own}"
        cause = command_position(name, partition, offset)
        for ask in effects:
            if isinstance(ask, Ask):
                command = ask_to_command(name, own, ask, message.correlation_id, cause, time_ms, inbox)
                self.due[TopicKind.COMMAND.topic(ask.to), ask.key.encode(), self.codecs[ask.to].encode(command)] += 1
                self.ids[command.id] += 1

    def differences(
        self, records: Mapping[str, list[tuple[bytes, bytes]]], codec: Mapping[str, RowCodec]
    ) -> Iterator[str]:
        """`records`: key and value of all that was committed to each command topic."""
        there: Sent = Counter()
        prefix = f"{self.aggregate.name}/"
        for topic in {TopicKind.COMMAND.topic(name) for name in self.codecs}:
            for key, value in records[topic]:
                if codec[topic].decode(value).id.startswith(prefix):
                    there[topic, key, value] += 1
        if there != self.due:
            yield from counted(f"what {self.aggregate.name} asks", self.due, there, codec)
        inbox = TopicKind.COMMAND.topic(self.aggregate.name)
        ids = (codec[inbox].decode(value).id for _, value in records[inbox])
        answered = Counter(name.removeprefix("reply:") for name in ids if name.startswith("reply:"))
        for name in sorted((self.ids - answered) | (answered - self.ids)):
            yield f"{name} was asked {self.ids[name]} times, and answered {answered[name]} times"
