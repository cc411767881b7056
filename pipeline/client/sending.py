"""Commands to the broker and replies back: one producer, and one reader where somebody waits for replies."""

from __future__ import annotations

import logging
import threading
import uuid
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any

from confluent_kafka import Consumer, KafkaError, KafkaException, Message, Producer, TopicPartition

from pipeline.adapters.kafka import COMMON, READING, admin, end_offsets, on_error
from pipeline.adapters.topics import reply_topic
from pipeline.client.commands import Ready
from pipeline.errors import BrokerUnreachable, InvalidCommand, Overloaded, UndecodableRecord
from pipeline.model import ReplyMessage
from pipeline.query.murmur2 import partition_of
from pipeline.runtime.ports import TP

log = logging.getLogger(__name__)

WAITING_MAX = 100_000  # commands whose senders wait for a reply
QUEUE_S = 30.0  # how long a sender waits for room in the queue
IDLE_S = 0.05


@dataclass(slots=True)
class Waiting:
    """A command whose reply is waited for. `stored`: where, once the broker has said so; None: not known."""

    reply: Future[ReplyMessage] = field(default_factory=Future)
    stored: str | None = None
    waiters: int = 0


class Sending:
    """The connection of one requester. Safe to use from several threads.

    `name`: replies come to the topic `<name>.reply`, under a key that no other instance has, to one partition of it.
    """

    def __init__(self, bootstrap: str, name: str, decode: Callable[[bytes | None], Any]) -> None:
        self._bootstrap, self._name, self._decode = bootstrap, name, decode
        self._key = uuid.uuid4().hex
        self._failed: list[str] = []
        self._waiting: dict[str, Waiting] = {}
        self._lock = threading.Lock()
        self._reader: threading.Thread | None = None
        self._closing = threading.Event()
        self._topic = ""
        self._producer = Producer(
            COMMON
            | {
                "bootstrap.servers": bootstrap,
                "enable.idempotence": True,
                "partitioner": "murmur2_random",
                "linger.ms": 2,
                "queue.buffering.max.messages": 100_000,
                "delivery.report.only.error": False,
                "error_cb": on_error,
            }
        )

    # --- out ----------------------------------------------------------------------------------------------------------

    def queue(
        self,
        ready: Ready,
        on_delivery: Callable[[KafkaError | None, Message], None] | None = None,
        patience_s: float = QUEUE_S,
    ) -> None:
        """Queues a command; waits while the queue is full. Raises InvalidCommand, Overloaded."""
        waited_s = 0.0
        while True:
            try:
                self._producer.produce(ready.topic, ready.value, ready.key, on_delivery=on_delivery or self._delivered)
                return
            except BufferError:
                if waited_s >= patience_s:
                    raise Overloaded("the queue of commands that the broker has not taken yet is full") from None
                self._producer.poll(0.1)
                waited_s += 0.1
            except KafkaException as error:
                if error.args[0].code() == KafkaError.MSG_SIZE_TOO_LARGE:
                    raise InvalidCommand(
                        f"the command takes {len(ready.value)} bytes, more than a record may; send less in one"
                    ) from None
                raise

    def _delivered(self, error: KafkaError | None, _: Message) -> None:
        if error is not None:
            self._failed.append(error.str())

    def flush(self, patience_s: float) -> None:
        """Waits until the broker has stored all that was queued. Raises BrokerUnreachable where it has not."""
        left = self._producer.flush(patience_s)
        failed, self._failed = self._failed, []
        if left or failed:
            why = failed[0] if failed else f"no answer within {patience_s:.0f} s"
            raise BrokerUnreachable(f"{left + len(failed)} commands were not stored: {why}; send them again")

    # --- and back -----------------------------------------------------------------------------------------------------

    def reply_to(self) -> str:
        """Where replies to this instance go; from now on they are read. Raises TopicError, BrokerUnreachable."""
        with self._lock:
            if self._reader is None:
                self._topic, partitions = reply_topic(self._bootstrap, self._name)
                mine = TP(self._topic, partition_of(self._key.encode(), partitions))
                (end,) = end_offsets(admin(self._bootstrap), [mine]).values()  # nobody has sent a reply here before
                consumer = Consumer(
                    READING
                    | {"bootstrap.servers": self._bootstrap, "group.id": self._topic, "auto.offset.reset": "latest"}
                    | {"error_cb": on_error, "enable.partition.eof": False, "fetch.wait.max.ms": 500}
                )
                consumer.assign([TopicPartition(*mine, end)])
                self._reader = threading.Thread(target=self._read, args=(consumer,), name="replies", daemon=True)
                self._reader.start()
        return f"{self._topic}/{self._key}"

    def ask(self, ready: Ready, patience_s: float = QUEUE_S) -> Waiting:
        """Queues a command whose reply is waited for. Raises as `queue` does."""
        with self._lock:
            waiting = self._waiting.get(ready.id)
            if waiting is None:
                if len(self._waiting) >= WAITING_MAX:
                    raise Overloaded(f"{WAITING_MAX} commands wait for their replies already; wait for some of them")
                waiting = self._waiting[ready.id] = Waiting()
            waiting.waiters += 1

        def delivered(error: KafkaError | None, message: Message) -> None:
            if error is None:
                waiting.stored = f"{message.topic()}/{message.partition()}/{message.offset()}"
            elif not waiting.reply.done():
                waiting.reply.set_exception(BrokerUnreachable(f"the command was not stored for certain: {error.str()}"))

        try:
            self.queue(ready, delivered, patience_s)
        except BaseException:
            self.forget(ready.id)
            raise
        return waiting

    def forget(self, command_id: str) -> None:
        """One less waits for that reply."""
        with self._lock:
            waiting = self._waiting.get(command_id)
            if waiting is not None:
                waiting.waiters -= 1
                if not waiting.waiters:
                    del self._waiting[command_id]

    def _read(self, consumer: Consumer) -> None:
        """Hands replies to those who wait for them, until the end."""
        mine = self._key.encode()
        try:
            while not self._closing.is_set():
                first = consumer.poll(IDLE_S)
                self._producer.poll(0)
                for message in () if first is None else [first, *consumer.consume(1_000, 0)]:
                    if error := message.error():
                        log.warning("replies on %s: %s", self._topic, error.str())
                    elif message.key() == mine:
                        self._hand_out(message.value())
        finally:
            consumer.close()

    def _hand_out(self, value: bytes | None) -> None:
        try:
            reply: ReplyMessage = self._decode(value)
        except UndecodableRecord as error:
            log.warning("a reply on %s cannot be read: %s", self._topic, error)
            return
        with self._lock:
            waiting = self._waiting.pop(reply.command_id, None)
        if waiting is not None and not waiting.reply.done():
            waiting.reply.set_result(reply)

    def close(self, patience_s: float) -> None:
        """Sends what is queued and stops reading. Raises BrokerUnreachable where not all was stored."""
        self._closing.set()
        try:
            self.flush(patience_s)
        finally:
            if self._reader is not None:
                self._reader.join(5.0)
