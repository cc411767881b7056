"""The clusters that go through the same cases: a real Kafka, and the one in memory."""

from __future__ import annotations

import time
import uuid
from typing import Any, Protocol

from confluent_kafka import TopicPartition
from confluent_kafka.admin import NewTopic  # type: ignore[attr-defined]

from pipeline.adapters.kafka import KafkaGroupConsumer, KafkaLogReader, KafkaProducer, admin
from pipeline.adapters.memory import MemoryGroupConsumer, MemoryKafka, MemoryLogReader, MemoryProducer
from pipeline.engine.ports import TP, GroupConsumer, LogReader, Positions, Producer


def name(what: str) -> str:
    return f"{what}-{uuid.uuid4().hex[:8]}"


class Cluster(Protocol):
    """What the cases ask of a cluster, beside the adapters themselves."""

    def topic(self, partitions: int = 4) -> str: ...
    def producer(self, transactional_id: str) -> Producer: ...
    def reader(self) -> LogReader: ...
    def consumer(self, group: str, instance: str, protocol: str = "classic") -> GroupConsumer: ...
    def commit(self, producer: Any) -> None:
        """Commits without any offsets."""

    def join_offsets(self, producer: Any, positions: Positions, group: object) -> None:
        """Joins offsets to the open transaction, which stays open."""

    def truncate(self, tp: TP, start: int) -> None: ...
    def pause(self) -> None:
        """Lets a moment pass."""


class RealCluster:
    def __init__(self, bootstrap: str) -> None:
        self.bootstrap, self.admin = bootstrap, admin(bootstrap)

    def topic(self, partitions: int = 4) -> str:
        made = name("t")
        self.admin.create_topics([NewTopic(made, partitions, 1)])[made].result(30)
        return made

    def producer(self, transactional_id: str) -> KafkaProducer:
        return KafkaProducer(self.bootstrap, transactional_id)

    def reader(self) -> KafkaLogReader:
        return KafkaLogReader(self.bootstrap, name("reader"))

    def consumer(self, group: str, instance: str, protocol: str = "classic") -> KafkaGroupConsumer:
        return KafkaGroupConsumer(self.bootstrap, group, instance, f"{group}@nowhere", protocol)

    def commit(self, producer: KafkaProducer) -> None:
        producer.flush()
        producer._guarded(producer._producer.commit_transaction)

    def join_offsets(self, producer: KafkaProducer, positions: Positions, group: object) -> None:
        producer.flush()
        offsets = [TopicPartition(*tp, position.offset) for tp, position in positions.items()]
        producer._producer.send_offsets_to_transaction(offsets, group, 10)

    def truncate(self, tp: TP, start: int) -> None:
        at = TopicPartition(*tp, start)
        self.admin.delete_records([at])[at].result()

    def pause(self) -> None:
        time.sleep(0.1)


class MemoryCluster:
    def __init__(self) -> None:
        self.kafka = MemoryKafka()

    def topic(self, partitions: int = 4) -> str:
        made = name("t")
        self.kafka.create_topic(made, partitions)
        return made

    def producer(self, transactional_id: str) -> MemoryProducer:
        return MemoryProducer(self.kafka, transactional_id)

    def reader(self) -> MemoryLogReader:
        return MemoryLogReader(self.kafka)

    def consumer(self, group: str, instance: str, protocol: str = "classic") -> MemoryGroupConsumer:
        return MemoryGroupConsumer(self.kafka, group, instance, protocol=protocol)

    def commit(self, producer: MemoryProducer) -> None:
        producer.commit({}, None)

    def join_offsets(self, producer: MemoryProducer, positions: Positions, group: object) -> None:
        producer._prepare(positions, group)

    def truncate(self, tp: TP, start: int) -> None:
        self.kafka.log(tp).truncate(start)

    def pause(self) -> None:
        self.kafka.clock.advance(0.1)
