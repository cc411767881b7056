"""What aggregates ask of others: each Ask that was decided on stands once on the command topic of whom it asks."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

from pipeline.adapters.avro.registry import Registry
from pipeline.engine.ports import TP
from pipeline.flow import ask_to_command, command_position
from pipeline.model import Aggregate, Ask, CommandMessage, Effect, TopicKind
from pipeline.verify.report import Finding, Report, short
from pipeline.verify.sources.decode import Decoder, Readable
from pipeline.verify.sources.history import History


class Due(NamedTuple):
    """A command that was asked for by the one at `offset`. `must`: whether that is settled."""

    topic: str
    key: str
    command: CommandMessage
    offset: int
    time_ms: int
    must: bool


class AskCheck:
    """Judges the Asks of one aggregate, once all of its partitions have been replayed."""

    def __init__(self, service: str, aggregate: Aggregate[Any, Any, Any], registry: Registry) -> None:
        self.service, self.name = service, aggregate.name
        topics = {name: TopicKind.COMMAND.topic(name) for name in aggregate.asks}
        self._targets = {
            topics[name]: Decoder(registry, topics[name], CommandMessage, aggregate.asks[name]) for name in topics
        }
        self._due: dict[tuple[str, str | None], Due] = {}  # by id and cause
        self._ends: dict[int, int] = {}  # by partition, up to where it was replayed
        self._history: History | None = None

    def begin(self, history: History) -> None:
        """Forget what was decided in another history."""
        if self._history is not history:
            self._history, self._due, self._ends = history, {}, {}

    def decided(
        self,
        tp: TP,
        key: str,
        command: CommandMessage,
        effects: Iterable[Effect],
        place: tuple[int, int],
        *,
        must: bool,
    ) -> None:
        """Take in what was decided on the command at `place`: its offset and time."""
        offset, time_ms = place
        self._ends[tp.partition] = max(self._ends.get(tp.partition, 0), offset + 1)
        cause = command_position(self.name, tp.partition, offset)
        inbox = f"{tp.topic}/{tp.partition}/{key}"
        for ask in effects:
            if isinstance(ask, Ask):
                sent = ask_to_command(self.name, key, ask, command.correlation_id, cause, time_ms, inbox)
                due = Due(TopicKind.COMMAND.topic(ask.to), ask.key, sent, offset, time_ms, must)
                self._due[sent.id, cause] = due

    def __call__(self, history: History, _: int, report: Report) -> None:
        """`missing_`, `extra_`, `wrong_` and `duplicate_ask`, of all partitions at once."""
        missing = dict(self._due)
        seen: set[tuple[str, str | None]] = set()
        since: dict[str, float] = {}
        commands = TopicKind.COMMAND.topic(self.name)
        lows = [history.low(TP(commands, n)) for n in range(history.partitions(commands))]
        for topic, decoder in self._targets.items():
            for tp in (TP(topic, n) for n in range(history.partitions(topic))):
                records = Readable(history, tp, decoder)
                for entry, (key, command) in records:
                    if not command.id.startswith(f"{self.name}/"):
                        continue
                    name = command.id, command.causation_id
                    due = missing.pop(name, None) or self._due.get(name)
                    again = name in seen
                    seen.add(name)
                    if due is None:
                        if self._was_replayed(lows, command):
                            report.add(
                                Finding("extra_ask", self.service, *tp, key, entry.offset, "nothing", short(command))
                            )
                    elif again:
                        report.add(
                            Finding("duplicate_ask", self.service, *tp, key, entry.offset, "once", short(command))
                        )
                    elif (found := (topic, key, command)) != due[:3]:
                        wrong = Finding("wrong_ask", self.service, *tp, key, entry.offset, "", "")
                        report.add(wrong.of_values(_named(*due[:3]), _named(*found)))
                since[topic] = max(since.get(topic, 0), records.since_ms)
        report.checked["commands asked of others"] += sum(due.must for due in self._due.values())
        for due in missing.values():
            if due.must and due.time_ms >= since.get(due.topic, 0):
                report.add(
                    Finding("missing_ask", self.service, due.topic, -1, due.key, None, short(due.command), "nothing")
                )

    def _was_replayed(self, lows: Sequence[int], command: CommandMessage) -> bool:
        """Whether what caused the command is held still, and was decided again. `lows`: where its partitions begin."""
        topic, _, place = (command.causation_id or "").partition("/")
        partition, _, offset = place.partition("/")
        if topic != TopicKind.COMMAND.topic(self.name) or not (partition.isdecimal() and offset.isdecimal()):
            return True
        return lows[int(partition)] <= int(offset) < self._ends.get(int(partition), 0)


def _named(topic: str, key: str, command: CommandMessage) -> dict[str, Any]:
    return {"topic": topic, "key": key, "command": command}
