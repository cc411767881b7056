"""What the lane relies on in Kafka and in its adapters: transactions, fencing, ends, groups."""

import uuid
from collections.abc import Iterator
from contextlib import closing

import pytest
from confluent_kafka.admin import NewTopic  # type: ignore[attr-defined]

from pipeline.adapters.kafka import KafkaGroupConsumer, KafkaLogReader, KafkaProducer, admin
from pipeline.errors import LaneFatal, TransactionAborted
from pipeline.query.murmur2 import partition_of
from pipeline.runtime.ports import TP, Polled


@pytest.fixture
def topic(kafka: str) -> str:
    name = f"t-{uuid.uuid4().hex[:8]}"
    client = admin(kafka)  # held until the answer is there: a client that is collected answers nothing
    client.create_topics([NewTopic(name, 4, 1)])[name].result(30)
    return name


@pytest.fixture
def producer(kafka: str) -> Iterator[KafkaProducer]:
    with closing(KafkaProducer(kafka, f"tx-{uuid.uuid4().hex[:8]}")) as made:
        yield made


@pytest.fixture
def reader(kafka: str) -> Iterator[KafkaLogReader]:
    with closing(KafkaLogReader(kafka, f"reader-{uuid.uuid4().hex[:8]}")) as made:
        yield made


class Member:
    """A group member that notes what it is told."""

    def __init__(self, kafka: str, group: str, topics: list[str], instance: str = "one") -> None:
        self.consumer = KafkaGroupConsumer(kafka, group, f"{group}-{instance}", f"{group}@nowhere")
        self.partitions: set[TP] = set()
        self.consumer.subscribe(topics, self)

    def assigned(self, partitions: list[TP]) -> None:
        self.partitions |= set(partitions)

    def revoked(self, partitions: list[TP]) -> None:
        self.partitions -= set(partitions)

    lost = revoked

    def until(self, count: int) -> None:
        """Polls until that many partitions are assigned. Bounded by the number of polls."""
        for _ in range(300):
            if len(self.partitions) == count:
                return
            assert self.consumer.poll(10, 0.1) == Polled()  # all is paused
        pytest.fail(f"assigned {self.partitions}, not {count} partitions")


def read_to_end(reader: KafkaLogReader, tp: TP, start: int | None = None) -> tuple[list[bytes], int]:
    """Values of a partition and the offset of its stable end."""
    reader.follow({tp: start})
    values: list[bytes] = []
    try:
        for _ in range(100):
            polled = reader.poll(100, 0.1)
            values += [record.value() for record in polled.batches.get(tp, [])]
            if tp in polled.ends:
                return values, polled.ends[tp]
    finally:
        reader.unfollow([tp])
    pytest.fail("no end in sight")


def test_only_what_is_committed_is_read_and_the_end_is_behind_the_marker(
    topic: str, producer: KafkaProducer, reader: KafkaLogReader
) -> None:
    producer.begin()
    producer.produce(topic, b"k", b"aborted", 0)
    producer.flush()
    producer.abort()
    producer.begin()
    producer.produce(topic, b"k", b"committed", 0)
    commit_without_source(producer)
    values, end = read_to_end(reader, TP(topic, 0))
    assert values == [b"committed"]
    assert end == reader.ends([TP(topic, 0)])[TP(topic, 0)] == 4  # two records, two markers


def commit_without_source(producer: KafkaProducer) -> None:
    producer.flush()
    producer._guarded(producer._producer.commit_transaction)


def test_an_open_transaction_holds_the_stable_end_back_but_not_the_logs(
    topic: str, producer: KafkaProducer, reader: KafkaLogReader
) -> None:
    producer.begin()
    producer.produce(topic, b"k", b"open", 0)
    producer.flush()
    assert read_to_end(reader, TP(topic, 0)) == ([], 0)
    assert reader.ends([TP(topic, 0)]) == {TP(topic, 0): 1}
    producer.abort()


def test_flush_tells_the_offset_behind_the_last_record_of_each_partition(topic: str, producer: KafkaProducer) -> None:
    producer.begin()
    for n in range(3):
        producer.produce_last(topic, b"k", b"%d" % n, 0)
    producer.produce_last(topic, b"k", None, 2)
    producer.produce(topic, b"k", b"not asked for", 1)
    assert producer.flush() == {TP(topic, 0): 3, TP(topic, 2): 1}
    producer.abort()


def test_keys_are_spread_as_java_clients_spread_them(
    topic: str, producer: KafkaProducer, reader: KafkaLogReader
) -> None:
    keys = [f"key-{n}".encode() for n in range(40)]
    producer.begin()
    for key in keys:
        producer.produce(topic, key, key)
    commit_without_source(producer)
    for partition in range(4):
        values, _ = read_to_end(reader, TP(topic, partition))
        assert values == [key for key in keys if partition_of(key, 4) == partition]


def test_a_place_that_the_log_does_not_hold_is_told(topic: str, reader: KafkaLogReader) -> None:
    reader.follow({TP(topic, 0): 1000})
    for _ in range(100):
        if polled := reader.poll(10, 0.1).out_of_range:
            assert polled == {TP(topic, 0)}
            return
    pytest.fail("nothing was told")


def test_a_second_producer_of_the_same_id_fences_the_first(kafka: str, topic: str) -> None:
    with closing(KafkaProducer(kafka, f"tx-{topic}")) as first:
        first.begin()
        first.produce(topic, b"k", b"zombie", 0)
        first.flush()
        with closing(KafkaProducer(kafka, f"tx-{topic}")):
            first.produce(topic, b"k", b"zombie", 0)
            with pytest.raises((LaneFatal, TransactionAborted)):
                commit_without_source(first)


def test_positions_are_committed_with_the_transaction_or_not_at_all(
    kafka: str, topic: str, producer: KafkaProducer
) -> None:
    member = Member(kafka, f"g-{topic}", [topic])
    tp = TP(topic, 0)
    with closing(member.consumer):
        member.until(4)
        assert member.consumer.committed([tp]) == {tp: None}
        producer.begin()
        producer.produce(topic, b"k", b"v", 1)
        producer.commit({tp: 5}, member.consumer.group())
        assert member.consumer.committed([tp]) == {tp: 5}


def test_an_earlier_generation_of_the_group_cannot_commit(kafka: str, topic: str, producer: KafkaProducer) -> None:
    group = f"g-{topic}"
    first = Member(kafka, group, [topic], "one")
    with closing(first.consumer):
        first.until(4)
        stale = first.consumer.group()
        second = Member(kafka, group, [topic], "two")
        with closing(second.consumer):
            for _ in range(300):  # both have to poll for the group to come to its new generation
                first.consumer.poll(10, 0.02)
                second.consumer.poll(10, 0.02)
                if len(first.partitions) == len(second.partitions) == 2:
                    break
            assert len(second.partitions) == 2
            producer.begin()
            producer.produce(topic, b"k", b"v", 0)
            with pytest.raises(TransactionAborted):
                producer.commit({TP(topic, 0): 5}, stale)
            producer.abort()
            assert first.consumer.committed([TP(topic, 0)]) == {TP(topic, 0): None}
