"""Wakes librdkafka if it waits for a connection to change its state."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Iterator
from typing import Any

from confluent_kafka import KafkaException

PATIENCE_S = 3.0
LOOK_S = 0.5


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
