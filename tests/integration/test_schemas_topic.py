"""The topic of schemas: who writes puts them there once, and readers without any file of the writer's learn them."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import Producer
from confluent_kafka.admin import NewTopic  # type: ignore[attr-defined]

from pipeline.adapters.avro.registry import Registry, Written
from pipeline.adapters.avro.wire.identity import schema_id
from pipeline.adapters.kafka import admin
from pipeline.adapters.kafka.schemas.topic import SchemasTopic
from pipeline.adapters.kafka.topics import delete_topics, partition_counts
from pipeline.errors import NotKnownYet, SchemaError, TopicError
from pipeline.model.records.topics import SCHEMAS_TOPIC
from tests.helpers.schema_changes import record, x
from tests.helpers.support import until

FIRST, SECOND = record("Row", x("int")), record("Row", x("long"))
ID = schema_id(FIRST)


@pytest.fixture
def broker(kafka: str) -> str:
    """A broker whose topic is there, and empty."""
    without(kafka)
    admin(kafka).create_topics([NewTopic(SCHEMAS_TOPIC, 1, 1, config={"cleanup.policy": "compact"})])[
        SCHEMAS_TOPIC
    ].result(30)
    until("it appears", lambda: SCHEMAS_TOPIC in partition_counts(admin(kafka)))
    return kafka


def without(kafka: str) -> None:
    if SCHEMAS_TOPIC in partition_counts(admin(kafka)):
        delete_topics(admin(kafka), [SCHEMAS_TOPIC])
        until("it is gone", lambda: SCHEMAS_TOPIC not in partition_counts(admin(kafka)))


def registry(path: Path, *schemas: Any) -> Registry:
    path.mkdir(exist_ok=True)
    for schema in schemas:
        (path / "a.row.avsc").write_text(json.dumps(schema))
        Registry(path).register()
    return Registry(path)


def test_each_version_is_written_once_and_learned_by_those_without_the_file(broker: str, tmp_path: Path) -> None:
    mine = registry(tmp_path / "mine", FIRST, SECOND)
    versions = mine.versions(["a.row"])
    assert [each.schema for each in versions] == [FIRST, SECOND]
    assert SchemasTopic(broker, mine).publish(versions) == versions
    assert SchemasTopic(broker, mine).publish(versions) == []
    theirs = registry(tmp_path / "theirs")
    with pytest.raises(NotKnownYet):
        theirs.written_with(ID, "a.row")
    SchemasTopic(broker, theirs).catch_up()
    assert theirs.written_with(ID, "a.row") == FIRST
    assert theirs.written_with(schema_id(SECOND), "a.row") == SECOND
    with pytest.raises(NotKnownYet):
        theirs.written_with(ID, "b.row")


def test_a_follower_learns_what_is_published_later(broker: str, tmp_path: Path) -> None:
    theirs = registry(tmp_path / "theirs")
    following = SchemasTopic(broker, theirs)
    following.catch_up()
    following.follow()
    try:
        mine = registry(tmp_path / "mine", FIRST)
        SchemasTopic(broker, mine).publish(mine.versions(["a.row"]))

        def learned() -> bool:
            try:
                return bool(theirs.written_with(ID, "a.row") == FIRST)
            except NotKnownYet:
                return False

        until("it is learned", learned)
    finally:
        following.close()


def test_without_the_topic_nothing_is_known_and_nothing_published(kafka: str, tmp_path: Path) -> None:
    without(kafka)
    mine = registry(tmp_path / "mine", FIRST)
    SchemasTopic(kafka, mine).catch_up()
    with pytest.raises(TopicError, match=r"no topic pipeline\.schemas.* pipeline topics create"):
        SchemasTopic(kafka, mine).publish(mine.versions(["a.row"]))


def test_a_number_that_two_manifests_have_counted_is_told(broker: str, tmp_path: Path) -> None:
    mine = registry(tmp_path / "mine")
    SchemasTopic(broker, mine).publish([Written(4, "a.row", FIRST)])
    with pytest.raises(SchemaError, match=r"id 4 of a\.row is another schema"):
        SchemasTopic(broker, mine).publish([Written(4, "a.row", SECOND)])


@pytest.mark.parametrize(
    "value",
    [
        b"no JSON",
        b"[]",
        json.dumps({"id": 4, "topic": "a.row"}).encode(),
        json.dumps({"id": 4, "topic": "a.row", "schema": {"type": "no"}}).encode(),
        json.dumps({"id": ID, "topic": "a.row", "schema": SECOND}).encode(),  # not that of its content
        None,
    ],
)
def test_what_says_no_schema_is_stepped_over(
    broker: str, tmp_path: Path, value: bytes | None, caplog: pytest.LogCaptureFixture
) -> None:
    producer = Producer({"bootstrap.servers": broker})
    producer.produce(SCHEMAS_TOPIC, value, b"a.row/4", 0)
    assert producer.flush(30) == 0
    mine = registry(tmp_path / "mine", FIRST)
    with caplog.at_level(logging.WARNING):
        assert SchemasTopic(broker, mine).publish(mine.versions(["a.row"])) == mine.versions(["a.row"])
    assert "offset 0 says no schema" in caplog.text
