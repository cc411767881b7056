"""Transactions that are open: where they hide records from readers, since when, and who may have left them open.

librdkafka cannot list transactions, so this goes by what they do: a partition's last stable offset lies before its end.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import closing
from typing import NamedTuple

from confluent_kafka import Consumer, IsolationLevel, TopicPartition
from confluent_kafka.admin import AdminClient, OffsetSpec  # type: ignore[attr-defined]  # there, if not in __all__

from pipeline.adapters.kafka.away import kafka_log
from pipeline.adapters.kafka.cluster import ANSWER_S, asked_again, end_offsets, on_error
from pipeline.adapters.kafka.connection import connection
from pipeline.adapters.kafka.reading import READING
from pipeline.engine.ports import TP

DATED_MAX = 50  # partitions of which the time is read
POLL_S = 0.1


class OpenTransaction(NamedTuple):
    """Records of a partition that readers do not get, from `offset` on.

    `since_ms`: when the first was sent; None: that is not known.
    """

    tp: TP
    offset: int
    end: int
    since_ms: int | None


def stable_offsets(client: AdminClient, partitions: Sequence[TP]) -> dict[TP, int]:
    """Return up to where each partition can be read: the first offset of the oldest open transaction, or the end."""
    if not partitions:
        return {}
    asked = {TopicPartition(*tp): OffsetSpec.latest() for tp in partitions}  # type: ignore[no-untyped-call]

    def ask() -> dict[TP, int]:
        futures = client.list_offsets(asked, isolation_level=IsolationLevel.READ_COMMITTED, request_timeout=ANSWER_S)
        return {TP(p.topic, p.partition): future.result().offset for p, future in futures.items()}

    return asked_again("the broker does not say up to where topics can be read: %s", ask)


def open_transactions(
    bootstrap: str, client: AdminClient, partitions: Sequence[TP], older_than_s: float = 0.0
) -> list[OpenTransaction]:
    """Return what open transactions hide on these partitions; not what has been stored for less than that."""
    stable = stable_offsets(client, partitions)  # first: what is decided in between is not counted
    ends = end_offsets(client, list(partitions))
    hidden = sorted(tp for tp in partitions if stable[tp] < ends[tp])
    times = _times(bootstrap, {tp: stable[tp] for tp in hidden[:DATED_MAX]}) if hidden else {}
    still = stable_offsets(client, hidden)
    latest_ms = int(1000 * (time.time() - older_than_s))
    return [
        OpenTransaction(tp, stable[tp], ends[tp], times.get(tp))
        for tp in hidden
        if still[tp] == stable[tp] and times.get(tp, 0) <= latest_ms
    ]


def _times(bootstrap: str, places: dict[TP, int]) -> dict[TP, int]:
    """Return when the records at these offsets were stored, decided or not, as far as a moment's reading tells."""
    config = {"group.id": "pipeline-transactions", "auto.offset.reset": "earliest", "error_cb": on_error}
    reading = READING | connection(bootstrap) | config | {"isolation.level": "read_uncommitted"}
    found: dict[TP, int] = {}
    with closing(Consumer(reading, logger=kafka_log)) as consumer:
        consumer.assign([TopicPartition(*tp, offset) for tp, offset in places.items()])
        deadline = time.monotonic() + ANSWER_S
        while len(found) < len(places) and time.monotonic() < deadline:
            for message in consumer.consume(100, POLL_S):
                tp = TP(message.topic(), message.partition())  # type: ignore[arg-type]
                if message.error() is None and tp not in found:
                    found[tp] = message.timestamp()[1]
    return found
