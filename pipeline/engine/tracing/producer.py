"""A producer that says of each record which span has caused it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from pipeline.engine.ports import Positions, Producer
from pipeline.engine.tracing.port import HEADER

Headers = Sequence[tuple[str, str | bytes | None]]


class TracedProducer:
    """A `Producer` over another. While `header` is not None, what is queued carries it; `traced` counts that."""

    def __init__(self, producer: Producer) -> None:
        self._producer, self.name = producer, producer.name
        self.header: bytes | None = None
        self.traced = 0
        self.partitions, self.begin, self.flush = producer.partitions, producer.begin, producer.flush
        self.produce_last, self.abort = producer.produce_last, producer.abort
        self.fence, self.close = producer.fence, producer.close

    def produce(self, topic: str, key: bytes | None, value: bytes | None, partition: int = -1) -> None:
        if self.header is None:
            self._producer.produce(topic, key, value, partition)
        else:
            self.traced += 1
            self._producer.park(topic, key, value, [(HEADER, self.header)], partition)

    def park(self, topic: str, key: bytes | None, value: bytes | None, headers: Headers, partition: int = -1) -> None:
        self._producer.park(topic, key, value, headers, partition)

    def commit(self, positions: Positions, group: object, patience_s: float) -> None:
        self._producer.commit(positions, group, patience_s)


if TYPE_CHECKING:

    def _is_a_producer(producer: TracedProducer) -> Producer:
        return producer
