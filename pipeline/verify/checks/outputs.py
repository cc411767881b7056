"""What source events ask of other topics: a reaction's commands, a routed projection's messages; each exactly once.

In memory: a digest and a place for each of these commands or messages, of one reaction or projection at a time. They
spread by key from every source partition to every target partition, so no partition can be judged alone.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

from pipeline.adapters.avro.registry import Registry
from pipeline.engine.ports import TP
from pipeline.flow import ReservationReply, event_to_command, event_to_messages
from pipeline.flow.functions.raised import is_topologys
from pipeline.model import CommandMessage, EventMessage, Projection, Reaction, Service, Source, TopicKind
from pipeline.model.fields import alternatives
from pipeline.model.records.partitioning import partition_of
from pipeline.verify.checks.parked_checks import Before, Follower, folded
from pipeline.verify.replay.notices import acts_on
from pipeline.verify.report import Finding, Report, short
from pipeline.verify.sources.decode import Decoder, Readable, command_decoder, event_decoder
from pipeline.verify.sources.history import Entry, History


class Output(NamedTuple):
    """What an event asks for. `name` makes it one of a kind; messages without an id are named by their content."""

    topic: str
    key: str
    name: Hashable
    content: Any


@dataclass(slots=True)
class Due:
    """How often an output has to be there, and how often it may be; where the first event asked for it."""

    output: Output
    source: TP
    offset: int
    time_ms: int
    must: int = 0
    may: int = 0


@dataclass(slots=True)
class Seen:
    """How often an output is there; where it stands first, and where last."""

    digest: int
    tp: TP
    key: str
    first: int
    last: int
    times: int = 1


Names = Callable[[str, str, Any], Hashable | None]


def digest(topic: str, key: str, content: Any) -> int:
    """Return a number that stands for the content, so that it need not be kept."""
    return hash((topic, key, repr(content)))


class OutputCheck:
    """Judges what one follower sends on. `what` ends the names of its findings: "command" or "message"."""

    def __init__(
        self,
        what: str,
        node: Follower,
        service: str,
        sources: dict[str, Decoder],
        targets: dict[str, Decoder],
        asks: Callable[[str, str, EventMessage], Iterator[Output]],
        name_of: Names,
    ) -> None:
        """`asks(topic, key, event)`: the outputs due. `name_of(topic, key, content)`: None for another's record."""
        self.what, self.node, self.service, self.sources, self.targets = what, node, service, sources, targets
        self._asks, self._name_of = asks, name_of

    def __call__(self, history: History, _: int, report: Report) -> None:
        """All partitions at once. Outputs are read before the events that asked for them."""
        before = acts_on(history, self.service)
        seen, since = self._seen(history)
        due = self._due(history, before, report)
        report.checked[f"{self.what}s sent on"] += sum(each.must for each in due.values())
        places: dict[tuple[TP, str, str], int] = {}
        wrong: dict[tuple[TP, int], Due] = {}
        for name, each in due.items():
            there = seen.pop(name, None)
            tp = self._target(history, each.output)
            if there is None:
                if each.must and each.time_ms > since.get(tp, 0):
                    self._find(report, "missing", tp, each.output.key, None, each, "nothing")
                continue
            if there.digest != digest(*each.output[:2], each.output.content):
                wrong[there.tp, there.first] = each
            elif there.times > each.may:
                self._find(report, "duplicate", there.tp, there.key, there.last, each, f"{there.times} times")
            elif there.times < each.must and each.time_ms > since.get(tp, 0):
                self._find(report, "missing", tp, there.key, None, each, f"{there.times} times")
            elif there.times == each.may == 1:
                place = (each.source, there.tp.topic, there.key)
                if there.first < places.get(place, -1):
                    self._find(report, "disordered", there.tp, there.key, there.first, each, "behind a later one")
                places[place] = there.first
        self._find_wrong(history, wrong, report)
        for there in seen.values():
            self._find(report, "extra", there.tp, there.key, there.first, None, f"{there.times} times")

    def _target(self, history: History, output: Output) -> TP:
        return TP(output.topic, partition_of(output.key.encode(), history.partitions(output.topic)))

    def _find(
        self, report: Report, kind: str, tp: TP, key: str, offset: int | None, due: Due | None, found: str
    ) -> None:
        expected = "no event asks for it"
        if due is not None:
            times = f"{due.may} times " if due.may > 1 else ""
            expected = f"{times}{short(due.output.content)} by {due.source.topic}-{due.source.partition}@{due.offset}"
        report.add(Finding(f"{kind}_{self.what}", self.service, *tp, key, offset, expected, found))

    def _find_wrong(self, history: History, wrong: dict[tuple[TP, int], Due], report: Report) -> None:
        """Read again what stands there, as only a digest of it was kept."""
        for tp in dict.fromkeys([tp for tp, _ in wrong]):
            for entry, (key, content) in Readable(history, tp, self.targets[tp.topic]):
                if due := wrong.pop((tp, entry.offset), None):
                    finding = Finding(f"wrong_{self.what}", self.service, *tp, key, entry.offset, "", "")
                    topic, due_key, _, due_content = due.output
                    expected = {"topic": topic, "key": due_key, self.what: due_content}
                    report.add(finding.of_values(expected, {"topic": tp.topic, "key": key, self.what: content}))
        for (tp, offset), due in wrong.items():  # retention has taken it meanwhile
            self._find(report, "wrong", tp, due.output.key, offset, due, "another content")

    def _seen(self, history: History) -> tuple[dict[Hashable, Seen], dict[TP, float]]:
        """What is there, by name; and since when each log that retention has cut holds all."""
        seen: dict[Hashable, Seen] = {}
        since: dict[TP, float] = {}
        for topic, decoder in self.targets.items():
            for tp in (TP(topic, n) for n in range(history.partitions(topic))):
                records = Readable(history, tp, decoder)
                for entry, read in records:
                    if (name := self._name_of(topic, *read)) is None:
                        continue
                    if known := seen.get(name):
                        known.times += 1
                        known.last = entry.offset
                        known.tp = tp
                    else:
                        seen[name] = Seen(digest(topic, *read), tp, read[0], entry.offset, entry.offset)
                if records.since_ms:
                    since[tp] = records.since_ms
        return seen, since

    def _due(self, history: History, before: Before, report: Report) -> dict[Hashable, Due]:
        """What the events below what the service has committed ask for, by name, in the order of each partition."""
        due: dict[Hashable, Due] = {}
        for topic, decoder in self.sources.items():
            for tp in (TP(topic, n) for n in range(history.partitions(topic))):
                for entry, key, event, settled in folded(history, self.service, tp, self.node, decoder, before, report):
                    report.checked["events followed"] += settled
                    for output in self._outputs(tp, entry, key, event, report):
                        each = due.setdefault(output.name, Due(output, tp, entry.offset, entry.time_ms))
                        each.must += settled
                        each.may += 1
        return due

    def _outputs(self, tp: TP, entry: Entry, key: str, event: EventMessage, report: Report) -> list[Output]:
        try:
            return list(self._asks(tp.topic, key, event))
        except BaseException as error:  # the engine would have stopped before this record
            if not is_topologys(error):
                raise
            finding = Finding("raised", self.service, *tp, key, entry.offset, "what follows", short(repr(error)))
            report.add(finding)
            return []


