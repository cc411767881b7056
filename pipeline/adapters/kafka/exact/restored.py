"""What a cluster was restored from: a topic that a restore keeps, and with which it goes on after a kill.

Records: the point under `POINT`; each topic that is complete, with its identity, under its name; `DONE` at the end.
"""

from __future__ import annotations

import json
import time
from contextlib import closing
from typing import Any, NamedTuple

from confluent_kafka import KafkaException, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic  # type: ignore[attr-defined]  # there, if not in __all__

from pipeline.adapters.kafka.away import kafka_log
from pipeline.adapters.kafka.cluster import ANSWER_S, COMMON, RETRY_PAUSE_S, on_error
from pipeline.adapters.kafka.connection import connection
from pipeline.adapters.kafka.reading import KafkaLogReader
from pipeline.adapters.kafka.resetting import commit_offsets
from pipeline.adapters.kafka.topics import partition_counts, wait_for
from pipeline.engine.ports import TP
from pipeline.errors import BrokerUnreachable, TopicError
from pipeline.model.records.topics import RESTORED_TOPIC, SCHEMAS_TOPIC

POINT, DONE = "restore", "done"
PLACE = TP(RESTORED_TOPIC, 0)


def restored_mark(bootstrap: str, client: AdminClient) -> str:
    """Return what tells a restored cluster from any other; empty if it never was. Raises BrokerUnreachable."""
    return str(Restored(bootstrap, client).told.get(DONE, {}).get("mark", ""))


class Offset(NamedTuple):
    """A group's offset of a partition, and the note beside it."""

    tp: TP
    offset: int
    note: str


class Restored:
    """The topic, as read when this is made. Raises BrokerUnreachable, TopicError."""

    def __init__(self, bootstrap: str, client: AdminClient) -> None:
        self._bootstrap, self._admin = bootstrap, client
        self.told: dict[str, Any] = {}
        if RESTORED_TOPIC in partition_counts(client):
            self._read()

    def _read(self) -> None:
        with closing(KafkaLogReader(self._bootstrap, SCHEMAS_TOPIC)) as reader:
            end, at, deadline_s = reader.ends([PLACE])[PLACE], 0, time.monotonic() + ANSWER_S
            reader.follow({PLACE: None})
            while at < end:
                polled = reader.poll(1_000, RETRY_PAUSE_S)
                for record in polled.batches.get(PLACE, ()):
                    self.told[record.key().decode()] = json.loads(record.value())
                    at = record.offset() + 1
                at = max(at, polled.ends.get(PLACE, 0))
                if time.monotonic() > deadline_s:
                    raise BrokerUnreachable(f"{RESTORED_TOPIC} cannot be read within {ANSWER_S:.0f} s; try again")

    def create(self, replication: int) -> None:
        """Create the topic."""
        new = NewTopic(RESTORED_TOPIC, 1, replication, config={"cleanup.policy": "compact"})
        try:
            self._admin.create_topics([new])[RESTORED_TOPIC].result()
        except KafkaException as error:
            raise TopicError(f"cannot create topic {RESTORED_TOPIC}: {error.args[0].str()}") from None
        wait_for(self._admin, {RESTORED_TOPIC: 1})

    def note(self, name: str, value: Any) -> None:
        """Write a record, and wait until it is stored."""
        store(self._bootstrap, RESTORED_TOPIC, {name: json.dumps(value)})
        self.told[name] = value


def store(bootstrap: str, topic: str, records: dict[str, str]) -> None:
    """Store records on partition 0 of a topic. Raises BrokerUnreachable."""
    failed: list[str] = []
    producer = Producer(
        COMMON | {**connection(bootstrap), "enable.idempotence": True, "error_cb": on_error}, logger=kafka_log
    )
    for key, value in records.items():
        told = lambda error, _: failed.append(error.str()) if error is not None else None  # noqa: E731
        producer.produce(topic, value, key, 0, on_delivery=told)
    if producer.flush(ANSWER_S) or failed:
        raise BrokerUnreachable(f"the broker does not store records of {topic}: {failed or 'no answer'}; try again")


def commit(bootstrap: str, group: str, offsets: list[Offset]) -> None:
    """Commit a group's offsets, all at once, while it has no member. Raises BrokerUnreachable."""
    if offsets:
        commit_offsets(
            bootstrap, group, [TopicPartition(*each.tp, each.offset, metadata=each.note) for each in offsets]
        )
