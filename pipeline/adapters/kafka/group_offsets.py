"""The committed offsets of a group, read by a client that never joins it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from confluent_kafka import Consumer, KafkaException, TopicPartition

from pipeline.adapters.kafka.away import CONNECTIONS, answers, kafka_log
from pipeline.adapters.kafka.client_watch import reaches
from pipeline.adapters.kafka.cluster import ANSWER_S, COMMON, asked_again, on_error
from pipeline.adapters.kafka.connection import connection
from pipeline.engine.ports import TP


class Committed(NamedTuple):
    """The next offset of a partition, and the metadata that was committed beside it."""

    offset: int
    note: str | None


class GroupOffsets:
    """A consumer of a group that only reads its offsets. Safe to use from several threads. Connects on first use.

    The admin client's own call for this crashes librdkafka 2.16 (a null group, if the coordinator answers an error).
    `stable`: offsets of a partition are unavailable while a commit of it is under way; otherwise the earlier ones are
    read.
    """

    def __init__(self, bootstrap: str, group: str, *, stable: bool = True) -> None:
        isolation = "read_committed" if stable else "read_uncommitted"
        config = COMMON | {**connection(bootstrap), "group.id": group, "isolation.level": isolation}
        self._bootstrap, self._group = bootstrap, group
        self._config = config | {"enable.auto.commit": False, "error_cb": on_error}
        self._consumer = Consumer(self._config, logger=kafka_log)

    def told(self, partitions: Iterable[TP], timeout_s: float = ANSWER_S) -> dict[TP, Committed]:
        """Return the offsets that are available now; partitions without any are left out. Raises KafkaException."""
        return self._read(partitions, timeout_s)[0]

    def of_all(self, partitions: Iterable[TP], patience_s: float = ANSWER_S) -> dict[TP, Committed]:
        """Return the offsets of all, retrying until they are available. Raises BrokerUnreachable.

        Partitions without a committed offset are left out.
        """
        asked = list(partitions)

        def ask() -> dict[TP, Committed]:
            found, untold = self._read(asked, ANSWER_S)
            if untold is not None:
                raise untold  # such as a coordinator that moves, or a commit under way
            return found

        unanswered = f"the broker does not say what {self._group!r} has committed: %s"
        return asked_again(unanswered, ask, patience_s) if asked else {}

    def _read(self, partitions: Iterable[TP], timeout_s: float) -> tuple[dict[TP, Committed], KafkaException | None]:
        consumer = self._consumer
        try:
            answer = consumer.committed([TopicPartition(*tp) for tp in partitions], timeout=timeout_s)
        except KafkaException as error:
            if error.args[0].code() in CONNECTIONS and not reaches(consumer) and answers(self._bootstrap):
                self._consumer = Consumer(self._config, logger=kafka_log)  # see client_watch
            raise
        untold = next((KafkaException(p.error) for p in answer if p.error is not None), None)
        told = (p for p in answer if p.error is None and p.offset >= 0)
        return {TP(p.topic, p.partition): Committed(p.offset, p.metadata) for p in told}, untold

    def close(self) -> None:
        """Close the connections."""
        self._consumer.close()
