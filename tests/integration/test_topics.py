"""Topics that were there before, with other settings: each difference is named, and mended without loss."""

from __future__ import annotations

import logging
import uuid

import pytest
from confluent_kafka import Producer
from confluent_kafka.admin import NewPartitions, NewTopic  # type: ignore[attr-defined]

from pipeline.adapters.avro.codec import codecs
from pipeline.adapters.kafka import admin
from pipeline.adapters.kafka.topic_settings import mend
from pipeline.adapters.kafka.topics import check_topics, create_topics, even_out, partition_counts, setting_differences
from pipeline.engine.plan import ServicePlan
from pipeline.errors import TopicError
from pipeline.model import TopicKind
from tests.helpers.support import until
from tests.simulation.worlds import tills as t


@pytest.fixture
def plan() -> ServicePlan:
    """The tills, whose topics are called otherwise in each test."""
    service, make = t.TOPOLOGY.services["tills"], codecs(t.TOPOLOGY.schemas)
    prefix = uuid.uuid4().hex[:8]
    own = ServicePlan(service, make).own_topics()
    return ServicePlan(service, make, {topic: f"{prefix}.{topic}" for topic, _ in own})


def made_before(kafka: str, plan: ServicePlan, configs: dict[TopicKind, dict[str, str]]) -> None:
    """Make some of the service's topics, by kind, and let `create_topics` make the others."""
    of = {kind: topic for topic, kind in plan.own_topics()}
    new = [NewTopic(of[kind], 1, 1, config=config) for kind, config in configs.items()]
    for future in admin(kafka).create_topics(new).values() if new else ():
        future.result(30)
    create_topics(admin(kafka), [plan], 1, 1)


def told(kafka: str, plan: ServicePlan) -> set[tuple[str, str]]:
    """The end of each topic's name, and the setting that is another."""
    return {(each.topic.partition(".")[2], each.setting) for each in setting_differences(admin(kafka), [plan])}


def test_what_is_created_is_as_it_has_to_be(kafka: str, plan: ServicePlan) -> None:
    made_before(kafka, plan, {})
    assert told(kafka, plan) == set()
    check_topics(admin(kafka), plan, "tills")


def test_each_setting_is_named_and_mended(kafka: str, plan: ServicePlan) -> None:
    configs = {
        TopicKind.STATE: {"cleanup.policy": "delete", "retention.ms": "60000"},
        TopicKind.EVENT: {"cleanup.policy": "compact", "retention.ms": "60000", "retention.bytes": "1000000"},
        TopicKind.COMMAND: {"message.timestamp.type": "CreateTime", "retention.ms": "60000"},
        TopicKind.DEADLINES: {"cleanup.policy": "compact,delete"},
    }
    made_before(kafka, plan, configs)
    named = {
        ("tills.state", "cleanup.policy"),
        *(("tills.event", setting) for setting in ("cleanup.policy", "retention.ms", "retention.bytes")),
        *(("tills.command", setting) for setting in ("message.timestamp.type", "retention.ms")),
        ("tills.deadlines", "cleanup.policy"),
    }
    assert told(kafka, plan) == named
    with pytest.raises(TopicError, match="pipeline topics check tills --fix") as refused:
        check_topics(admin(kafka), plan, "tills")
    assert all(topic in str(refused.value) and setting in str(refused.value) for topic, setting in named)
    mend(admin(kafka), setting_differences(admin(kafka), [plan]))
    assert told(kafka, plan) == set()
    check_topics(admin(kafka), plan, "tills")


def test_more_retention_than_needed_is_no_difference(kafka: str, plan: ServicePlan) -> None:
    configs = {TopicKind.COMMAND: {"retention.ms": "-1", "message.timestamp.type": "LogAppendTime"}}
    made_before(kafka, plan, configs)
    assert told(kafka, plan) == set()


def test_what_loses_nothing_is_warned_of(kafka: str, plan: ServicePlan, caplog: pytest.LogCaptureFixture) -> None:
    made_before(kafka, plan, {TopicKind.COMMAND: {"message.timestamp.type": "CreateTime"}})
    with caplog.at_level(logging.WARNING):
        check_topics(admin(kafka), plan, "tills")
    assert "tills.command: message.timestamp.type is CreateTime, and has to be LogAppendTime" in caplog.text


def test_partitions_that_an_empty_topic_lacks_are_added_and_those_of_others_not(kafka: str, plan: ServicePlan) -> None:
    create_topics(admin(kafka), [plan], 1, 1)
    source, others = next((source, others) for source, others in plan.co_partitioned().items() if len(others) > 1)
    for future in admin(kafka).create_partitions([NewPartitions(source, 3)]).values():
        future.result(30)
    until("the broker knows", lambda: partition_counts(admin(kafka))[source] == 3)
    with pytest.raises(TopicError, match="pipeline topics check tills --fix"):
        check_topics(admin(kafka), plan, "tills")
    producer = Producer({"bootstrap.servers": kafka})
    producer.produce(others[0], b"x", b"a key that must not move")
    assert producer.flush(30) == 0
    grown = even_out(admin(kafka), [plan])
    assert {topic for topic, *_ in grown} >= {*others[1:]}
    assert all((before, after) == (1, 3) for _, before, after in grown)
    assert others[0] not in {topic for topic, *_ in grown}
    with pytest.raises(TopicError, match=rf"{others[0]}.*has to be copied to a new one"):
        check_topics(admin(kafka), plan, "tills")
    assert even_out(admin(kafka), [plan]) == []
