"""The lag of a topology's services, read from Kafka only."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaError, KafkaException, TopicPartition
from confluent_kafka.admin import AdminClient

from pipeline.adapters.kafka import READING, connection, end_offsets
from pipeline.adapters.kafka.group_offsets import GroupOffsets
from pipeline.adapters.kafka.topics import partition_counts
from pipeline.engine.plan import ServicePlan
from pipeline.engine.ports import TP


@dataclass(slots=True)
class Lag:
    """The lag of one service: the end offsets of its source partitions, and its committed offsets, summed up."""

    ends: int
    committed: int


class Settling:
    """Detects that nothing more will happen, from looks at the ends of logs and then at committed offsets.

    That is so if every service had committed past the ends of one look, and the next look finds the same ends. A
    service commits its source offset and its outputs in one transaction: so by then all effects of the records below
    those ends exist, and would lie after these ends.
    """

    def __init__(self) -> None:
        self._passed: Mapping[TP, int] | None = None  # the ends of the last look, if all had committed past them

    def look(self, ends: Mapping[TP, int], *, passed: bool) -> bool:
        """Add a look: `ends`, and whether all had committed past them afterwards. Return whether all is settled."""
        settled = ends == self._passed
        self._passed = ends if passed else None
        return settled


class Watcher:
    """Sees when all that was sent has been folded by every service."""

    def __init__(self, bootstrap: str, client: AdminClient, plans: list[ServicePlan]) -> None:
        counts = partition_counts(client)
        self._groups = {plan.service.name: GroupOffsets(bootstrap, plan.service.name) for plan in plans}
        self._client = client
        self._sources = {
            plan.service.name: [TP(topic, n) for topic in plan.source_topics for n in range(counts[topic])]
            for plan in plans
        }
        self._all = sorted({tp for sources in self._sources.values() for tp in sources})
        self._settling = Settling()

    def look(self) -> tuple[dict[str, Lag], bool]:
        """Return each service's lag, and whether all is settled; see `Settling`."""
        ends = end_offsets(self._client, self._all)
        lags = {}
        behind = False
        for service, sources in self._sources.items():
            committed = self._committed(service)
            lags[service] = Lag(sum(ends[tp] for tp in sources), sum(committed.get(tp, 0) for tp in sources))
            behind = behind or any(committed.get(tp, 0) < ends[tp] for tp in sources)
        return lags, self._settling.look(ends, passed=not behind)

    def _committed(self, service: str) -> dict[TP, int]:
        try:
            told = self._groups[service].told(self._sources[service])
        except KafkaException:
            return {}  # the group's coordinator is moving or loading
        return {tp: committed.offset for tp, committed in told.items()}

    def close(self) -> None:
        """Close the connections."""
        for consumer in self._groups.values():
            consumer.close()


def count_records(bootstrap: str, client: AdminClient, topics: list[str]) -> Counter[str]:
    """Count the committed records of each of the `topics`, without control records."""
    counts = partition_counts(client)
    parts = [TopicPartition(topic, n, OFFSET_BEGINNING) for topic in topics for n in range(counts[topic])]
    consumer = Consumer(READING | {**connection(bootstrap), "group.id": "pipeline-demo-count"})
    consumer.assign(parts)
    found, open_parts = Counter[str](), len(parts)
    try:
        while open_parts:
            for message in consumer.consume(10_000, 0.2):
                error = message.error()
                if error is None:
                    found[message.topic() or ""] += 1
                elif error.code() == KafkaError._PARTITION_EOF:
                    open_parts -= 1
    finally:
        consumer.close()
    return found
