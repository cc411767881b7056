"""Sends commands: what a program outside the pipeline uses to ask something of an aggregate."""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable
from typing import Any

from confluent_kafka import KafkaError, Message, Producer

from pipeline.adapters.avro.codec import Codec
from pipeline.adapters.avro.registry import Registry
from pipeline.adapters.kafka import COMMON, admin, on_error
from pipeline.errors import BrokerUnreachable, TopologyError
from pipeline.model import CommandMessage, TopicKind
from pipeline.topology import Topology

FLUSH_S = 60.0


class Client:
    """Queues commands and sends them in batches; `flush` says when all are stored. Not for use by several threads."""

    def __init__(self, bootstrap: str, topology: Topology) -> None:
        admin(bootstrap)  # an unreachable broker is told now, not when the queue is full
        registry = Registry(topology.schemas)
        self._encoders: dict[str, tuple[str, Callable[[Any], bytes]]] = {}
        for service in topology.services.values():
            for aggregate in service.aggregates:
                topic = TopicKind.COMMAND.topic(aggregate.name)
                codec = Codec(registry, topic, CommandMessage, aggregate.command)
                self._encoders[aggregate.name] = (topology.names.get(topic, topic), codec.encode)
        self._failed: list[str] = []
        self._producer = Producer(
            COMMON
            | {
                "bootstrap.servers": bootstrap,
                "enable.idempotence": True,
                "partitioner": "murmur2_random",
                "linger.ms": 10,
                "queue.buffering.max.messages": 100_000,
                "delivery.report.only.error": True,
                "on_delivery": self._not_delivered,
                "error_cb": on_error,
            }
        )

    def send(self, aggregate: str, key: str, command: Any, *, command_id: str = "", correlation_id: str = "") -> str:
        """Queues `command` for the aggregate `key`; returns the command's id.

        A command that does not fit its schema raises EncodeError, an unknown aggregate TopologyError, and nothing is
        sent. Waits while the queue is full.
        """
        if aggregate not in self._encoders:
            raise TopologyError(f"no aggregate {aggregate!r}; there are {', '.join(sorted(self._encoders))}")
        topic, encode = self._encoders[aggregate]
        command_id = command_id or str(uuid.uuid4())
        message = CommandMessage(command_id, correlation_id or command_id, None, int(time.time() * 1000), command)
        value, key_bytes = encode(message), key.encode()
        while True:
            try:
                self._producer.produce(topic, value, key_bytes)
            except BufferError:
                self._producer.poll(0.1)
            else:
                return command_id

    def flush(self) -> None:
        """Waits until the broker has stored all that was sent. Raises BrokerUnreachable where it has not."""
        left = self._producer.flush(FLUSH_S)
        if left or self._failed:
            why = self._failed[0] if self._failed else f"no answer within {FLUSH_S:.0f} s"
            raise BrokerUnreachable(f"{left + len(self._failed)} commands were not stored: {why}; send them again")

    def _not_delivered(self, error: KafkaError | None, _: Message) -> None:
        if error is not None:
            self._failed.append(error.str())
