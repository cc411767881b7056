"""What a producer of librdkafka says of itself in its log, and nowhere else."""

from __future__ import annotations

import time
from typing import Any

from pipeline.adapters.kafka.away import kafka_log

CONNECTION_LOST = "in state UP)"  # how a line ends about a connection that requests were made on
NO_LEADER = "new leader-1 not found in cache"


STUCK_S = 3.0  # a producer that finds the leader again needs less than a second


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

    def is_stuck(self, queued: int) -> bool:
        """Whether to use another producer. `queued`: how many records this one has not been able to send."""
        if not queued:
            self.leaderless_s = 0.0
        return self.leaderless_s > 0.0 and time.monotonic() - self.leaderless_s > STUCK_S
