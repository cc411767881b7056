"""Sends commands to the broker and reads replies: one producer, and one reader if replies are wanted."""

from __future__ import annotations

import itertools
import logging
import threading
import time
import uuid
from collections.abc import Callable
from concurrent.futures import Future, InvalidStateError
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from confluent_kafka import Consumer, KafkaError, KafkaException, Message, Producer, TopicPartition

from pipeline.adapters.kafka import COMMON, READING, admin, connection, end_offsets
from pipeline.adapters.kafka.away import kafka_log
from pipeline.adapters.kafka.client_watch import ProducerWatch, Reach
from pipeline.adapters.kafka.cluster import plainly
from pipeline.adapters.kafka.topics import reply_topic
from pipeline.client.commands import RECORD_BYTES_MAX, Ready
from pipeline.client.wire import trace
from pipeline.client.wire.outcome import position_token
from pipeline.engine.ports import TP
from pipeline.engine.tracing.port import HEADER, Tracer
from pipeline.errors import BrokerUnreachable, InvalidCommand, Overloaded, UndecodableRecord
from pipeline.model import Parked, ReplyMessage, Token
from pipeline.model.records.partitioning import partition_of

log = logging.getLogger(__name__)

WAITING_MAX = 100_000  # commands whose senders wait for a reply
QUEUE_S = 30.0  # how long a sender waits for room in the queue
IDLE_S = 0.05
FLUSH_LOOK_S = 1.0  # between looks whether the producer has to be replaced
PURGED = (KafkaError._PURGE_QUEUE, KafkaError._PURGE_INFLIGHT)

Delivery = Callable[[KafkaError | None, Message], None]


class NotAnswered(Exception):
    """The reason why no reply will come."""


@dataclass(slots=True)
class AwaitedReply:
    """A command whose reply is awaited. `reply_to`: the reply's address, unique to this command.

    `stored`: the command's position once the broker has confirmed it, else None. `parked`: why the command is parked,
    if it is; its reply is still to come.
    """

    reply_to: str
    reply: Future[ReplyMessage] = field(default_factory=Future)
    stored: Token | None = None
    parked: str | None = None


