"""Topics as they were: what they were set to, and made anew with records to come that are older than any setting."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from concurrent.futures import Future
from typing import Any

from confluent_kafka import KafkaException, TopicPartition
from confluent_kafka.admin import (  # type: ignore[attr-defined]  # there, if not in __all__
    AdminClient,
    AlterConfigOpType,
    ConfigEntry,
    ConfigResource,
    ConfigSource,
    NewTopic,
    ResourceType,
)

from pipeline.adapters.kafka.cluster import ANSWER_S
from pipeline.adapters.kafka.exact.writing import RECORD_BYTES_MAX
from pipeline.adapters.kafka.topics import wait_for
from pipeline.errors import TopicError

# While records come in: none is too old or too large, each keeps its time, and nothing is compacted.
RAW = {
    "cleanup.policy": "delete",
    "retention.ms": "-1",
    "retention.bytes": "-1",
    "message.timestamp.type": "CreateTime",
    "max.message.bytes": str(RECORD_BYTES_MAX),
}


def settings_of(client: AdminClient, topics: Collection[str]) -> dict[str, dict[str, str]]:
    """Return what each topic was set to, the broker's own settings left out. Raises TopicError."""
    resources = {topic: ConfigResource(ResourceType.TOPIC, topic) for topic in topics}
    asked = client.describe_configs(list(resources.values()), request_timeout=ANSWER_S) if resources else {}
    try:
        told = {topic: asked[resource].result() for topic, resource in resources.items()}
    except KafkaException as error:
        raise TopicError(f"the broker does not say what topics are set to: {error.args[0].str()}") from None
    own = ConfigSource.DYNAMIC_TOPIC_CONFIG.value
    return {topic: {n: e.value for n, e in of.items() if int(e.source) == own} for topic, of in told.items()}


def cluster_id(client: AdminClient) -> str:
    """Return what a cluster calls itself."""
    return str(client.list_topics(timeout=ANSWER_S).cluster_id)


def create_raw(client: AdminClient, topics: Mapping[str, int], replication: int) -> None:
    """Create topics with so many partitions each, for records to come. Raises TopicError."""
    new = [NewTopic(name, count, replication, config=RAW) for name, count in topics.items()]
    for topic, future in client.create_topics(new).items() if new else ():
        try:
            future.result()
        except KafkaException as error:
            raise TopicError(f"cannot create topic {topic}: {error.args[0].str()}") from None
    wait_for(client, topics)


def settle(client: AdminClient, topic: str, settings: Mapping[str, str], lows: Mapping[int, int]) -> None:
    """Delete what was before each partition's first record, and give a topic the settings that it had."""
    if before := [TopicPartition(topic, n, low) for n, low in lows.items() if low]:
        _wait(topic, "delete records of", client.delete_records(before, request_timeout=ANSWER_S))
    resource = ConfigResource(ResourceType.TOPIC, topic)
    for name in {*RAW, *settings}:
        kind = AlterConfigOpType.SET if name in settings else AlterConfigOpType.DELETE
        value = settings.get(name, RAW.get(name, ""))
        resource.add_incremental_config(ConfigEntry(name, value, incremental_operation=kind))
    _wait(topic, "change the settings of", client.incremental_alter_configs([resource]))


def _wait(topic: str, what: str, futures: Mapping[Any, Future[Any]]) -> None:
    for future in futures.values():
        try:
            future.result()
        except KafkaException as error:
            raise TopicError(f"cannot {what} {topic}: {error.args[0].str()}") from None
