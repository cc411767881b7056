"""The tills and their books on a Kafka in memory, over several lives of their workers."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from pipeline.adapters.avro.codec import codecs
from pipeline.adapters.memory import MemoryGroupConsumer, MemoryKafka, MemoryLogReader, MemoryProducer, MemoryStores
from pipeline.engine.context import LanePorts, LaneSettings
from pipeline.engine.loop.lane import Lane
from pipeline.engine.plan import ServicePlan, command_codec
from pipeline.engine.ports import TP
from pipeline.model import Service
from pipeline.model.records.messages import CommandMessage
from pipeline.model.records.partitioning import partition_of
from tests.simulation.worlds import tills as t

MAKE = codecs(t.SCHEMAS)


class TillShop:
    """One cluster. `stores`: the disk of each worker, by its name."""

    def __init__(self, partitions: int = 2, services: Mapping[str, Service] = t.TOPOLOGY.services) -> None:
        self.kafka, self.services = MemoryKafka(), dict(services)
        self.stores: dict[str, MemoryStores] = {}
        self.lanes: list[Lane] = []
        for name in self.services:
            for topic, kind in self.plan(name).own_topics():
                self.kafka.create_topic(topic, partitions, compacted=kind.compacted)

    def plan(self, service: str) -> ServicePlan:
        return ServicePlan(self.services[service], MAKE)

    def change(self, service: str, **changes: Any) -> None:
        """The service is declared otherwise from now on."""
        self.services[service] = replace(self.services[service], **changes)

    def open(self, service: str, worker: int = 0, **settings: Any) -> Lane:
        name = f"{service}-{worker}"
        stores = self.stores.setdefault(name, MemoryStores())
        lane = Lane(
            self.plan(service),
            LanePorts(
                MemoryGroupConsumer(self.kafka, service, name),
                MemoryProducer(self.kafka, name),
                MemoryLogReader(self.kafka, name),
                stores,
                self.kafka.clock,
                lambda: MemoryLogReader(self.kafka, name),
            ),
            LaneSettings(**settings),
        )
        lane.open()
        self.lanes.append(lane)
        return lane

    def close(self) -> None:
        """All workers stop, and their groups are empty."""
        while self.lanes:
            self.lanes.pop().close()
        self.kafka.clock.advance(60.0)

    def take(self, *amounts: int, partition: int = 0) -> None:
        """Commands are sent to a till of that partition."""
        encode = command_codec(MAKE, t.tills).encode
        count = len(self.kafka.topics["tills.command"].logs)
        key = next(key for n in range(1, 99) if partition_of((key := f"till-{n}").encode(), count) == partition)
        for amount in amounts:
            self.kafka.clock.advance(0.01)
            now_ms = self.kafka.clock.time_ms()
            message = CommandMessage(f"c{now_ms}", f"c{now_ms}", "", now_ms, t.Take(amount), None, None, None)
            self.kafka.append(TP("tills.command", partition), key.encode(), encode(message))

    def turn(self, there: Callable[[], bool]) -> None:
        """Turns until that is so."""
        for _ in range(500):
            if there():
                return
            for lane in self.lanes:
                lane.turn()
        raise AssertionError("it never comes to that")

    def settle(self) -> None:
        """Turns until all is folded and committed."""
        self.turn(self.is_settled)

    def is_settled(self) -> bool:
        for lane in self.lanes:
            for topic in lane.plan.source_topics:
                for log in self.kafka.topics[topic].logs:
                    at = self.kafka.group(lane.plan.group).offsets.get(log.tp)
                    if at is None or at.offset < log.end:
                        return False
        return True

    def decided(self, topic: str) -> int:
        """How many records were ever committed to a topic."""
        return sum(record.decided for log in self.kafka.topics[topic].logs for record in log.archive)
