"""The transactional producer of a lane, in memory."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from pipeline.adapters.memory.groups import Membership
from pipeline.adapters.memory.kafka import MemoryKafka
from pipeline.adapters.memory.log import Headers, PartitionLog
from pipeline.engine.ports import TP, Positions
from pipeline.errors import LaneFatal, OutcomeUnknown, RecordRefused, TransactionAborted
from pipeline.model.records.partitioning import partition_of

BATCH = 4  # queued records that are sent at once, so that open transactions show in the logs
ASK_AGAIN_S = 0.05

if TYPE_CHECKING:
    from pipeline.engine.ports import Producer


class MemoryProducer:
    """A transactional `Producer`. Opening it aborts a transaction that an earlier holder of its id left open.

    `wait` lets time pass. `at` is called between the joining of a commit's offsets and the commit itself.
    """

    def __init__(
        self,
        kafka: MemoryKafka,
        transactional_id: str,
        wait: Callable[[float], None] | None = None,
        at: Callable[[str], None] = lambda _: None,
    ) -> None:
        self._kafka, self.name, self._at = kafka, transactional_id, at
        self._wait = wait or kafka.clock.advance
        self._queue: list[tuple[PartitionLog, bytes | None, bytes | None, Headers, bool]] = []
        self._last: dict[TP, int] = {}
        self._begun = self._refused = False
        self._epoch = kafka.transactions.join(transactional_id)
        self._until_free(60.0)

    def _until_free(self, patience_s: float) -> None:
        """Wait until the markers of the last transaction are written."""
        deadline = self._kafka.clock.now_s + patience_s
        while self._kafka.transactions.busy(self.name):
            if self._kafka.clock.now_s >= deadline:
                raise TransactionAborted("the broker is still busy with the last transaction")
            self._wait(ASK_AGAIN_S)

    def partitions(self, topic: str) -> int:
        return len(self._kafka.topics[topic].logs) if topic in self._kafka.topics else 0

    def begin(self) -> None:
        if self._kafka.transactions.is_fenced(self.name, self._epoch):
            raise LaneFatal(f"the producer {self.name} is fenced")
        if self._begun:
            raise RuntimeError("a transaction is open already")
        self._begun, self._refused = True, False
        self._last.clear()

    def _enqueue(
        self, topic: str, key: bytes | None, value: bytes | None, partition: int, headers: Headers, last: bool
    ) -> None:
        if not self._begun:
            raise RuntimeError("no transaction is open")
        if len(value or b"") > self._kafka.request_bytes_max:  # refused by the client itself
            raise RecordRefused(f"the broker refuses a record: {len(value or b'')} bytes are too large")
        if partition < 0:
            partition = partition_of(key or b"", self._kafka.facts(topic).partitions)
        self._queue.append((self._kafka.log(TP(topic, partition)), key, value, headers, last))
        if len(self._queue) >= BATCH and not self._kafka.transactions.busy(self.name):
            self._send()

    def _send(self) -> None:
        """Store what is queued. What a fenced producer sends is lost; its commit raises then."""
        self._until_free(60.0)
        queue, self._queue = self._queue, []
        try:
            for log, key, value, headers, last in queue:
                if len(value or b"") > self._kafka.record_bytes_max:
                    self._refused = True
                    continue
                offset = self._kafka.transactions.append(self.name, self._epoch, log, key, value, headers)
                if last:
                    self._last[log.tp] = offset + 1
        except LaneFatal:
            return

    def produce(self, topic: str, key: bytes | None, value: bytes | None, partition: int = -1) -> None:
        self._enqueue(topic, key, value, partition, (), last=False)

    def park(self, topic: str, key: bytes | None, value: bytes | None, headers: Headers, partition: int = -1) -> None:
        self._enqueue(topic, key, value, partition, headers, last=False)

    def produce_last(self, topic: str, key: bytes, value: bytes | None, partition: int) -> None:
        self._enqueue(topic, key, value, partition, (), last=True)

    def flush(self, patience_s: float = 60.0) -> dict[TP, int]:
        self._send()
        if self._refused:
            raise RecordRefused("the broker refuses a record: it is too large")
        return dict(self._last)

    def _prepare(self, positions: Positions, group: object) -> None:
        """Do everything of a commit except its decision."""
        self.flush()
        membership = group if isinstance(group, Membership) else None
        self._kafka.transactions.add_offsets(self.name, self._epoch, positions, membership)

    def commit(self, positions: Positions, group: object, patience_s: float = 60.0) -> None:
        self._prepare(positions, group)
        self._at("producer.commit:offsets")
        try:
            self._kafka.transactions.end(self.name, self._epoch, commit=True)
        except LaneFatal as error:
            raise OutcomeUnknown(f"the outcome of the last transaction is unknown: {error}") from error
        self._begun = False

    def commit_late(self, positions: Positions, group: object, delay_s: float) -> None:
        """Send a commit that arrives after `delay_s`. Raises OutcomeUnknown, as the sender gives up first."""
        self._prepare(positions, group)
        transactions, name, epoch = self._kafka.transactions, self.name, self._epoch

        def arrive() -> None:
            if not transactions.is_fenced(name, epoch):
                transactions.end(name, epoch, commit=True)

        self._kafka.clock.later(delay_s, arrive)
        raise OutcomeUnknown("the outcome of the last transaction is unknown: the broker did not answer")

    def abort(self) -> None:
        self._queue.clear()
        self._until_free(60.0)
        self._kafka.transactions.end(self.name, self._epoch, commit=False)
        self._begun = False

    def fence(self, name: str) -> None:
        self._kafka.transactions.join(name)

    def close(self) -> None:
        self._queue.clear()


if TYPE_CHECKING:

    def _is_a_producer(producer: MemoryProducer) -> Producer:
        return producer
