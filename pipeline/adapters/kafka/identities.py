"""Which topics the broker has, asked without waiting for its answer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import Future
from contextlib import suppress
from typing import Any

from confluent_kafka import KafkaException, TopicCollection
from confluent_kafka.admin import AdminClient

from pipeline.adapters.kafka.cluster import ANSWER_S, identity_of


class Identities:
    """The identities of topics, as of the last answer. One question is under way at most."""

    def __init__(self, client: AdminClient) -> None:
        self._client = client
        self._asked: Mapping[str, Future[Any]] = {}
        self._told: dict[str, int] = {}

    def told(self, topics: Sequence[str]) -> dict[str, int]:
        """Return what has been told; then ask for these topics. A topic of which nothing is heard is left out."""
        if all(future.done() for future in self._asked.values()):
            self._told = {}
            for topic, future in self._asked.items():
                with suppress(KafkaException):  # it is not there, or the broker is away
                    self._told[topic] = identity_of(future.result())
            self._asked = {}
            with suppress(KafkaException):
                self._asked = self._client.describe_topics(TopicCollection(list(topics)), request_timeout=ANSWER_S)
        return self._told
