"""What librdkafka's producers are watched for: calls that wait too long, and what they say only in their log."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Iterator
from typing import Any

from confluent_kafka import KafkaException

from pipeline.adapters.kafka.away import kafka_log

PATIENCE_S = 3.0
LOOK_S = 0.5
CONNECTION_LOST = "in state UP)"  # how a line ends about a connection that requests were made on
NO_LEADER = "new leader-1 not found in cache"
STUCK_S = 3.0  # a producer that finds the leader again needs less than a second; and no more often is it replaced


class Nudge(threading.Thread):
    """Asks the client for something else if a call of it takes too long.

    After a lost connection `send_offsets_to_transaction` waits, whatever its time-out, until some connection changes
    its state (librdkafka #5456). The client closes idle connections; a question then opens one: such a change.
    """

    def __init__(self, client: Any) -> None:
        super().__init__(name="nudge", daemon=True)
        self._client = client
        self._since = 0.0  # when the call was made that is waited for; 0: none is
        self._ended = threading.Event()
        self.start()

    @contextlib.contextmanager
    def watching(self) -> Iterator[None]:
        """Wrap a call that may wait."""
        self._since = time.monotonic()
        try:
            yield
        finally:
            self._since = 0.0

    def run(self) -> None:
        while not self._ended.wait(LOOK_S):
            if self._since and time.monotonic() - self._since > PATIENCE_S:
                with contextlib.suppress(KafkaException):
                    self._client.list_topics("", timeout=LOOK_S)

    def end(self) -> None:
        """Release the client."""
        self._ended.set()
        self.join(2 * PATIENCE_S)
        del self._client


class ProducerLog:
    """The logger of a producer, which passes all on. It hears what the producer has to say when that is polled.

    `connection_lost`: a request may be on its way that the producer has given up.
    `leaderless_s`: when a broker has last said that a partition has no leader, by time.monotonic(); 0: never. So it is
    with a broker that stands still for longer than its session. The producer may then send nothing to the partition any
    more, although there is a leader again (librdkafka #5430): only another producer does.
    """

    def __init__(self) -> None:
        self.connection_lost, self.leaderless_s = False, 0.0

    def log(self, level: int, text: str, *args: Any) -> None:
        """Be the logger."""
        self.connection_lost |= CONNECTION_LOST in args[-1]
        if NO_LEADER in args[-1]:
            self.leaderless_s = time.monotonic()
        kafka_log.log(level, text, *args)

    @property
    def may_be_stuck(self) -> bool:
        """Whether to use another producer. That all was sent so far says nothing: the partition may have got none."""
        return self.leaderless_s > 0.0 and time.monotonic() - self.leaderless_s > STUCK_S
