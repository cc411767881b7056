"""The transactional producer of a lane."""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Callable, Sequence
from typing import Any

from confluent_kafka import KafkaError, KafkaException, Message, TopicPartition
from confluent_kafka import Producer as ConfluentProducer

from pipeline.adapters.kafka.client_watch import Nudge, ProducerWatch
from pipeline.adapters.kafka.cluster import ANSWER_S, COMMON, RETRY_PAUSE_S, TRANSACTION_S, note, plainly
from pipeline.adapters.kafka.connection import connection
from pipeline.engine.ports import TP, Positions
from pipeline.errors import LaneFatal, OutcomeUnknown, RecordRefused, TopicError, TransactionAborted

log = logging.getLogger(__name__)

PATIENCE_S = 60.0  # how long a request is made again that the broker may yet answer
WORRY_S = 10.0  # a request made again for longer is a warning; before, it is how brokers work
FENCE_S = 5.0  # as PATIENCE_S; there is another time, and the lane goes on meanwhile
IDLE_S = 3.0  # after which the client closes a connection, even one with a request on its way
ABORT_FLUSH_S = 1.0
FLUSH_LOOK_S = 1.0  # between looks whether the transaction has failed
ASK_TOPIC_S = 10.0  # how long it is believed that a topic is there, or not
TOPICS_KNOWN_MAX = 10_000
# Longer than any patience of a lane: a transaction is not to end because the machine or the broker is slow. What a
# producer that is gone has left open, whoever takes its partitions over ends by `fence`.
REFUSED = (
    KafkaError.MSG_SIZE_TOO_LARGE,
    KafkaError.RECORD_LIST_TOO_LARGE,
    KafkaError.INVALID_MSG,
    KafkaError.INVALID_RECORD,
    KafkaError.INVALID_TIMESTAMP,
)
NO_TOPIC = (
    KafkaError.UNKNOWN_TOPIC_OR_PART,
    KafkaError._UNKNOWN_TOPIC,
    KafkaError._UNKNOWN_PARTITION,
    KafkaError.TOPIC_AUTHORIZATION_FAILED,
)


def _for_the_lane(error: KafkaError) -> LaneFatal | TransactionAborted | TopicError:
    """Translate an error of the client into one that the lane handles."""
    if error.code() in REFUSED:
        return RecordRefused(f"the broker refuses a record: {error.str()}")
    if error.code() in NO_TOPIC:
        return TopicError(
            f"the broker takes no record: {error.str()}; create the topics with: pipeline topics create TOPOLOGY"
        )
    if error.txn_requires_abort() or (error.code() == KafkaError._STATE and not error.fatal()):
        return TransactionAborted(f"the transaction cannot be committed: {error.str()}")
    return LaneFatal(f"the producer cannot go on: {error.str()}")