class Sending:
    """The connection of one requester. Safe to use from several threads.

    `name`: replies come to the topic `<name>.reply`, to the partition that this instance reads, each under a key that
    is unique among all instances. `mark`: of a restored cluster, see `marked`.
    """

    def __init__(
        self,
        bootstrap: str,
        name: str,
        decode: Callable[[bytes | None], Any],
        tracer: Tracer | None = None,
        mark: str = "",
    ) -> None:
        self._bootstrap, self._name, self._decode, self._tracer, self._mark = bootstrap, name, decode, tracer, mark
        self._instance = uuid.uuid4().hex
        self._failures, self._failed = 0, ""  # deliveries since the last flush, and the error of the last one
        self._open: dict[bytes, AwaitedReply] = {}  # by the key of the reply
        self._numbers = itertools.count(1)
        self._lock = threading.Lock()
        self._reader: threading.Thread | None = None
        self._closing = threading.Event()
        self._mine = TP("", -1)
        self._sends = threading.Lock()  # held while a producer is replaced
        self._moved: list[tuple[Ready, Delivery]] = []  # what a producer being replaced has not sent
        self._producer, self._watch = self._open_producer()

    def _open_producer(self) -> tuple[Producer, ProducerWatch]:
        watch = ProducerWatch(self._bootstrap)
        config = COMMON | {
            **connection(self._bootstrap),
            "enable.idempotence": True,
            "partitioner": "murmur2_random",
            "linger.ms": 2,
            "queue.buffering.max.messages": 100_000,
            "message.max.bytes": RECORD_BYTES_MAX,
            "delivery.report.only.error": False,
            "error_cb": watch.on_error,
        }
        return Producer(config, logger=watch), watch

    # --- out ----------------------------------------------------------------------------------------------------------

    def queue(self, ready: Ready, on_delivery: Delivery | None = None, patience_s: float = QUEUE_S) -> None:
        """Queue a command; wait while the queue is full. Raises InvalidCommand, BrokerUnreachable, Overloaded."""
        try:
            self._queue(ready, on_delivery, patience_s)
        except Exception as error:
            if ready.span is not None:
                trace.failed(ready.span, str(error), type(error).__name__)
            raise

    def _queue(self, ready: Ready, on_delivery: Delivery | None, patience_s: float) -> None:
        self._check_open()
        deadline = 0.0  # 0: the queue has not been full
        while True:
            try:
                with self._sends:
                    self._produce(ready, on_delivery or self._delivered)
                return
            except BufferError:
                deadline = deadline or time.monotonic() + patience_s
                if time.monotonic() >= deadline:
                    raise Overloaded("the queue of unsent commands is full; send more slowly, or again later") from None
                self._poll(0.1)
            except KafkaException as error:
                if error.args[0].code() == KafkaError.MSG_SIZE_TOO_LARGE:
                    raise InvalidCommand(
                        f"the command takes {len(ready.value)} bytes, more than a record may; split it"
                    ) from None
                raise BrokerUnreachable(f"the command cannot be sent: {error.args[0].str()}") from None

    def _produce(self, ready: Ready, told: Delivery) -> None:
        def delivered(error: KafkaError | None, message: Message) -> None:
            if error is not None and error.code() in PURGED:
                self._moved.append((ready, told))
                return
            if ready.span is not None and error is None:
                trace.stored(ready.span, message.partition(), message.offset())  # type: ignore[arg-type]  # stored
            elif ready.span is not None and error is not None:
                trace.failed(ready.span, error.str(), error.name())
            told(error, message)

        if ready.traceparent is None:
            self._producer.produce(ready.topic, ready.value, ready.key, -1, delivered)
        else:
            headers: list[tuple[str, str | bytes | None]] = [(HEADER, ready.traceparent)]
            self._producer.produce(ready.topic, ready.value, ready.key, -1, delivered, headers=headers)

    def _delivered(self, error: KafkaError | None, _: Message) -> None:
        if error is not None:
            self._failures += 1
            self._failed = error.str()

    def flush(self, patience_s: float) -> None:
        """Wait until the broker has stored all that was queued. Raises BrokerUnreachable if it may not have."""
        left = self._flush(patience_s)
        failures, self._failures = self._failures, 0
        if left or failures:
            why = self._failed if failures else f"no confirmation within {patience_s:.0f} s"
            raise BrokerUnreachable(
                f"{left + failures} commands may not have been stored: {why}; send them again under the same ids"
            )

    def _poll(self, patience_s: float = 0.0) -> None:
        """Serve delivery reports."""
        with plainly():
            self._producer.poll(patience_s)
        if self._watch.is_useless(self._producer):
            self._replace()

    def _flush(self, patience_s: float) -> int:
        deadline = time.monotonic() + patience_s
        while left := self._flush_for(max(0.0, min(FLUSH_LOOK_S, deadline - time.monotonic()))):
            if self._watch.is_useless(self._producer):
                self._replace()
            elif time.monotonic() >= deadline:
                break
        return left

    def _flush_for(self, seconds: float) -> int:
        try:
            with plainly():
                return self._producer.flush(seconds)
        except KafkaException as error:
            raise BrokerUnreachable(f"commands may not have been stored: {error.args[0].str()}") from None

    def _replace(self) -> None:
        """Send what is not confirmed by another producer, as this one does not: see `client_watch`.

        A command may be stored twice by that. It is decided once, by its id.
        """
        with self._sends:
            if not self._watch.is_useless(self._producer):
                return  # another thread was faster
            log.info("%s; sending with a new producer", self._watch.why)
            old = self._producer
            old.purge()
            old.flush(FLUSH_LOOK_S)
            self._producer, self._watch = self._open_producer()
            moved, self._moved = self._moved, []
            for ready, told in moved:  # before any that is sent later; their queue is as long as the old one
                self._produce(ready, told)

    # --- and back -----------------------------------------------------------------------------------------------------

    @property
    def listens(self) -> bool:
        """Whether replies are read."""
        return self._reader is not None

    def listen(self) -> None:
        """Read replies from now on. Raises TopicError, BrokerUnreachable."""
        with self._lock:
            self._check_open()
            if self._reader is not None:
                return
            topic, partitions = reply_topic(self._bootstrap, self._name)
            self._mine = mine = TP(topic, partition_of(self._instance.encode(), partitions))
            (end,) = end_offsets(admin(self._bootstrap), [mine]).values()  # no reply was sent to this instance before
            self._reader = threading.Thread(target=self._read, args=(end,), name="replies", daemon=True)
            self._reader.start()

    def _open_reader(self, reach: Reach, offset: int) -> Consumer:
        consumer = Consumer(
            READING
            | {**connection(self._bootstrap), "group.id": self._mine.topic, "auto.offset.reset": "latest"}
            | {"error_cb": reach.on_error, "enable.partition.eof": False, "fetch.wait.max.ms": 500},
            logger=kafka_log,
        )
        consumer.assign([TopicPartition(*self._mine, offset)])
        return consumer

    def _check_open(self) -> None:
        if self._closing.is_set():
            raise InvalidCommand("the client is closed")

    def question(self) -> AwaitedReply:
        """Register a wait for a reply; send its `reply_to` with the command. Raises as `listen`, and Overloaded."""
        self.listen()
        with self._lock:
            self._check_open()
            if len(self._open) >= WAITING_MAX:
                raise Overloaded(f"{WAITING_MAX} commands wait for their replies already; wait for some of these first")
            key = f"{self._instance}.{next(self._numbers)}"
            question = AwaitedReply(f"{self._mine.topic}/{self._mine.partition}/{key}")
            self._open[key.encode()] = question
        return question

    def ask(self, question: AwaitedReply, ready: Ready, patience_s: float = QUEUE_S) -> None:
        """Queue the command of a question. Raises as `queue`."""

        def delivered(error: KafkaError | None, message: Message) -> None:
            if error is None:
                question.stored = _place(ready, message, self._mark)
            else:
                self._fail(question, f"the broker has not confirmed that it is stored: {error.str()}")

        try:
            self.queue(ready, delivered, patience_s)
        except BaseException:
            self.forget(question)
            raise

    def store(self, ready: Ready, patience_s: float = QUEUE_S) -> Future[Token]:
        """Queue a command; return a future of the position at which it is stored.

        Raises as `queue` and `listen`.
        """
        self.listen()  # its thread also serves delivery callbacks
        stored: Future[Token] = Future()

        def delivered(error: KafkaError | None, message: Message) -> None:
            with suppress(InvalidStateError):  # the caller has given up
                if error is None:
                    stored.set_result(_place(ready, message, self._mark))
                else:
                    stored.set_exception(NotAnswered(error.str()))

        self.queue(ready, delivered, patience_s)
        return stored

    def forget(self, question: AwaitedReply) -> None:
        """Stop waiting for that reply."""
        with self._lock:
            self._open.pop(question.reply_to.rpartition("/")[2].encode(), None)

    def _fail(self, question: AwaitedReply, why: str) -> None:
        with suppress(InvalidStateError):  # replied to, or given up, at this moment
            question.reply.set_exception(NotAnswered(why))

    def _read(self, offset: int) -> None:
        """Hand replies to their waiters, from that offset on, until the client is closed."""
        why, reach = "the client was closed", Reach(self._bootstrap)
        consumer = self._open_reader(reach, offset)
        try:
            while not self._closing.is_set():
                if reach.is_lost(consumer):
                    log.info("the client has lost its brokers; reading replies with a new consumer")
                    consumer.close()
                    reach = Reach(self._bootstrap)
                    consumer = self._open_reader(reach, offset)
                first = consumer.poll(IDLE_S)
                self._poll()
                for message in () if first is None else [first, *consumer.consume(1_000, 0)]:
                    if error := message.error():
                        log.warning("replies on %s-%d: %s", *self._mine, error.str())
                    else:
                        offset = message.offset() + 1  # type: ignore[operator]  # one without error has an offset
                        self._hand_out(message)
        except Exception as error:
            log.exception("replies on %s-%d are no longer read", *self._mine)
            why = f"replies could not be read: {error}"
        finally:
            with self._lock:
                self._reader, given_up = None, list(self._open.values())
                self._open.clear()
            for question in given_up:
                self._fail(question, why)
            consumer.close()

    def _hand_out(self, message: Message) -> None:
        key = message.key() or b""
        with self._lock:
            question = self._open.get(key)
        if question is None:
            return  # another instance's, or the waiter has given up
        try:
            reply: ReplyMessage = self._decode(message.value())
        except UndecodableRecord as error:
            self._fail(question, f"its reply cannot be read: {error}")
            return
        if self._tracer is not None:
            trace.received(self._tracer, self._mine, message, reply)  # type: ignore[arg-type]  # as records are read
        if isinstance(reply.body, Parked):
            question.parked = reply.body.cause
            return  # the reply is still to come
        with self._lock:
            self._open.pop(key, None)
        with suppress(InvalidStateError):
            question.reply.set_result(reply)

    def close(self, patience_s: float) -> None:
        """Send what is queued and stop reading. Raises BrokerUnreachable if not all was stored."""
        self._closing.set()
        try:
            self.flush(patience_s)
        finally:
            reader = self._reader
            if reader is not None:
                reader.join(5.0)


def _place(ready: Ready, message: Message, mark: str) -> Token:
    """Return the position of a command as a token."""
    return position_token(ready.aggregate, message.partition(), message.offset(), mark)  # type: ignore[arg-type]  # stored
