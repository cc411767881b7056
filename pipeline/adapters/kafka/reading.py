"""Reading: the group consumer of a lane and its log reader."""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaError, KafkaException, Message, TopicPartition

from pipeline.adapters.kafka.away import kafka_log
from pipeline.adapters.kafka.client_watch import Reach
from pipeline.adapters.kafka.cluster import (
    ANSWER_S,
    COMMON,
    GROUP_S,
    SESSION_S,
    Identities,
    admin,
    admin_client,
    end_offsets,
    log_facts,
    plainly,
    read_owners,
    read_position,
    static_members,
)
from pipeline.adapters.kafka.connection import connection
from pipeline.adapters.kafka.group_offsets import GroupOffsets
from pipeline.engine.ports import TP, Listener, LogFacts, Polled, Position, Record, TopicNow
from pipeline.errors import BrokerUnreachable, LaneFatal, TopicError

log = logging.getLogger(__name__)

HEARTBEAT_S = 0.5  # by which a member learns that partitions move; until then nobody gets any
LEAVE_S, LEAVE_LOOK_S = 3.0, 0.02
READING: dict[str, Any] = COMMON | {
    "enable.auto.commit": False,
    "isolation.level": "read_committed",
    "enable.partition.eof": True,
    "fetch.wait.max.ms": 100,
    "fetch.queue.backoff.ms": 5,
    "queued.min.messages": 20_000,
    "queued.max.messages.kbytes": 16 * 1024,
}


def sorted_out(messages: Iterable[Message]) -> Polled:
    """Group messages by partition. Raises an error that reading on does not cure."""
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
        elif error.fatal() or code in (KafkaError._FATAL, KafkaError.FENCED_INSTANCE_ID):
            # A member may fence itself: cut off and back again, it joins a second time.
            raise LaneFatal(
                f"the consumer has lost its membership: {error.str()}; if that repeats, another worker uses the "
                "same identity: give each machine its own --node"
            )
        elif code in (KafkaError.UNKNOWN_TOPIC_OR_PART, KafkaError.TOPIC_AUTHORIZATION_FAILED):
            raise TopicError(f"cannot read {tp.topic}: {error.str()}; create it with: pipeline topics create TOPOLOGY")
        else:
            log.warning("reading %s-%d: %s", tp.topic, tp.partition, error.str())
    return polled


def poll(consumer: Consumer, reach: Reach, records_max: int, timeout_s: float, gather_s: float = 0) -> Polled:
    """Return up to `records_max` records; wait up to `timeout_s` for the first, up to `gather_s` for more.

    Raises LaneFatal, TopicError, and BrokerUnreachable if only another consumer can reach brokers.
    """
    if reach.is_lost(consumer):
        raise BrokerUnreachable("the client has lost its brokers, which are there")
    # consume() alone would wait for the whole number or the whole time.
    gathered_s = time.monotonic() + gather_s
    try:
        with plainly():
            first = consumer.poll(timeout_s)
            if first is None:
                return Polled()
            more_s = max(0.0, gathered_s - time.monotonic())
            messages = [first, *(consumer.consume(records_max - 1, more_s) if records_max > 1 else ())]
    except KafkaException as error:
        raise LaneFatal(f"the consumer cannot go on: {error.args[0].str()}") from error
    polled = sorted_out(messages)
    for tp, end in polled.ends.items():
        if consumer.get_watermark_offsets(TopicPartition(*tp), cached=True)[1] > end:
            polled.held_back.add(tp)
    return polled


