"""What librdkafka's clients are watched for: calls that wait too long, brokers that they have lost for good.

A client that has lost them does not find them again, and another one does (librdkafka #5301, #5430). So it is replaced.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Iterator
from typing import Any

from confluent_kafka import KafkaError, KafkaException

from pipeline.adapters.kafka import away

PATIENCE_S = 3.0
LOOK_S = 0.5
CONNECTION_LOST = "in state UP)"  # how a line ends about a connection that requests were made on
NO_LEADER = "new leader-1 not found in cache"
BY_ITSELF_S = 2.0  # within which a client finds brokers again that it can find
PROBE_S = 3.0
PROBES_S = 5.0  # between probes
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


def reaches(client: Any) -> bool:
    """Whether the client has a broker to ask. One that does not answer in time is one."""
    try:
        client.list_topics(timeout=PROBE_S)
    except KafkaException as error:
        return bool(error.args[0].code() != KafkaError._TRANSPORT)
    return True


class Reach:
    """Whether a client has lost its brokers for good. `on_error` is to be its `error_cb`; safe to use from any thread.

    `bootstrap`: of the cluster, for which the process has an admin client.

    A broker that comes back after its session with the controller may say for a moment that the cluster has none. The
    client forgets those that it knew, then, and in some cases calls off its return to `bootstrap.servers`, too.
    """

    def __init__(self, bootstrap: str) -> None:
        self.lost, self._bootstrap = False, bootstrap
        self._probe_s = 0.0  # when to look next; 0: there is no reason to

    def on_error(self, error: KafkaError) -> None:
        """Be the client's `error_cb`."""
        if error.code() == KafkaError._ALL_BROKERS_DOWN and not self._probe_s:
            self._probe_s = time.monotonic() + BY_ITSELF_S
        away.on_error(error)

    def is_lost(self, client: Any) -> bool:
        """Look whether the client cannot reach a broker, and others can. Blocks for seconds while brokers are away."""
        if not self._probe_s or time.monotonic() < self._probe_s:
            return self.lost
        if reaches(client):
            self._probe_s = 0.0
        else:
            self._probe_s = time.monotonic() + PROBES_S
            self.lost = away.answers(self._bootstrap)
        return self.lost


class ProducerWatch(Reach):
    """Whether to use another producer. It is to be its logger, too, which passes all on.

    What a producer has to say is heard when it is polled.
    `connection_lost`: a request may be on its way that the producer has given up.
    `leaderless_s`: when a broker has last said that a partition has no leader, by time.monotonic(); 0: never. So it is
    with a broker that stands still for longer than its session. The producer may then send nothing to the partition any
    more, although there is a leader again.
    """

    def __init__(self, bootstrap: str) -> None:
        super().__init__(bootstrap)
        self.connection_lost, self.leaderless_s = False, 0.0

    def log(self, level: int, text: str, *args: Any) -> None:
        """Be the logger."""
        self.connection_lost |= CONNECTION_LOST in args[-1]
        if NO_LEADER in args[-1]:
            self.leaderless_s = time.monotonic()
        away.kafka_log.log(level, text, *args)

    def is_useless(self, client: Any) -> bool:
        """Look whether to use another. That all was sent so far says nothing: a partition may have got none."""
        stuck = self.leaderless_s > 0.0 and time.monotonic() - self.leaderless_s > STUCK_S
        return stuck or self.is_lost(client)

    @property
    def why(self) -> str:
        """Return why to use another, or ""; without a look."""
        if self.lost:
            return "the client has lost its brokers"
        return "a partition had no leader" if self.leaderless_s else ""
