"""Requests that reach the broker late, after the client has given their connection up and asked again."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest
from confluent_kafka import Consumer
from confluent_kafka.admin import NewTopic

from pipeline.adapters.kafka.cluster import admin_client
from pipeline.adapters.kafka.producing import KafkaProducer
from pipeline.errors import TransactionAborted
from tests.faults.harness.cluster import Cluster
from tests.faults.harness.proxy import END_TXN

TOPIC = "late"


@pytest.fixture(scope="module")
def group(cluster: Cluster) -> Iterator[object]:
    for future in admin_client(cluster.bootstrap).create_topics([NewTopic(TOPIC, 1, 1)]).values():
        future.result()
    consumer = Consumer({"bootstrap.servers": cluster.bootstrap, "group.id": TOPIC})
    yield consumer.consumer_group_metadata()
    consumer.close()


def committed(cluster: Cluster) -> list[bytes | None]:
    """What readers of committed records see."""
    settings = {"auto.offset.reset": "earliest", "isolation.level": "read_committed", "enable.partition.eof": True}
    settings["enable.auto.commit"] = False  # each call reads all
    consumer = Consumer({"bootstrap.servers": cluster.bootstrap, "group.id": f"{TOPIC}-reader", **settings})
    consumer.subscribe([TOPIC])
    values = []
    while True:
        message = consumer.poll(30.0)
        assert message is not None
        if message.error() is not None:
            break
        values.append(message.value())
    consumer.close()
    return values


@pytest.mark.parametrize("lost", ["as it was idle", "by a reset"])
def test_a_commit_that_arrives_late_ends_no_later_transaction(cluster: Cluster, group: object, lost: str) -> None:
    proxy, before = cluster.nodes[0].proxy, committed(cluster)
    producer = KafkaProducer(cluster.proxied, f"late {lost}")
    producer.begin()
    producer.produce(TOPIC, b"key", b"first")
    proxy.delay(END_TXN)
    if lost == "by a reset":
        threading.Thread(target=lambda: proxy.delayed.wait(30.0) and proxy.give_up()).start()
    producer.commit({}, group)
    assert proxy.delayed.is_set()
    producer.begin()
    producer.produce(TOPIC, b"key", b"second")
    producer.flush()

    proxy.deliver()

    producer.abort()
    producer.close()
    assert committed(cluster) == [*before, b"first"]


def test_a_producer_whose_connection_stays_is_not_replaced(cluster: Cluster, group: object) -> None:
    producer = KafkaProducer(cluster.proxied, "steady")
    client = producer._producer
    for _ in range(3):
        producer.begin()
        producer.produce(TOPIC, b"key", b"value")
        producer.commit({}, group)
    producer.begin()
    assert producer._producer is client
    producer.abort()
    producer.close()


def test_a_producer_whose_records_were_not_taken_in_time_is_replaced(cluster: Cluster, group: object) -> None:
    """They may arrive later, in the next transaction if it were of this epoch; and the client may be what is stuck."""
    before, producer = committed(cluster), KafkaProducer(cluster.proxied, "late records")
    client = producer._producer
    producer.begin()
    producer.produce(TOPIC, b"key", b"too late")
    with pytest.raises(TransactionAborted, match="the broker has not taken 1 records within 0 s"):
        producer.flush(0.0)
    producer.abort()
    producer.begin()
    assert producer._producer is not client
    producer.produce(TOPIC, b"key", b"again")
    producer.commit({}, group)
    producer.close()
    assert committed(cluster) == [*before, b"again"]
