"""Clients that have lost all brokers for good, since one said that there are none (librdkafka #5301)."""

from __future__ import annotations

import time
from types import SimpleNamespace
from typing import Any

import pytest
from confluent_kafka import Consumer, KafkaError, Producer
from confluent_kafka.admin import AdminClient, NewTopic

from pipeline.adapters.kafka import client_watch
from pipeline.adapters.kafka.asking import KafkaBroker
from pipeline.adapters.kafka.client_watch import Reach, reaches
from pipeline.adapters.kafka.cluster import admin_client
from pipeline.adapters.kafka.group_offsets import GroupOffsets
from pipeline.adapters.kafka.producing import KafkaProducer
from pipeline.adapters.kafka.reading import KafkaGroupConsumer, KafkaLogReader
from pipeline.client.commands import Ready
from pipeline.client.sending import Sending
from pipeline.engine.ports import TP
from pipeline.errors import BrokerUnreachable, TransactionAborted
from tests.faults.harness.cluster import Cluster
from tests.helpers.support import until

TOPIC = "lost"
REPLIES = "asker.reply"
MORE = 60  # topics, as it takes long to read about many, and the client is the more likely to get lost
TRIES = 200


@pytest.fixture(scope="module")
def lossy(cluster: Cluster) -> Cluster:
    """A cluster whose broker can be made to name none."""
    topics = [NewTopic(TOPIC, 1, 1), NewTopic(REPLIES, 1, 1), *(NewTopic(f"more-{n}", 4, 1) for n in range(MORE))]
    for future in admin_client(cluster.bootstrap).create_topics(topics).values():
        future.result()
    admin_client(cluster.proxied)  # as each process has one; by it others are seen to reach the brokers
    return cluster


def lose(cluster: Cluster, client: Any) -> None:
    """Have a client of librdkafka lose its brokers. It takes some tries, as it does so by a race."""
    proxy = cluster.nodes[0].proxy
    assert reaches(client)
    for _ in range(TRIES):
        proxy.hide_brokers()
        reaches(client)
        proxy.heal()
        if not reaches(client) and not reaches(client):  # it may just take its time
            assert proxy.hidden
            return
    pytest.fail(f"it has its brokers still, after {TRIES} tries")


def say_lost(monkeypatch: pytest.MonkeyPatch, watch: Reach, client: Any) -> None:
    """Have it look as if a client had lost its brokers: one that sends or fetches hardly does."""
    monkeypatch.setattr(client_watch, "reaches", lambda asked: asked is not client)
    watch.on_error(KafkaError(KafkaError._ALL_BROKERS_DOWN))
    time.sleep(client_watch.BY_ITSELF_S)


def test_the_admin_client_has_another_behind_it(lossy: Cluster) -> None:
    admin: Any = admin_client(lossy.proxied)
    lost: AdminClient = admin._client
    lose(lossy, lost)
    assert TOPIC in admin.list_topics(timeout=10.0).topics
    assert admin._client is not lost


def test_a_group_consumer_says_so_and_another_reads_on(lossy: Cluster) -> None:
    consumer = KafkaGroupConsumer(lossy.proxied, "group", "group-0", "group")
    lose(lossy, consumer._consumer)
    with pytest.raises(BrokerUnreachable, match="lost its brokers"):
        until("it is noticed", lambda: consumer.poll(1, 0.1) is None, 30.0)
    consumer.close()


def test_a_log_reader_says_so(lossy: Cluster) -> None:
    reader = KafkaLogReader(lossy.proxied, "reader")
    lose(lossy, reader._consumer)
    reader.follow({TP(TOPIC, 0): None})
    with pytest.raises(BrokerUnreachable, match="lost its brokers"):
        until("it is noticed", lambda: reader.poll(1, 0.1) is None, 30.0)
    reader.close()


def test_offsets_of_a_group_are_read_by_another_consumer(lossy: Cluster) -> None:
    offsets = GroupOffsets(lossy.proxied, "some-group")
    assert offsets.of_all([TP(TOPIC, 0)]) == {}
    lose(lossy, offsets._consumer)
    assert offsets.of_all([TP(TOPIC, 0)], 40.0) == {}
    offsets.close()


def test_a_lane_goes_on_with_another_producer(lossy: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    producer = KafkaProducer(lossy.proxied, "lane")
    lost = producer._producer
    producer.begin()
    producer.produce(TOPIC, b"key", b"aborted")
    say_lost(monkeypatch, producer._watch, lost)
    with pytest.raises(TransactionAborted, match="lost its brokers"):
        producer._raise_failure()
    producer.abort()
    assert producer._producer is not lost
    producer.begin()
    producer.produce(TOPIC, b"key", b"value")
    producer.flush()
    with Consumer({"bootstrap.servers": lossy.bootstrap, "group.id": "lane"}) as consumer:
        producer.commit({}, consumer.consumer_group_metadata())
    producer.close()


def test_a_client_sends_by_another_producer(lossy: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    sending, delivered = Sending(lossy.proxied, "asker", lambda _: None), list[object]()

    def send(n: int) -> None:
        ready = Ready(f"{n}", "aggregate", TOPIC, b"key", b"%d" % n, 0)
        sending.queue(ready, lambda error, _: delivered.append(error))

    send(0)
    sending.flush(30.0)
    lost = sending._producer
    say_lost(monkeypatch, sending._watch, lost)
    sending._poll()
    send(1)
    sending.flush(60.0)
    assert sending._producer is not lost
    assert delivered == [None, None]
    sending.close(10.0)


class Listening(Sending):
    """One that shows what it reads replies by."""

    def _open_reader(self, reach: Reach, offset: int) -> Consumer:
        self.listens_by, self.reach = super()._open_reader(reach, offset), reach
        return self.listens_by


def test_replies_are_read_by_another_consumer(lossy: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    asking = Listening(lossy.proxied, "asker", lambda data: SimpleNamespace(body=data))
    question = asking.question()
    until("it listens", lambda: hasattr(asking, "reach"))
    lost = asking.listens_by
    say_lost(monkeypatch, asking.reach, lost)
    until("another listens", lambda: asking.listens_by is not lost)
    topic, partition, key = question.reply_to.split("/")
    producer = Producer({"bootstrap.servers": lossy.bootstrap})
    producer.produce(topic, b"a reply", key, int(partition))
    producer.flush()
    assert question.reply.result(60.0).body == b"a reply"  # type: ignore[comparison-overlap]  # the test decodes it
    asking.close(10.0)


def test_barriers_are_written_by_another_producer(lossy: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    broker, partition = KafkaBroker(lossy.proxied, lambda _: 1), [TP(TOPIC, 0)]
    assert broker.barriers(partition)
    lost = broker._producer
    say_lost(monkeypatch, broker._watch, lost)
    broker.barriers(partition)
    assert broker.barriers(partition)
    assert broker._producer is not lost
    broker.close()
