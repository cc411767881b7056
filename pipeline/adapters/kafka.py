"""Kafka by confluent-kafka: the group consumer, the log reader and the transactional producer of a lane."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cache
from typing import Any

from confluent_kafka import (
    OFFSET_BEGINNING,
    Consumer,
    IsolationLevel,
    KafkaError,
    KafkaException,
    Message,
    TopicPartition,
)
from confluent_kafka import Producer as ConfluentProducer
from confluent_kafka.admin import AdminClient, OffsetSpec  # type: ignore[attr-defined]  # there, if not in __all__

from pipeline.errors import BrokerUnreachable, LaneFatal, TopicError, TransactionAborted
from pipeline.runtime.ports import TP, Listener, Offsets, Polled, Record

log = logging.getLogger(__name__)

ANSWER_S = 10.0  # how long a request to the broker may take before the caller is told
RETRY_PAUSE_S = 0.1
RETRY_S = 60.0  # how long a commit whose outcome is unknown is asked for again
COMMON: dict[str, Any] = {"socket.keepalive.enable": True, "allow.auto.create.topics": False}
READING: dict[str, Any] = COMMON | {
    "enable.auto.commit": False,
    "isolation.level": "read_committed",
    "enable.partition.eof": True,
    "fetch.wait.max.ms": 100,
    "fetch.queue.backoff.ms": 5,
    "queued.min.messages": 20_000,
    "queued.max.messages.kbytes": 16 * 1024,
}


def on_error(error: KafkaError) -> None:
    """Connection troubles, which librdkafka heals by itself; said, so that a wait is understood."""
    log.warning("Kafka: %s", error.str())


@cache
def admin_client(bootstrap: str) -> AdminClient:
    """The one admin client of this process for a cluster; safe to use from several threads.

    It is never let go: librdkafka's waits for ever when it is, if a question to a group's coordinator was left without
    an answer. The command line ends its process without waiting for it (pipeline.cli.run).
    """
    config: dict[str, Any] = {"bootstrap.servers": bootstrap, "error_cb": lambda _: None, "log_level": 0}
    return AdminClient(config)


def admin(bootstrap: str) -> AdminClient:
    """The admin client of a broker that answers; raises BrokerUnreachable."""
    client = admin_client(bootstrap)
    try:
        client.list_topics(timeout=ANSWER_S)
    except KafkaException as error:
        raise BrokerUnreachable(
            f"no Kafka broker answers at {bootstrap} ({error.args[0].str()}); "
            "start one with: pipeline broker up, or give another address with --bootstrap"
        ) from None
    return client


def sorted_out(messages: Iterable[Message]) -> Polled:
    """Groups what a consumer returned; raises on errors that reading on does not heal."""
    polled = Polled()
    batches = polled.batches
    topic, partition = "", -1
    batch: list[Record] = []
    for message in messages:
        error = message.error()
        if error is None:
            if message.partition() != partition or message.topic() != topic:
                topic, partition = message.topic(), message.partition()  # type: ignore[assignment]
                batch = batches.setdefault(TP(topic, partition), [])
            batch.append(message)  # type: ignore[arg-type]  # a message without error has an offset
            continue
        tp, code = TP(message.topic(), message.partition()), error.code()  # type: ignore[arg-type]
        if code == KafkaError._PARTITION_EOF:
            polled.ends[tp] = message.offset()  # type: ignore[assignment]
        elif code == KafkaError._AUTO_OFFSET_RESET:
            polled.out_of_range.add(tp)
        elif error.fatal():
            raise LaneFatal(
                f"the consumer is out of its group for good: {error.str()}; another worker uses its identity"
            )
        elif code in (KafkaError.UNKNOWN_TOPIC_OR_PART, KafkaError.TOPIC_AUTHORIZATION_FAILED):
            raise TopicError(f"cannot read {tp.topic}: {error.str()}; create it with: pipeline topics create")
        else:
            log.warning("reading %s-%d: %s", tp.topic, tp.partition, error.str())
    return polled


def poll(consumer: Consumer, records_max: int, timeout_s: float) -> Polled:
    """What has arrived, at most `records_max`; waits for the first only, up to `timeout_s`."""
    # consume() alone would wait for the whole number or the whole time.
    first = consumer.poll(timeout_s)
    return Polled() if first is None else sorted_out([first, *consumer.consume(records_max - 1, 0)])


class KafkaGroupConsumer:
    """A `GroupConsumer`: static membership, committed records only.

    The range assignor gives each member the same share of every topic; the sticky one counts partitions over all
    topics, and a second process might get all the idle topics and none of the busy one. Range is eager: a change of
    membership stops all members for a moment, but with static membership a restart is no such change.
    """

    def __init__(self, bootstrap: str, group: str, instance: str, client_id: str, **overrides: Any) -> None:
        self._config = READING | {
            "bootstrap.servers": bootstrap,
            "group.id": group,
            "group.instance.id": instance,
            "client.id": client_id,
            "partition.assignment.strategy": "range",
            "session.timeout.ms": 6000,
            "heartbeat.interval.ms": 2000,
            "auto.offset.reset": "earliest",
            "error_cb": on_error,
        }
        self._consumer = Consumer(self._config | overrides, logger=log)

    def subscribe(self, topics: Sequence[str], listener: Listener) -> None:
        def assigned(consumer: Consumer, partitions: list[TopicPartition]) -> None:
            # An explicit offset keeps librdkafka from asking for the committed one; `start` says where to read.
            starts = [TopicPartition(p.topic, p.partition, 0) for p in partitions]
            consumer.assign(starts)
            consumer.pause(starts)
            listener.assigned(tps(partitions))

        def revoked(consumer: Consumer, partitions: list[TopicPartition]) -> None:
            listener.revoked(tps(partitions))
            consumer.unassign()

        def lost(consumer: Consumer, partitions: list[TopicPartition]) -> None:
            listener.lost(tps(partitions))
            consumer.unassign()

        self._consumer.subscribe(list(topics), on_assign=assigned, on_revoke=revoked, on_lost=lost)

    def poll(self, records_max: int, timeout_s: float) -> Polled:
        return poll(self._consumer, records_max, timeout_s)

    def committed(self, partitions: Sequence[TP]) -> dict[TP, int | None] | None:
        asked = [TopicPartition(*tp) for tp in partitions]
        try:
            answer = self._consumer.committed(asked, timeout=1.0)
        except KafkaException as error:
            if error.args[0].retriable() or error.args[0].code() == KafkaError._TIMED_OUT:
                return None
            raise
        if any(p.error is not None for p in answer):
            return None
        return {TP(p.topic, p.partition): p.offset if p.offset >= 0 else None for p in answer}

    def start(self, partition: TP, offset: int | None) -> None:
        at = TopicPartition(*partition, OFFSET_BEGINNING if offset is None else offset)
        self._consumer.seek(at)
        self._consumer.resume([at])

    def group(self) -> object:
        return self._consumer.consumer_group_metadata()

    def close(self) -> None:
        self._consumer.close()


def tps(partitions: Iterable[TopicPartition]) -> list[TP]:
    """Our name for theirs."""
    return [TP(p.topic, p.partition) for p in partitions]


class KafkaLogReader:
    """A `LogReader`: partitions by hand, no membership, no commits."""

    def __init__(self, bootstrap: str, name: str) -> None:
        config = {"bootstrap.servers": bootstrap, "group.id": name, "client.id": name, "error_cb": on_error}
        self._consumer = Consumer(READING | config | {"auto.offset.reset": "error"}, logger=log)
        self._admin = admin(bootstrap)

    def follow(self, starts: Mapping[TP, int | None]) -> None:
        self._consumer.incremental_assign(
            [TopicPartition(*tp, OFFSET_BEGINNING if offset is None else offset) for tp, offset in starts.items()]
        )

    def unfollow(self, partitions: Iterable[TP]) -> None:
        self._consumer.incremental_unassign([TopicPartition(*tp) for tp in partitions])

    def poll(self, records_max: int, timeout_s: float) -> Polled:
        return poll(self._consumer, records_max, timeout_s)

    def ends(self, partitions: Sequence[TP]) -> dict[TP, int]:
        return end_offsets(self._admin, partitions)

    def partitions(self, topic: str) -> int:
        return len(self._admin.list_topics(topic, timeout=ANSWER_S).topics[topic].partitions)

    def close(self) -> None:
        self._consumer.close()


def end_offsets(client: AdminClient, partitions: Sequence[TP]) -> dict[TP, int]:
    """The offset behind the last record of each partition, records of open transactions included."""
    asked = {TopicPartition(*tp): OffsetSpec.latest() for tp in partitions}  # type: ignore[no-untyped-call]
    deadline = time.monotonic() + ANSWER_S
    while asked:
        try:
            futures = client.list_offsets(
                asked, isolation_level=IsolationLevel.READ_UNCOMMITTED, request_timeout=ANSWER_S
            )
            return {TP(p.topic, p.partition): future.result().offset for p, future in futures.items()}
        except KafkaException as raised:  # such as a leader that moves, or a topic just created
            if time.monotonic() > deadline:
                raise BrokerUnreachable(f"the broker does not say where topics end: {raised.args[0].str()}") from raised
            time.sleep(RETRY_PAUSE_S)
    return {}


def _for_the_lane(error: KafkaError) -> LaneFatal | TransactionAborted | TopicError:
    """What an error of the producer means for its lane."""
    if error.code() in (KafkaError.MSG_SIZE_TOO_LARGE, KafkaError.UNKNOWN_TOPIC_OR_PART, KafkaError._UNKNOWN_PARTITION):
        return TopicError(f"the broker refuses a record: {error.str()}")
    if error.txn_requires_abort() or (error.code() == KafkaError._STATE and not error.fatal()):
        return TransactionAborted(f"the transaction cannot be committed: {error.str()}")
    return LaneFatal(f"the producer cannot go on: {error.str()}; start the worker again")


class KafkaProducer:
    """A transactional `Producer`; opening it ends a transaction that an earlier holder of its id left open."""

    def __init__(self, bootstrap: str, transactional_id: str, **overrides: Any) -> None:
        config = COMMON | {
            "bootstrap.servers": bootstrap,
            "transactional.id": transactional_id,
            "transaction.timeout.ms": 10_000,
            "client.id": transactional_id,
            "partitioner": "murmur2_random",
            # Costs no latency: nobody sees a record before the checkpoint, and its flush() does not wait for this.
            "linger.ms": 100,
            "batch.size": 256 * 1024,
            "queue.buffering.max.messages": 500_000,
            "queue.buffering.max.kbytes": 64 * 1024,
            "error_cb": on_error,
        }
        self._producer = ConfluentProducer(config | overrides, logger=log)
        self._last: dict[TP, int] = {}
        self._guarded(lambda: self._producer.init_transactions(ANSWER_S))

    def _guarded(self, call: Callable[[], object]) -> None:
        """Runs a transactional call: again while the broker may yet answer, else raises what the lane understands."""
        deadline = time.monotonic() + RETRY_S
        while True:
            try:
                call()
                return
            except KafkaException as raised:
                error: KafkaError = raised.args[0]
                if not error.retriable() or error.txn_requires_abort() or time.monotonic() > deadline:
                    raise _for_the_lane(error) from raised
                log.warning("Kafka: %s; asking again", error.str())

    def begin(self) -> None:
        self._last.clear()
        self._guarded(self._producer.begin_transaction)

    def _queue(self, *args: Any, **kwargs: Any) -> None:
        while True:
            try:
                self._producer.produce(*args, **kwargs)
                return
            except BufferError:  # bounded by configuration: wait for room
                self._producer.poll(0.05)
            except KafkaException as raised:
                raise _for_the_lane(raised.args[0]) from raised

    def produce(self, topic: str, key: bytes | None, value: bytes | None, partition: int = -1) -> None:
        try:
            self._producer.produce(topic, value, key, partition)
        except (BufferError, KafkaException):  # rare; the other way knows what to do about it
            self._queue(topic, value, key, partition)

    def park(self, topic: str, record: Record, headers: Sequence[tuple[str, bytes]]) -> None:
        self._queue(topic, record.value(), record.key(), headers=[*(record.headers() or ()), *headers])

    def produce_last(self, topic: str, key: bytes, value: bytes | None, partition: int) -> None:
        self._queue(topic, value, key, partition, on_delivery=self._delivered)

    def _delivered(self, error: KafkaError | None, message: Message) -> None:
        if error is None:
            tp = TP(message.topic(), message.partition())  # type: ignore[arg-type]
            self._last[tp] = message.offset() + 1  # type: ignore[operator]

    def flush(self) -> dict[TP, int]:
        self._guarded(self._producer.flush)
        return dict(self._last)

    def commit(self, positions: Offsets, group: object) -> None:
        offsets = [TopicPartition(*tp, offset) for tp, offset in positions.items()]
        self._guarded(lambda: self._producer.send_offsets_to_transaction(offsets, group, ANSWER_S))
        # A commit that timed out may have succeeded: only asking again tells, aborting would be wrong.
        self._guarded(lambda: self._producer.commit_transaction(ANSWER_S))

    def abort(self) -> None:
        try:
            self._guarded(lambda: self._producer.abort_transaction(ANSWER_S))
        except TransactionAborted as error:
            raise LaneFatal(f"the transaction cannot even be aborted: {error}") from error

    def close(self) -> None:
        self._producer.purge()
        self._producer.flush(1.0)