class KafkaGroupConsumer:
    """A `GroupConsumer`: static membership, committed records only.

    The range assignor gives each member the same share of every topic; the sticky one counts partitions over all
    topics, and a second process might get all the idle topics and none of the busy one. Range is eager: a change of
    membership stops all members for a moment, but with static membership a restart is no such change.

    `protocol`: "classic", or "consumer" for that of KIP-848, where the broker assigns and times sessions.
    """

    def __init__(
        self, bootstrap: str, group: str, instance: str, client_id: str, protocol: str = "classic", **overrides: Any
    ) -> None:
        self._bootstrap, self._group, self._admin = bootstrap, group, admin_client(bootstrap)
        self._incremental, self._reach = protocol == "consumer", Reach(bootstrap)
        config = READING | {
            **connection(bootstrap),
            "group.id": group,
            "group.instance.id": instance,
            "client.id": client_id,
            "group.protocol": protocol,
            # Records that retention has taken before they were folded are not to be skipped in silence.
            "auto.offset.reset": "error",
            "error_cb": self._reach.on_error,
        }
        if self._incremental:
            config |= {"group.remote.assignor": "range"}
        else:
            config |= {
                "partition.assignment.strategy": "range",
                "session.timeout.ms": int(SESSION_S * 1000),
                "heartbeat.interval.ms": int(HEARTBEAT_S * 1000),
            }
        self._consumer = Consumer(config | overrides, logger=kafka_log)
        self._raised: Exception | None = None  # by the listener

    def subscribe(self, topics: Sequence[str], listener: Listener) -> None:
        def tell(listen: Callable[[Sequence[TP]], None], partitions: list[TopicPartition]) -> None:
            if self._raised is not None:
                return  # the lane is at its end
            try:
                listen(tps(partitions))
            except Exception as error:
                # Raised through the client's own code, it would meet other callbacks there, which break on it.
                self._raised = error

        def assigned(consumer: Consumer, partitions: list[TopicPartition]) -> None:
            # An explicit offset keeps librdkafka from asking for the committed one; `start` says where to read.
            starts = [TopicPartition(p.topic, p.partition, 0) for p in partitions]
            (consumer.incremental_assign if self._incremental else consumer.assign)(starts)
            consumer.pause(starts)
            tell(listener.assigned, partitions)

        def unassign(consumer: Consumer, partitions: list[TopicPartition]) -> None:
            if self._incremental:
                consumer.incremental_unassign(partitions)
            else:
                consumer.unassign()

        def revoked(consumer: Consumer, partitions: list[TopicPartition]) -> None:
            tell(listener.revoked, partitions)
            unassign(consumer, partitions)

        def lost(consumer: Consumer, partitions: list[TopicPartition]) -> None:
            tell(listener.lost, partitions)
            unassign(consumer, partitions)

        self._consumer.subscribe(list(topics), on_assign=assigned, on_revoke=revoked, on_lost=lost)

    def poll(self, records_max: int, timeout_s: float, gather_s: float = 0) -> Polled:
        polled = poll(self._consumer, self._reach, records_max, timeout_s, gather_s)
        if self._raised is not None:
            raised, self._raised = self._raised, None
            raise raised
        return polled

    def committed(self, partitions: Sequence[TP]) -> dict[TP, Position | None] | None:
        asked = [TopicPartition(*tp) for tp in partitions]
        try:
            answer = self._consumer.committed(asked, timeout=1.0)
        except KafkaException as error:
            if error.args[0].retriable() or error.args[0].code() == KafkaError._TIMED_OUT:
                return None
            raise LaneFatal(f"the broker does not say what the group has committed: {error.args[0].str()}") from error
        if any(p.error is not None for p in answer):
            return None
        told = {TP(p.topic, p.partition): read_position(p.offset, p.metadata) for p in answer}
        return {tp: position if position.offset >= 0 else None for tp, position in told.items()}

    def start(self, partition: TP, offset: int | None) -> None:
        at = TopicPartition(*partition, OFFSET_BEGINNING if offset is None else offset)
        try:
            self._consumer.seek(at)
            self._consumer.resume([at])
        except KafkaException as error:  # such as after an offset out of range, which stops a partition for good
            why = error.args[0].str()
            raise LaneFatal(f"{partition.topic}-{partition.partition} cannot be read on: {why}") from error

    def pause(self, partition: TP) -> None:
        self._consumer.pause([TopicPartition(*partition)])

    def bounds(self, partition: TP) -> tuple[int, int]:
        try:
            low, high = self._consumer.get_watermark_offsets(TopicPartition(*partition), timeout=ANSWER_S)
        except KafkaException as error:
            raise BrokerUnreachable(f"the broker does not say where {partition.topic} begins: {error}") from error
        return low, high

    def group(self) -> object:
        return self._consumer.consumer_group_metadata()

    def members(self, patience_s: float = GROUP_S) -> set[str]:
        return static_members(self._admin, self._group, patience_s)

    def owners(self, partitions: Sequence[TP]) -> dict[TP, tuple[str, ...]]:
        with contextlib.closing(GroupOffsets(self._bootstrap, self._group, stable=False)) as offsets:
            told = offsets.of_all(partitions, GROUP_S)
        return {tp: owners for tp, committed in told.items() if (owners := read_owners(committed.note))}

    def leave(self) -> None:
        if self._incremental:
            return  # with KIP-848 librdkafka says of a static member only that it will be back
        # A static member that closes does not leave, one that unsubscribes does: it has no id from then on. Closed
        # before that, it would stay; closed then, it waits for the answer.
        until_s = time.monotonic() + LEAVE_S
        with contextlib.suppress(KafkaException), plainly():
            self._consumer.unsubscribe()
            while self._consumer.memberid() and time.monotonic() < until_s:
                self._consumer.poll(LEAVE_LOOK_S)  # runs the callbacks that give the partitions up

    def close(self) -> None:
        with contextlib.suppress(KafkaException), plainly():
            self._consumer.close()


def tps(partitions: Iterable[TopicPartition]) -> list[TP]:
    """Our name for theirs."""
    return [TP(p.topic, p.partition) for p in partitions]


class KafkaLogReader:
    """A `LogReader`: partitions by hand, no membership, no commits."""

    def __init__(self, bootstrap: str, name: str) -> None:
        self._reach = Reach(bootstrap)
        config = {**connection(bootstrap), "group.id": name, "client.id": name, "error_cb": self._reach.on_error}
        self._consumer = Consumer(READING | config | {"auto.offset.reset": "error"}, logger=kafka_log)
        self._admin = admin(bootstrap)
        self._identities = Identities(self._admin)
        # Without knowing the topics beforehand, the first fetch starts half a second late.
        try:
            self._consumer.list_topics(timeout=ANSWER_S)
        except KafkaException as error:
            raise BrokerUnreachable(f"the broker does not say what topics there are: {error.args[0].str()}") from error

    def follow(self, starts: Mapping[TP, int | None]) -> None:
        self._consumer.incremental_assign(
            [TopicPartition(*tp, OFFSET_BEGINNING if offset is None else offset) for tp, offset in starts.items()]
        )

    def unfollow(self, partitions: Iterable[TP]) -> None:
        self._consumer.incremental_unassign([TopicPartition(*tp) for tp in partitions])

    def poll(self, records_max: int, timeout_s: float) -> Polled:
        return poll(self._consumer, self._reach, records_max, timeout_s)

    def ends(self, partitions: Sequence[TP]) -> dict[TP, int]:
        return end_offsets(self._admin, partitions)

    def facts(self, topics: Sequence[str]) -> dict[str, LogFacts]:
        return log_facts(self._admin, topics)

    def identities(self, topics: Sequence[str]) -> dict[str, TopicNow]:
        return self._identities.told(topics)

    def close(self) -> None:
        self._consumer.close()