def reaction_check(service: Service, reaction: Reaction, registry: Registry) -> OutputCheck:
    """Check commands, named by ids that begin with the reaction's name; all others are a client's."""
    takers = {cls: a.name for a in service.owned for cls in alternatives(a.command)}
    targets = {TopicKind.COMMAND.topic(a.name): command_decoder(registry, a) for a in service.owned}

    def asks(_: str, key: str, event: EventMessage) -> Iterator[Output]:
        for send, command in event_to_command(reaction, key, event):
            yield Output(TopicKind.COMMAND.topic(takers[type(send.command)]), send.key, command.id, command)

    def name_of(_: str, __: str, command: CommandMessage | ReservationReply) -> str | None:
        if not isinstance(command, CommandMessage) or not command.id.startswith(f"{reaction.name}/"):
            return None
        return command.id

    sources = _follow([reaction.source], registry)
    node = Follower(f"react:{reaction.name}", reaction.start)
    return OutputCheck("command", node, service.name, sources, targets, asks, name_of)


def route_check(service: Service, projection: Projection[Any, Any], registry: Registry) -> OutputCheck:
    """Check messages, named by row key and content: two alike are told apart by their number only."""
    topic = TopicKind.BY_KEY.topic(projection.name)

    def asks(source: str, key: str, event: EventMessage) -> Iterator[Output]:
        for row_key, message in event_to_messages(projection, source, key, event):
            yield Output(topic, row_key, digest(topic, row_key, message), message)

    targets = {topic: Decoder(registry, topic, projection.by_key)}
    sources = _follow(projection.sources, registry)
    node = Follower(f"route:{projection.name}", projection.start)
    return OutputCheck("message", node, service.name, sources, targets, asks, digest)


def _follow(sources: Iterable[Source], registry: Registry) -> dict[str, Decoder]:
    return {source.topic: event_decoder(registry, source, follows=True) for source in sources}
