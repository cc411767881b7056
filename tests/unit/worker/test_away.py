"""A broker that is away is told of in a few lines, however often the clients tell of it."""

from __future__ import annotations

import logging
import threading

import pytest
from confluent_kafka import KafkaError

from pipeline.adapters.kafka import away
from pipeline.adapters.kafka.away import REPEAT_S, Cluster, Repeated
from tests.helpers.support import until

REFUSED = (
    "127.0.0.1:9092/bootstrap: Connect to ipv4#127.0.0.1:9092 failed: Connection refused (after {}ms in state CONNECT)"
)


def told(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records]


def test_a_broker_that_is_away_is_three_lines(caplog: pytest.LogCaptureFixture) -> None:
    back = threading.Event()
    cluster = Cluster(Repeated(), back.is_set, look_s=0.01)
    for n in range(1000):
        cluster.trouble(REFUSED.format(n % 3))
    until("it is told", lambda: len(told(caplog)) == 1)
    for n in range(1000):
        cluster.trouble(f"{n}/{n} brokers are down")
    back.set()
    until("it is back", lambda: len(told(caplog)) == 2)
    cluster.trouble("127.0.0.1:9092/1: Connection refused")  # told late, by a client that was not polled
    until("looked", lambda: not cluster._looking)
    assert told(caplog)[0].startswith("Kafka does not answer, waiting for it: 127.0.0.1:9092")
    assert told(caplog)[1].startswith("Kafka answers again, after ")
    assert len(told(caplog)) == 2


def test_for_how_long_is_told_now_and_then(caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(away, "REPEAT_S", 0.1)
    asked = iter([False] * 50)
    Cluster(Repeated(), lambda: next(asked, True), look_s=0.01).trouble("refused")
    until("it is back", lambda: any("answers again" in line for line in told(caplog)))
    assert any("has not answered for" in line for line in told(caplog))
    assert len(told(caplog)) < 20


def test_one_node_of_several_is_a_line_each_half_minute(caplog: pytest.LogCaptureFixture) -> None:
    now_s = [0.0]
    cluster = Cluster(Repeated(lambda: now_s[0]), lambda: True)
    for _ in range(2):
        for n in range(100):
            cluster.trouble(REFUSED.format(n))
        until("looked", lambda: not cluster._looking)
        now_s[0] += REPEAT_S
    assert [line for line in told(caplog) if "Connection refused" in line] == [f"Kafka: {REFUSED.format(0)}"] * 2


def test_of_a_clients_own_lines_those_of_connections_and_repeated_ones_are_left_out(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(away, "_repeated", Repeated())
    for n in range(100):
        away.kafka_log.log(logging.ERROR, "FAIL [users#consumer-1] [thrd:x]: Connect failed (after %dms)", n)
        away.kafka_log.log(logging.WARNING, "REQTMOUT [users#consumer-1] Timed out %d in-flight", n)
    away.kafka_log.log(logging.WARNING, "SESSTMOUT [users#consumer-1] session timed out")
    assert [line.split()[0] for line in told(caplog)] == ["REQTMOUT", "SESSTMOUT"]


def test_what_ends_a_client_is_always_told(caplog: pytest.LogCaptureFixture) -> None:
    for _ in range(2):
        away.on_error(KafkaError(KafkaError._FATAL, "fenced", fatal=True))
    assert told(caplog) == ["Kafka: fenced"] * 2
