"""Compares two versions of a projection row by row, by their row topics."""

from __future__ import annotations

import struct
import time
from dataclasses import dataclass, field
from io import BytesIO
from typing import Any

from fastavro import parse_schema, schemaless_reader

from pipeline.adapters.avro.binding import without_logical_types
from pipeline.adapters.avro.registry import Registry
from pipeline.adapters.json.writing import to_json
from pipeline.engine.plan import ServicePlan
from pipeline.engine.ports import TP
from pipeline.model import TopicKind
from pipeline.model.projection.versions import table_of
from pipeline.verify.sources.kafka import KafkaHistory

LOOKS = 5  # rows that change meanwhile may differ for a moment
PAUSE_S = 1.0
EXAMPLES = 10
Pair = tuple[Any, Any]  # the old row and the new one; None if there is none


@dataclass(slots=True)
class Differences:
    """How many rows are equal, differ, or are in one version only; and some of these."""

    same: int = 0
    missing: int = 0  # in the old version only
    added: int = 0
    changed: int = 0
    examples: list[dict[str, Any]] = field(default_factory=list)

    @property
    def total(self) -> int:
        """The number of rows that differ."""
        return self.missing + self.added + self.changed

    def as_json(self) -> dict[str, Any]:
        """Return the figures as JSON."""
        counts = {name: getattr(self, name) for name in ("same", "missing", "added", "changed")}
        return {**counts, "examples": self.examples}


class _Rows:
    """Decodes row topics without the classes of the rows, as those of an old version may be gone."""

    def __init__(self, registry: Registry, topic: str) -> None:
        self._registry, self._topic = registry, topic
        self._schemas: dict[int, Any] = {}

    def decode(self, data: bytes) -> Any:
        """Decode a row to JSON."""
        return to_json(schemaless_reader(BytesIO(data[5:]), self.schema(data), None))

    def schema(self, data: bytes) -> Any:
        """Return the parsed schema that a row was written with."""
        (schema_id,) = struct.unpack_from(">I", data, 1)
        if schema_id not in self._schemas:
            schema = self._registry.written_with(schema_id, self._topic)
            self._schemas[schema_id] = parse_schema(without_logical_types(schema))
        return self._schemas[schema_id]


def _are_same(one: bytes, by: _Rows, other: bytes, by_other: _Rows) -> bool:
    """Return whether two rows are equal."""
    if one[5:] == other[5:] and by.schema(one) == by_other.schema(other):
        return True
    return bool(by.decode(one) == by_other.decode(other))


def compare(bootstrap: str, registry: Registry, name: str, old: int, new: int) -> Differences:
    """Compare two versions of a projection. Rows that keep changing meanwhile may count as different."""
    topics = TopicKind.ROW.topic(table_of(name, old)), TopicKind.ROW.topic(table_of(name, new))
    differ, moved = set[str](), dict[TP, int]()
    for look in range(LOOKS):
        with KafkaHistory(bootstrap, {}, None, None, 0) as history:
            counts = [history.partitions(topic) for topic in topics]
            ends = {tp: history.end(tp) for t, n in zip(topics, counts, strict=True) for tp in _all(t, n)}
            found, pairs = _look(history, registry, topics, counts, differ if look else None)
        settled, moved, differ = ends == moved, ends, set(pairs)
        if not differ or settled or look + 1 == LOOKS:
            break
        time.sleep(PAUSE_S)
    for key in sorted(differ)[:EXAMPLES]:
        found.examples.append({"key": key, "old": pairs[key][0], "new": pairs[key][1]})
    return found


def waiting(bootstrap: str, plan: ServicePlan) -> int:
    """Count the records of a service that are parked, or wait behind a parked one."""
    with KafkaHistory(bootstrap, {}, None, None, 0) as history:
        queues = [source_topic.tables[0].changelog for source_topic in plan.source_topics.values()]
        return sum(len(_last(history, _all(queue, history.partitions(queue)))) for queue in queues)


def _all(topic: str, partitions: int) -> list[TP]:
    return [TP(topic, n) for n in range(partitions)]


def _look(
    history: KafkaHistory, registry: Registry, topics: tuple[str, str], counts: list[int], only: set[str] | None
) -> tuple[Differences, dict[str, Pair]]:
    """Compare once, by partition if both topics have as many. `only`: keys that differed before."""
    rows, found, differ = [_Rows(registry, topic) for topic in topics], Differences(), dict[str, Pair]()
    together = counts[0] == counts[1]
    for part in [[n] for n in range(counts[0])] if together else [list(range(max(counts)))]:
        old, new = (
            _last(history, [TP(topic, n) for n in part if n < count])
            for topic, count in zip(topics, counts, strict=True)
        )
        for key in old.keys() | new.keys():
            before, after, name = old.get(key), new.get(key), key.decode(errors="replace")
            alike = before is not None and after is not None and _are_same(before, rows[0], after, rows[1])
            if alike or (only is not None and name not in only):
                found.same += 1
                continue
            differ[name] = before and rows[0].decode(before), after and rows[1].decode(after)
            if after is None:
                found.missing += 1
            elif before is None:
                found.added += 1
            else:
                found.changed += 1
    return found, differ


def _last(history: KafkaHistory, partitions: list[TP]) -> dict[bytes, bytes]:
    """Return the last value of each key, without deleted ones."""
    last: dict[bytes, bytes | None] = {}
    for tp in partitions:
        for entry in history.records(tp):
            last[entry.key or b""] = entry.value
    return {key: value for key, value in last.items() if value is not None}
