"""Where logs begin and end, and when the next record to fold was appended. Its calls block; they need no membership."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Mapping, Sequence

from confluent_kafka import Consumer, KafkaException, TopicPartition

from pipeline.adapters.kafka.away import kafka_log
from pipeline.adapters.kafka.cluster import COMMON, admin, end_offsets, first_offsets, on_error, plainly
from pipeline.adapters.kafka.connection import connection
from pipeline.adapters.kafka.reading import sorted_out
from pipeline.engine.ports import TP

READ_S = 5.0  # for the next records of all partitions together
POLL_S = 0.2
# One record of each partition is enough. Those of open transactions count, too: the one that is open may be the cause.
NEXT_RECORDS = COMMON | {
    "enable.auto.commit": False,
    "isolation.level": "read_uncommitted",
    "enable.partition.eof": True,
    "auto.offset.reset": "earliest",
    "fetch.wait.max.ms": 50,
    "fetch.message.max.bytes": 16 * 1024,
    "queued.min.messages": 1,
}


class KafkaLogs:
    """Reads what there is to say of partitions. Raises BrokerUnreachable if the broker does not answer.

    `group`: the one that its client names, and may ask for; it is never joined, and nothing is committed.
    """

    def __init__(self, bootstrap: str, group: str = "pipeline-lag") -> None:
        self._bootstrap, self._group = bootstrap, group

    def ends(self, partitions: Sequence[TP]) -> dict[TP, int]:
        """The offset behind the last record of each log, records of open transactions included."""
        return end_offsets(admin(self._bootstrap), partitions)

    def firsts(self, partitions: Sequence[TP]) -> dict[TP, int]:
        """The offset of the first record that each log still holds."""
        return first_offsets(admin(self._bootstrap), partitions)

    def appended_ms(self, starts: Mapping[TP, int], patience_s: float = READ_S) -> dict[TP, int | None]:
        """When the first record from each offset on was appended; None if only transaction markers follow.

        Partitions that give no answer in time are left out.
        """
        if not starts:
            return {}
        found: dict[TP, int | None] = {}
        until_s = time.monotonic() + patience_s
        config = {**connection(self._bootstrap), "group.id": self._group, "error_cb": on_error}
        consumer = Consumer(NEXT_RECORDS | config, logger=kafka_log)
        try:
            consumer.assign([TopicPartition(*tp, offset) for tp, offset in starts.items()])
            while len(found) < len(starts) and time.monotonic() < until_s:
                with plainly():
                    polled = sorted_out(consumer.consume(len(starts), POLL_S))
                new: dict[TP, int | None] = {tp: records[0].timestamp()[1] for tp, records in polled.batches.items()}
                new = dict.fromkeys(polled.ends) | new
                consumer.pause([TopicPartition(*tp) for tp in new])
                found = new | found
        finally:
            with contextlib.suppress(KafkaException), plainly():
                consumer.close()
        return found