class KafkaProducer:
    """A transactional `Producer`; opening it ends a transaction that an earlier holder of its id left open."""

    def __init__(self, bootstrap: str, transactional_id: str, patience_s: float = PATIENCE_S, **overrides: Any) -> None:
        config = COMMON | {
            **connection(bootstrap),
            "transactional.id": transactional_id,
            "transaction.timeout.ms": int(TRANSACTION_S * 1000),
            "message.timeout.ms": int(TRANSACTION_S * 1000),  # no single record ends what the transaction has time for
            "client.id": transactional_id,
            "partitioner": "murmur2_random",
            # Costs no latency: nobody sees a record before the checkpoint, and its flush() does not wait for this.
            "linger.ms": 100,
            "connections.max.idle.ms": int(IDLE_S * 1000),  # see Nudge
            "batch.size": 256 * 1024,
            "message.max.bytes": 32 << 20,  # the topic's own limit decides, and says so in the same way each time
            "queue.buffering.max.messages": 500_000,
            "queue.buffering.max.kbytes": 64 * 1024,
        }
        self._config, self._patience_s = config | overrides, patience_s
        self._bootstrap, self.name = bootstrap, transactional_id
        self._last: dict[TP, int] = {}
        self._topics: dict[str, tuple[int, float]] = {}  # partitions of each, and when that was asked
        self._open()

    def _open(self) -> None:
        self._slow = False  # whether a request took so long that its connection may have been lost
        self._watch = ProducerWatch(self._bootstrap)
        self._producer = ConfluentProducer({"error_cb": self._watch.on_error, **self._config}, logger=self._watch)
        self._nudge = Nudge(self._producer)
        try:
            self._guarded(lambda: self._producer.init_transactions(ANSWER_S), self._patience_s)
        except Exception:
            self.close()
            raise
        self._slow = self._watch.connection_lost = False  # requests before the epoch are refused

    def _guarded(self, call: Callable[[], object], patience_s: float = PATIENCE_S) -> None:
        """Run a transactional call, and retry it within `patience_s`. Raises an error that the lane handles."""
        began = time.monotonic()
        deadline = began + patience_s
        while True:
            try:
                with plainly():
                    call()
                self._slow |= time.monotonic() - began >= IDLE_S
                return
            except KafkaException as raised:
                error: KafkaError = raised.args[0]
                final = not error.retriable() or error.txn_requires_abort() or time.monotonic() > deadline
                if final or self._watch.is_lost(self._producer):
                    raise _for_the_lane(error) from raised
                level = logging.WARNING if time.monotonic() - began > WORRY_S else logging.INFO
                log.log(level, "Kafka: %s; asking again", error.str())
                time.sleep(RETRY_PAUSE_S)

    def partitions(self, topic: str) -> int:
        known = self._topics.get(topic)
        if known is None or time.monotonic() - known[1] > ASK_TOPIC_S:
            if len(self._topics) >= TOPICS_KNOWN_MAX:
                self._topics.clear()
            known = self._topics[topic] = self._ask_partitions(topic), time.monotonic()
        return known[0]

    def _ask_partitions(self, topic: str) -> int:
        try:
            found = self._producer.list_topics(topic, ANSWER_S).topics[topic]
        except KafkaException as error:
            raise TransactionAborted(f"the broker does not say whether {topic} exists: {error.args[0].str()}") from None
        # One without a leader would hold the whole transaction up.
        there = found.error is None and all(partition.leader >= 0 for partition in found.partitions.values())
        return len(found.partitions) if there else 0

    def begin(self) -> None:
        self._last.clear()
        self._guarded(lambda: self._producer.poll(0))  # what it has to say of connections
        if self._slow or self._watch.connection_lost or self._watch.leaderless_s or self._watch.is_lost(self._producer):
            self._replace()
        self._guarded(self._producer.begin_transaction)

    def _replace(self) -> None:
        """Go on with a new client, of a new epoch: the broker refuses what of the old one may still arrive.

        A request whose connection is lost is made again on another, and the first may reach the broker much later. One
        that ends a transaction would end the next of the same epoch, in the midst of it: a part of it without its
        offsets, or nothing but them. The epoch changes with each transaction where client and broker know KIP-890;
        librdkafka does not (its #5423).
        """
        why = self._watch.why or "a connection was lost in a transaction"
        log.info("%s: %s; going on with a new producer", self.name, why)
        self.close()
        self._open()

    def _queue(self, *args: Any, **kwargs: Any) -> None:
        while True:
            try:
                self._producer.produce(*args, **kwargs)
                return
            except BufferError:  # bounded by configuration: wait for room, which time-outs make at the latest
                self._guarded(lambda: self._producer.poll(0.05))
                self._raise_failure()
            except KafkaException as raised:
                if raised.args[0].code() == KafkaError._STATE:
                    self._raise_failure()
                raise _for_the_lane(raised.args[0]) from raised

    def _raise_failure(self) -> None:
        """Raise the error by which the open transaction has failed, if any: librdkafka then sends no more of its queue.

        Beginning another transaction is refused either way, and only the error differs. Raise one, too, if the client
        sends no more to a partition that had no leader.
        """
        if self._watch.is_useless(self._producer):
            raise TransactionAborted(f"{self._watch.why}, and looks for no other")
        try:
            self._producer.begin_transaction()
        except KafkaException as raised:
            if raised.args[0].code() != KafkaError._STATE:
                raise _for_the_lane(raised.args[0]) from raised

    def produce(self, topic: str, key: bytes | None, value: bytes | None, partition: int = -1) -> None:
        try:
            self._producer.produce(topic, value, key, partition)
        except (BufferError, KafkaException):  # rare; the other way knows what to do about it
            self._queue(topic, value, key, partition)

    def park(
        self,
        topic: str,
        key: bytes | None,
        value: bytes | None,
        headers: Sequence[tuple[str, str | bytes | None]],
        partition: int = -1,
    ) -> None:
        self._queue(topic, value, key, partition, headers=list(headers))

    def produce_last(self, topic: str, key: bytes, value: bytes | None, partition: int) -> None:
        self._queue(topic, value, key, partition, on_delivery=self._delivered)

    def _delivered(self, error: KafkaError | None, message: Message) -> None:
        if error is None:
            tp = TP(message.topic(), message.partition())  # type: ignore[arg-type]
            self._last[tp] = message.offset() + 1  # type: ignore[operator]

    def flush(self, patience_s: float = PATIENCE_S) -> dict[TP, int]:
        deadline = time.monotonic() + patience_s
        left = 0

        def flush() -> None:
            nonlocal left
            left = self._producer.flush(max(0.0, min(FLUSH_LOOK_S, deadline - time.monotonic())))

        while True:
            self._guarded(flush)
            if not left:
                return dict(self._last)
            self._raise_failure()
            if time.monotonic() >= deadline:
                self._slow = True  # may still arrive; and if it is the client that is stuck, another one is not
                raise TransactionAborted(f"the broker has not taken {left} records within {patience_s:.0f} s")

    def commit(self, positions: Positions, group: object, patience_s: float = PATIENCE_S) -> None:
        deadline = time.monotonic() + patience_s
        offsets = [TopicPartition(*tp, p.offset, metadata=note(self.name, p)) for tp, p in positions.items()]
        if offsets:
            with self._nudge.watching():
                self._guarded(lambda: self._producer.send_offsets_to_transaction(offsets, group, ANSWER_S), patience_s)
        asked = 0

        def commit() -> None:
            nonlocal asked
            asked += 1
            self._producer.commit_transaction(min(patience_s, ANSWER_S))

        try:
            # A commit that timed out may have succeeded: only asking again tells.
            self._guarded(commit, deadline - time.monotonic())
        except TransactionAborted:
            if asked > 1:
                raise OutcomeUnknown(
                    "the outcome of the last transaction is unknown: its commit got no answer, then a refusal"
                ) from None
            raise
        except LaneFatal as error:
            raise OutcomeUnknown(f"the outcome of the last transaction is unknown: {error}") from error

    def abort(self) -> None:
        self._topics.clear()  # one of them may be what the transaction has failed by
        try:
            if self._watch.why:
                self._replace()  # what is queued would never be sent, and an abort waits for it
                return
            # librdkafka 2.16 loses its way where records are still queued or under way when it aborts. In a transaction
            # that has failed already it sends no more, and there is no point in waiting.
            with contextlib.suppress(KafkaException), plainly():
                self._producer.flush(ABORT_FLUSH_S)
            self._guarded(lambda: self._producer.abort_transaction(ANSWER_S), ANSWER_S)
        except TransactionAborted as error:
            raise LaneFatal(f"the transaction cannot be aborted: {error}") from error

    def fence(self, name: str) -> None:
        KafkaProducer(self._bootstrap, name, FENCE_S).close()

    def close(self) -> None:
        # One that has failed for good answers everything with its error.
        with contextlib.suppress(KafkaException), plainly():
            self._producer.purge()
            self._producer.flush(1.0)
        self._nudge.end()
        del self._producer  # its threads end here, and not when a collection of cycles finds it
