"""The broker as readers use it: committed offsets of groups, ends of logs, and barriers written for a read."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence

from confluent_kafka import KafkaError, KafkaException, Message, Producer

from pipeline.adapters.kafka.client_watch import ProducerWatch
from pipeline.adapters.kafka.cluster import COMMON, admin, end_offsets, plainly
from pipeline.adapters.kafka.connection import connection
from pipeline.adapters.kafka.group_offsets import GroupOffsets
from pipeline.engine.ports import TP
from pipeline.model import BARRIER

log = logging.getLogger(__name__)
STORED_S = 5.0  # within which the broker has to store a barrier


class KafkaBroker:
    """A `Broker` for readers. Its calls block; safe to use from several threads.

    `partitions(topic)`: how many a topic has. Connects to what is asked for when it is first asked for.
    """

    def __init__(self, bootstrap: str, partitions: Callable[[str], int]) -> None:
        self._bootstrap, self.partitions = bootstrap, partitions
        self._groups: dict[str, GroupOffsets] = {}
        self._producer: Producer | None = None
        self._watch = ProducerWatch(self._bootstrap)
        self._lock = threading.Lock()

    def committed(self, group: str, partitions: Iterable[TP], patience_s: float) -> dict[TP, int]:
        """The committed offset of each partition; those without one, or unavailable right now, are left out."""
        with self._lock:
            if group not in self._groups:
                self._groups[group] = GroupOffsets(self._bootstrap, group)
            offsets = self._groups[group]
        try:
            return {tp: committed.offset for tp, committed in offsets.told(partitions, patience_s).items()}
        except KafkaException as error:
            log.debug("committed offsets of %s are not available: %s", group, error)
            return {}

    def ends(self, partitions: Sequence[TP]) -> Mapping[TP, int]:
        """The offset behind the last record of each, records of open transactions included."""
        return end_offsets(admin(self._bootstrap), partitions)

    def barriers(self, partitions: Collection[TP]) -> dict[TP, int]:
        """Write a barrier to each partition. Return the offsets of those that the broker has confirmed."""
        stored: dict[TP, int] = {}

        def delivered(error: KafkaError | None, message: Message) -> None:
            if error is None:
                stored[TP(message.topic(), message.partition())] = message.offset()  # type: ignore[arg-type,assignment]
            else:
                log.warning("a barrier on %s: %s", message.topic(), error.str())

        with self._lock:
            if self._producer is None:
                self._watch = ProducerWatch(self._bootstrap)
                config = COMMON | {**connection(self._bootstrap), "error_cb": self._watch.on_error}
                config |= {"enable.idempotence": True, "linger.ms": 0, "message.timeout.ms": int(STORED_S * 1000)}
                self._producer = Producer(config, logger=self._watch)
        for tp in partitions:
            try:
                self._producer.produce(tp.topic, partition=tp.partition, headers=[BARRIER], on_delivery=delivered)
            except (BufferError, KafkaException) as error:
                log.warning("a barrier on %s-%d: %s", *tp, error)
        try:
            with plainly():
                self._producer.flush(STORED_S + 1.0)
        except KafkaException as error:  # for good: the next barriers are another producer's
            log.warning("barriers: %s", error.args[0].str())
            self._producer = None
        if self._producer is not None and self._watch.is_useless(self._producer):
            self._producer = None
        return stored

    def close(self) -> None:
        """Close the connections."""
        with self._lock:
            for offsets in self._groups.values():
                offsets.close()
            self._groups.clear()
            self._producer = None
