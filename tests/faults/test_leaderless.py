"""Producers that a broker has told that a partition has no leader, and that send no more to it (librdkafka #5430)."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from confluent_kafka import OFFSET_BEGINNING, Consumer, TopicPartition
from confluent_kafka.admin import NewTopic

from pipeline.adapters.kafka.asking import KafkaBroker
from pipeline.adapters.kafka.client_watch import STUCK_S, ProducerWatch
from pipeline.adapters.kafka.cluster import admin_client
from pipeline.adapters.kafka.producing import KafkaProducer
from pipeline.client.commands import Ready
from pipeline.client.sending import Sending
from pipeline.engine.ports import TP
from pipeline.errors import TransactionAborted
from tests.faults.harness.cluster import Cluster

SAID = "Partition x(y)[0]: new leader-1 not found in cache"  # rare, and as rarely for good: a matter of moments


@pytest.fixture
def topic(cluster: Cluster, request: pytest.FixtureRequest) -> str:
    name = str(request.node.name)
    for future in admin_client(cluster.bootstrap).create_topics([NewTopic(name, 1, 1)]).values():
        future.result()
    return name


@contextmanager
def nothing_is_sent(cluster: Cluster) -> Iterator[None]:
    """Stop the broker; what is sent meanwhile arrives as it goes on."""
    cluster.nodes[0].pause()
    try:
        yield
    finally:
        cluster.nodes[0].resume()


def values(cluster: Cluster, topic: str) -> list[bytes | None]:
    """What readers of committed records see on the only partition."""
    settings = {"isolation.level": "read_committed", "enable.partition.eof": True, "group.id": topic}
    consumer = Consumer({"bootstrap.servers": cluster.bootstrap, **settings})
    consumer.assign([TopicPartition(topic, 0, OFFSET_BEGINNING)])
    found = []
    while (message := consumer.poll(30.0)) is not None and message.error() is None:
        found.append(message.value())
    assert message is not None
    consumer.close()
    return found


def until_stuck(said: ProducerWatch) -> None:
    """Have the client say that a partition has no leader, and nothing more for long."""
    said.log(4, "%s", SAID)
    time.sleep(STUCK_S + 0.1)


def test_a_client_sends_all_in_order(cluster: Cluster, topic: str) -> None:
    sending, delivered = Sending(cluster.bootstrap, "leaderless", lambda _: None), list[tuple[int, object]]()

    def send(n: int) -> None:
        ready = Ready(f"{n}", "aggregate", topic, b"key", b"%d" % n, 0)
        sending.queue(ready, lambda error, _: delivered.append((n, error)))

    send(0)
    sending.flush(30.0)
    first = sending._producer
    with nothing_is_sent(cluster):
        send(1)
        sending._producer.flush(0.5)  # it is under way
        for n in range(2, 100):
            send(n)
        until_stuck(sending._watch)
        sending._poll()
        send(100)
    sending.flush(60.0)

    assert sending._producer is not first
    assert delivered == [(n, None) for n in range(101)]
    assert list(dict.fromkeys(values(cluster, topic))) == [
        b"%d" % n for n in range(101)
    ]  # the second may be there twice


def test_a_lane_goes_on_with_another_producer(cluster: Cluster, topic: str) -> None:
    producer = KafkaProducer(cluster.bootstrap, topic)
    first = producer._producer
    producer.begin()
    with nothing_is_sent(cluster):
        producer.produce(topic, b"key", b"value")
        until_stuck(producer._watch)
        with pytest.raises(TransactionAborted, match="no leader"):
            producer.flush(60.0)
    producer.abort()
    assert producer._producer is not first
    producer.begin()
    producer.produce(topic, b"key", b"value")
    producer.flush()
    with Consumer({"bootstrap.servers": cluster.bootstrap, "group.id": topic}) as consumer:
        producer.commit({}, consumer.consumer_group_metadata())
    producer.close()
    assert values(cluster, topic) == [b"value"]


def test_barriers_are_written_by_another_producer(cluster: Cluster, topic: str) -> None:
    broker, partition = KafkaBroker(cluster.bootstrap, lambda _: 1), [TP(topic, 0)]
    assert broker.barriers(partition)
    first = broker._producer
    with nothing_is_sent(cluster):
        broker._watch.log(4, "%s", SAID)
        assert not broker.barriers(partition)
    assert broker.barriers(partition)
    assert broker._producer is not first
    broker.close()


def test_a_producer_that_has_sent_all_is_replaced_too(cluster: Cluster, topic: str) -> None:
    """The partition without a leader may be one that it has sent nothing to since."""
    sending, delivered = Sending(cluster.bootstrap, "leaderless", lambda _: None), list[object]()
    first = sending._producer
    sending.queue(Ready("id", "aggregate", topic, b"key", b"value", 0), lambda error, _: delivered.append(error))
    sending._watch.log(4, "%s", SAID)
    sending.flush(30.0)
    sending._poll()
    assert sending._producer is first
    time.sleep(STUCK_S + 0.1)
    sending._poll()
    assert sending._producer is not first
    assert delivered == [None]
    assert values(cluster, topic) == [b"value"]
