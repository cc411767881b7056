"""The brokers themselves: who they are, their settings, replicas that lag, what their clocks say, what one may do."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from confluent_kafka import KafkaException, Message, Producer, TopicCollection
from confluent_kafka.admin import AdminClient, ConfigResource, ResourceType  # type: ignore[attr-defined]  # there, if not in __all__

from pipeline.adapters.kafka.cluster import ANSWER_S, COMMON, TRANSACTION_S, asked_again, on_error
from pipeline.adapters.kafka.connection import connection
from pipeline.engine.ports import TP
from pipeline.errors import BrokerUnreachable
from pipeline.model import BARRIER

LOG_APPEND_TIME = 2  # how confluent-kafka calls the kind of a record's time that the broker gives


class Brokers(NamedTuple):
    """A cluster. `leaderless`: partitions that no broker leads; `behind`: those with replicas out of sync."""

    cluster: str
    nodes: Sequence[str]
    leaderless: Sequence[TP]
    behind: Sequence[TP]


def brokers(client: AdminClient, topics: Iterable[str]) -> Brokers:
    """Return the cluster's brokers, and which of these topics' partitions are not as they should be."""
    told = asked_again("the broker does not say who the brokers are: %s", lambda: client.list_topics(timeout=ANSWER_S))
    leaderless, behind = [], []
    for topic in sorted(told.topics.keys() & set(topics)):
        for n, partition in sorted(told.topics[topic].partitions.items()):
            if partition.leader < 0:
                leaderless.append(TP(topic, n))
            elif len(partition.isrs) < len(partition.replicas):
                behind.append(TP(topic, n))
    nodes = [f"{node.host}:{node.port}" for _, node in sorted(told.brokers.items())]
    return Brokers(told.cluster_id or "?", nodes, leaderless, behind)


def broker_settings(client: AdminClient) -> dict[str, dict[str, str]]:
    """Return the settings of each broker, by its id."""
    told = asked_again("the broker does not say who the brokers are: %s", lambda: client.list_topics(timeout=ANSWER_S))
    resources = [ConfigResource(ResourceType.BROKER, str(number)) for number in sorted(told.brokers)]

    def ask() -> dict[str, dict[str, str]]:
        answers = client.describe_configs(resources, request_timeout=ANSWER_S)
        return {r.name: {name: each.value for name, each in f.result().items()} for r, f in answers.items()}

    return asked_again("the broker does not say what its settings are: %s", ask)


def clock_ahead_s(bootstrap: str, topic: str) -> float | None:
    """Return by how many seconds the broker's clock is ahead of this machine's; None if it stamps no records there.

    Writes a barrier to the first partition of a command topic, as a read does: it is stepped over. Raises
    BrokerUnreachable.
    """
    stored: list[Message] = []
    failed: list[str] = []

    def delivered(error: Any, message: Message) -> None:
        if error is None:
            stored.append(message)
        else:
            failed.append(error.str())

    config = COMMON | {**connection(bootstrap), "error_cb": on_error, "linger.ms": 0}
    producer = Producer(config | {"message.timeout.ms": int(ANSWER_S * 1000)})
    ahead: list[float] = []
    for _ in range(2):  # the first one connects, too
        before = time.time()
        producer.produce(topic, partition=0, headers=[BARRIER], on_delivery=delivered)
        producer.flush(ANSWER_S)
        after = time.time()
        if failed or not stored:
            raise BrokerUnreachable(f"{topic} cannot be written: {failed[0] if failed else 'no answer'}; try again")
        kind, time_ms = stored[-1].timestamp()
        if kind != LOG_APPEND_TIME:
            return None
        ahead.append(time_ms / 1000 - min(max(time_ms / 1000, before), after))  # within the call there is no telling
    return min(ahead, key=abs)


def missing_rights(client: AdminClient, wanted: Mapping[str, Sequence[str]]) -> dict[str, list[str]]:
    """Return which operations on which topics this user lacks, of those wanted; missing topics are left out."""
    if not wanted:
        return {}

    def ask() -> dict[str, list[str]]:
        futures = client.describe_topics(
            TopicCollection(list(wanted)), include_authorized_operations=True, request_timeout=ANSWER_S
        )
        missing: dict[str, list[str]] = {}
        for topic, future in futures.items():
            try:
                allowed = {each.name for each in future.result().authorized_operations or ()}
            except KafkaException as error:
                if error.args[0].name() == "UNKNOWN_TOPIC_OR_PART":
                    continue
                allowed = set()
            if lacks := [each for each in wanted[topic] if each not in allowed]:
                missing[topic] = lacks
        return missing

    return asked_again("the broker does not say what this user may do: %s", ask)


def transactional_error(bootstrap: str, transactional_id: str) -> str | None:
    """Return why a transaction under that id cannot be begun; None if it can. It is not begun."""
    config = COMMON | {**connection(bootstrap), "error_cb": on_error, "transactional.id": transactional_id}
    producer = Producer(config | {"transaction.timeout.ms": int(TRANSACTION_S * 1000)})
    try:
        producer.init_transactions(ANSWER_S)
    except KafkaException as error:
        return str(error.args[0].str())
    return None
