"""Logs that brokers do not respond: once when they are away, then for how long, and when they are back.

librdkafka logs each attempt to connect, of each client and each of its connections: a hundred lines a second.
"""

from __future__ import annotations

import logging
import re
import threading
import time
from collections.abc import Callable

from confluent_kafka import KafkaError, KafkaException
from confluent_kafka.admin import AdminClient

log = logging.getLogger(__name__)

LOOK_S = 1.0
ANSWER_S = 3.0
REPEAT_S = 30.0  # how long a recurring message is suppressed
AGAIN_S = 5.0  # how soon recurring trouble is looked at again, whether or not it is logged
KINDS_MAX = 1000
CONNECTIONS = frozenset(
    [KafkaError._TRANSPORT, KafkaError._ALL_BROKERS_DOWN, KafkaError._RESOLVE, KafkaError._TIMED_OUT]
)
RETRIED = re.compile(
    r"(?i): (?:asking again|recovering and retrying|retrying(?: later)?)\s*$|\. Retrying when available\s*$"
)
CHANGING = re.compile(r"\(after .*?\)|\d+")  # in messages that are otherwise equal


class Repeated:
    """Suppresses recurring messages for REPEAT_S. Safe to use from any thread."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock, self._lock = clock, threading.Lock()
        self._told: dict[str, float] = {}

    def is_due(self, text: str) -> bool:
        """Whether a message of this kind is due to be logged."""
        kind, now_s = CHANGING.sub("", text), self._clock()
        with self._lock:
            if now_s - self._told.get(kind, -REPEAT_S) < REPEAT_S:
                return False
            if len(self._told) >= KINDS_MAX:
                self._told.clear()
            self._told[kind] = now_s
            return True


class Cluster:
    """Whether the brokers answer. Checks from the first trouble until they do, in a thread of its own."""

    def __init__(self, repeated: Repeated, answers: Callable[[], bool], look_s: float = LOOK_S) -> None:
        self._repeated, self._answers, self._look_s = repeated, answers, look_s
        self._lock = threading.Lock()
        self._looking = False
        self._looked_s = self._back_s = -REPEAT_S
        self.trouble_now = ""  # why the brokers do not answer; empty as long as they do

    def trouble(self, text: str) -> None:
        """Note that a client cannot reach a broker."""
        with self._lock:
            if self._looking:
                return
            now_s, is_due = time.monotonic(), self._repeated.is_due(text)
            if not is_due and now_s - self._looked_s < AGAIN_S:
                return
            self._looking, self._looked_s = True, now_s
        threading.Thread(target=self._look, args=(text, is_due), name="broker-away", daemon=True).start()

    def _look(self, text: str, is_due: bool) -> None:
        try:
            if self._answers():  # one broker of several, or one connection: the others do
                # Not a late report of the time when it was away.
                if is_due and time.monotonic() - self._back_s >= REPEAT_S:
                    log.warning("Kafka: %s", text)
                return
            self.trouble_now = text
            began_s = told_s = time.monotonic()
            log.warning("Kafka does not answer, waiting for it: %s", text, extra={"event": "kafka_away"})
            while not self._answers():
                now_s = time.monotonic()
                if now_s - told_s >= REPEAT_S:
                    told_s = now_s
                    log.warning("Kafka has not answered for %.0f s", now_s - began_s)
                time.sleep(self._look_s)
            self._back_s = time.monotonic()
            log.warning("Kafka answers again, after %.0f s", self._back_s - began_s, extra={"event": "kafka_back"})
        finally:
            self.trouble_now = ""
            with self._lock:
                self._looking = False


_asked: dict[str, AdminClient] = {}  # by bootstrap servers
_repeated = Repeated()


def ask_by(bootstrap: str, client: AdminClient) -> None:
    """Use this client to check whether the cluster answers."""
    _asked[bootstrap] = client


def answers(bootstrap: str) -> bool:
    """Whether that cluster answers. False, too, if this process has no client to ask by."""
    if (client := _asked.get(bootstrap)) is None:
        return False
    try:
        client.list_topics(timeout=ANSWER_S)
    except KafkaException:
        return False
    return True


def _all_answer() -> bool:
    return all(answers(bootstrap) for bootstrap in list(_asked))


_cluster = Cluster(_repeated, _all_answer)


def trouble_now() -> str:
    """Return why the brokers do not answer; empty as long as they do. Asks nothing."""
    return _cluster.trouble_now


def on_error(error: KafkaError) -> None:
    """Log an error of a client.

    librdkafka heals connection troubles by itself; they are logged to explain a wait.
    """
    if error.code() in CONNECTIONS and not error.fatal():
        _cluster.trouble(error.str())
    elif error.fatal() or _repeated.is_due(error.str()):
        log.warning("Kafka: %s", error.str())


class Calmed(logging.Filter):
    """Passes librdkafka's own log lines, each kind once per REPEAT_S; connection errors are `on_error`'s.

    What the client tries again by itself, such as to get a producer id, is no warning. What is fatal to it is no error
    yet: another client takes its place, and if that does not help, its user says so.
    """

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether the record is to be logged."""
        text = record.getMessage()
        level = logging.INFO if RETRIED.search(text) else logging.WARNING
        if record.levelno > level:
            record.levelno, record.levelname = level, logging.getLevelName(level)
        return (
            not text.startswith("FAIL [") and record.levelno >= kafka_log.getEffectiveLevel() and _repeated.is_due(text)
        )


kafka_log = logging.getLogger("pipeline.kafka")  # for the clients' own lines
kafka_log.addFilter(Calmed())
