"""Watches committed outputs as a stranger would, to see when work goes on after a fault."""

from __future__ import annotations

import threading
import time

from confluent_kafka import OFFSET_BEGINNING, Consumer, TopicPartition

from pipeline.adapters.kafka import READING

# One output of each service, all of which the load keeps busy in every partition; few orders go by two-phase commit.
WATCHED = ("users.event", "orders.event", "inventory.event", "payments.event", "checkout_saga.event", "units_sold.row")


class Observer:
    """Remembers when which output became visible."""

    def __init__(self, bootstrap: str, partitions: int) -> None:
        config = {"bootstrap.servers": bootstrap, "group.id": "observer", "enable.partition.eof": False, "log_level": 3}
        self._consumer = Consumer(READING | config | {"error_cb": lambda _: None})
        places = [(topic, n) for topic in WATCHED for n in range(partitions)]
        self._consumer.assign([TopicPartition(topic, n, OFFSET_BEGINNING) for topic, n in places])
        # By partition: when a record was seen, and when its worker made it. Both by this machine's clock.
        self._seen: dict[tuple[str, int], list[tuple[float, float]]] = {place: [] for place in places}
        self._ending = threading.Event()
        self._thread = threading.Thread(target=self._run, name="observer", daemon=True)
        self._thread.start()

    def _run(self) -> None:
        while not self._ending.is_set():
            messages = self._consumer.consume(1_000, 0.05)
            now = time.time()
            for message in messages:
                if message.error() is None:
                    self._seen[message.topic(), message.partition()].append((now, message.timestamp()[1] / 1000))

    def recovered_s(self, since: float) -> float | None:
        """How long after `since` the last partition showed something made after it; None while one has not yet."""
        slowest = 0.0
        for seen in self._seen.values():
            first = None
            for shown, made in reversed(seen):
                if shown <= since:
                    break
                if made > since:
                    first = shown
            if first is None:
                return None
            slowest = max(slowest, first - since)
        return slowest

    def shown(self, since: float, until: float) -> int:
        """How many records became visible in that time."""
        return sum(since <= at < until for seen in self._seen.values() for at, _ in seen)

    def waiting_for(self, since: float) -> list[str]:
        """The partitions that have shown nothing since."""
        return [f"{topic}-{n}" for (topic, n), seen in self._seen.items() if not any(made > since for _, made in seen)]

    def close(self) -> None:
        self._ending.set()
        self._thread.join(30)
        self._consumer.close()
