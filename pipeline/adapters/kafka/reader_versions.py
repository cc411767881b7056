"""Which version of each projection readers get: the last record on `<projection>.versions`.

All workers follow these topics, so that all of them switch within moments, and each at once for all keys.
"""

from __future__ import annotations

import json
import logging
import threading
import time
from collections.abc import Mapping
from typing import Any, NamedTuple

from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaError, KafkaException, Producer, TopicPartition

from pipeline.adapters.kafka import ANSWER_S, COMMON, READING, admin, connection
from pipeline.adapters.kafka.away import kafka_log
from pipeline.adapters.kafka.client_watch import Reach
from pipeline.adapters.kafka.topics import partition_counts
from pipeline.errors import BrokerUnreachable, TopicError, TopologyError
from pipeline.model import TopicKind
from pipeline.model.projection.versions import VERSIONS_GROUP, declared_name, table_of
from pipeline.topology import Topology

log = logging.getLogger(__name__)

POLL_S = 0.2
READ_S = 30.0  # the topics have one record for each switch


class Known(NamedTuple):
    """What is known of a projection: the version that readers get, and the table of each declared one."""

    version: int
    tables: Mapping[int, str]


class Versions:
    """Follows the switches. Safe to use from any thread; costs nothing if no projection has had a second version.

    Raises BrokerUnreachable.
    """

    def __init__(self, bootstrap: str, topology: Topology) -> None:
        self._bootstrap, self._topology, self._said = bootstrap, topology, dict[str, int]()
        self._counts = partition_counts(admin(bootstrap))
        projections = {declared_name(p) for service in topology.services.values() for p in service.projections}
        topics = {topology.names.get(topic := TopicKind.VERSIONS.topic(name), topic): name for name in projections}
        self._names = {topic: name for topic, name in topics.items() if topic in self._counts}
        self._stopped = threading.Event()
        self._thread: threading.Thread | None = None
        if self._names:
            self._at = dict.fromkeys(self._names, OFFSET_BEGINNING)
            self._config = READING | {**connection(bootstrap), "group.id": VERSIONS_GROUP}
            self._open()
            self._read_all()
            self._thread = threading.Thread(target=self._follow, name="versions", daemon=True)
            self._thread.start()

    def current(self, projection: str) -> int:
        """Return the version that readers get. Before any switch: the first, or the oldest if none is the first."""
        if projection in self._said:
            return self._said[projection]
        declared = self._topology.versions.get(projection, {1: projection})
        if 1 in declared or self._topology.names.get(row := TopicKind.ROW.topic(projection), row) in self._counts:
            return 1
        return min(declared)

    def table(self, name: str) -> str:
        """Return the table that readers of `name` get."""
        if name in self._topology.versions:
            return table_of(name, self.current(name))
        return self._topology.table(name)

    def check(self) -> None:
        """Raise TopologyError if readers get a version that the code does not declare.

        Raises TopicError if the topic of its switches is missing.
        """
        for name in self._topology.versions:
            if name not in self._names.values():
                raise TopicError(
                    f"the broker does not have {TopicKind.VERSIONS.topic(name)}; create it with: pipeline projection "
                    f"rebuild {name}, or pipeline topics create {self._topology.name}"
                )
        for projection in {*self._said, *self._topology.versions}:
            declared, current = self._topology.versions.get(projection, {1: projection}), self.current(projection)
            if current not in declared:
                raise TopologyError(
                    f"readers of {projection!r} get version {current}, and this code declares "
                    f"{', '.join(map(str, declared))}: declare version {current} again, beside the others, until "
                    "readers are switched with: pipeline projection switch NAME"
                )

    def state(self) -> dict[str, Known]:
        """Return the projections that have several versions."""
        return {name: Known(self.current(name), tables) for name, tables in self._topology.versions.items()}

    def close(self) -> None:
        """End the thread."""
        self._stopped.set()
        if self._thread is not None:
            self._thread.join()
            self._consumer.close()

    # --- following ----------------------------------------------------------------------------------------------------

    def _open(self) -> None:
        self._reach = Reach(self._bootstrap)
        self._consumer = Consumer(self._config | {"error_cb": self._reach.on_error}, logger=kafka_log)
        self._consumer.assign([TopicPartition(topic, 0, offset) for topic, offset in self._at.items()])

    def _read_all(self) -> None:
        unread, deadline = set(self._names), time.monotonic() + READ_S
        while unread:
            unread.discard(self._poll())
            if time.monotonic() > deadline:
                raise BrokerUnreachable(f"the broker does not say which version of {min(unread)} readers get")

    def _follow(self) -> None:
        while not self._stopped.is_set():
            if self._reach.is_lost(self._consumer):
                self._consumer.close()
                self._open()
            self._poll()

    def _poll(self) -> str:
        """Read one record. Return the topic whose end was reached, or ""."""
        message = self._consumer.poll(POLL_S)
        if message is None:
            return ""
        topic, error = message.topic() or "", message.error()
        if error is not None:
            if error.code() != KafkaError._PARTITION_EOF:
                log.warning("reading %s: %s", topic, error.str())
                return ""
            return topic
        self._at[topic] = message.offset() + 1  # type: ignore[operator]  # one without error has an offset
        try:
            version = int(json.loads(message.value() or b"")["version"])
        except (ValueError, KeyError, TypeError) as bad:
            log.error("%s: offset %s does not say a version: %r", topic, message.offset(), bad)
            return ""
        name = self._names[topic]
        if self._thread is not None:
            log.info("readers of %s get version %d from now on", name, version, extra={"event": "switched"})
        self._said[name] = version
        return ""


def as_json(state: Mapping[str, Known]) -> dict[str, dict[str, Any]]:
    """Return the versions as JSON: keys are text."""
    return {name: each._asdict() for name, each in state.items()}


def say(bootstrap: str, topic: str, projection: str, version: int, by: str) -> None:
    """Switch readers to that version. Raises BrokerUnreachable if it is unknown whether the switch was stored."""
    failed: list[str] = []

    def stored(error: KafkaError | None, _: object) -> None:
        if error is not None:
            failed.append(error.str())

    producer = Producer(COMMON | {**connection(bootstrap), "enable.idempotence": True})
    value = json.dumps({"version": version, "by": by, "at_ms": time.time_ns() // 1_000_000})
    try:
        producer.produce(topic, value, projection, 0, on_delivery=stored)
        left = producer.flush(ANSWER_S)
    except KafkaException as raised:
        raise BrokerUnreachable(f"the broker does not take the switch: {raised.args[0].str()}") from None
    if left or failed:
        raise BrokerUnreachable(f"the broker has not taken the switch: {failed or 'no answer'}; switch again")
