"""Topics to an export file."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from pipeline.adapters.avro.registry import Registry
from pipeline.adapters.avro.served import open_registry
from pipeline.adapters.exported.writing import ExportWriter
from pipeline.adapters.json.as_written import known_to
from pipeline.engine.ports import TP
from pipeline.model import Service, TopicKind
from pipeline.topology import Topology
from pipeline.verify.sources.history import Entry, History

Step = Callable[[str, int, int], object]  # (topic-partition, offsets done, offsets in all)
EVERY = 500  # records between two steps
# Results before what has caused them, so that whatever is in the file has its cause in the file.
ORDER = (
    TopicKind.ROW,
    TopicKind.STATE,
    TopicKind.REPLIES,
    TopicKind.PARKED,
    TopicKind.BY_KEY,
    TopicKind.EVENT,
    TopicKind.COMMAND,
)


class Part(NamedTuple):
    """Which records are wanted: stored from `since_ms` on, before `until_ms`, of one key. None: all."""

    since_ms: int | None = None
    until_ms: int | None = None
    key: str | None = None

    def has(self, entry: Entry) -> bool:
        """Return whether a record is wanted."""
        return (
            (self.since_ms is None or entry.time_ms >= self.since_ms)
            and (self.until_ms is None or entry.time_ms < self.until_ms)
            and (self.key is None or entry.key == self.key.encode())
        )


def judged_topics(services: Sequence[Service]) -> list[str]:
    """Return the topics that a replay check of these services makes use of."""
    found = []
    for service in services:
        found += [TopicKind.PARKED.topic(service.name)]
        for aggregate in service.owned:
            kinds = [TopicKind.EVENT, TopicKind.COMMAND]
            kinds += [TopicKind.REPLIES] if aggregate.idempotency is not None else []
            found += [aggregate.states, *(kind.topic(aggregate.name) for kind in kinds)]
        for projection in service.projections:
            found += [TopicKind.ROW.topic(projection.name)]
            found += [TopicKind.BY_KEY.topic(projection.name)] if projection.route is not None else []
        found += [source.topic for source in service.sources()]
    return sorted(set(found), key=_order)


def _order(topic: str) -> tuple[int, str]:
    kind = TopicKind.of(topic)
    return ORDER.index(kind) if kind in ORDER else 0, topic


def export(
    history: History,
    topology: Topology,
    topics: Collection[str],
    path: Path,
    part: Part = Part(),  # noqa: B008  # a value
    step: Step = lambda *_: None,
    registry: Registry | None = None,
) -> int:
    """Write the committed records of these topics to a file. Return how many there are. Raises TopicError.

    `registry`: what knows the schemas, if not that of the topology. In memory: one block of the file.
    """
    places = [TP(topic, n) for topic in sorted(topics, key=_order) for n in range(history.partitions(topic))]
    ends = {tp: history.end(tp) for tp in places}
    todo, done = sum(ends.values()), 0
    with ExportWriter(path, known_to(registry or open_registry(topology.schemas))) as out:
        about = {f"{tp.topic}/{tp.partition}": _place(history, topology, tp, part) for tp in places}
        for tp in places:
            first, end = None, ends[tp]
            for n, entry in enumerate(history.records(tp)):
                end = max(end, entry.offset + 1)
                if part.has(entry):
                    first = entry.offset if first is None else first
                    out.write(*tp, entry.offset, entry.key, entry.value, entry.time_ms, entry.headers)
                if n % EVERY == 0:
                    step(f"{tp.topic}-{tp.partition}", done + entry.offset, todo)
            done += ends[tp]
            place = about[f"{tp.topic}/{tp.partition}"]
            place["end"] = end
            if part.since_ms is not None and TopicKind.of(tp.topic) not in (TopicKind.STATE, TopicKind.ROW):
                place["low"] = end if first is None else first
            for name, folded in place["folded"].items():
                folded["committed"] = history.committed(name, tp)
        out.about = {"topics": {topic: history.partitions(topic) for topic in topics}, "places": about}
        if part != Part():
            out.about["part"] = part._asdict()
        step("done", todo, todo)
        return out.records


def _place(history: History, topology: Topology, tp: TP, part: Part) -> dict[str, Any]:
    """Return from where the file covers a partition, and how far it is folded, before anything of it is read."""
    folded: dict[str, dict[str, Any]] = {}
    for service in topology.services.values():
        if tp.topic in service.source_topics():
            steps = {name: list(note) for name, note in history.steps(service.name, tp).items()}
            folded[service.name] = {"bound": history.bound(service.name, tp), "steps": steps}
    return {"low": history.low(tp), "folded": folded}
