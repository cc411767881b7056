"""A barrier in logs: nothing behind it is read by those who read committed records, until it is taken away.

It is a record of a transaction that is aborted in the end, so no reader ever sees it. What writes goes on.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress

from confluent_kafka import KafkaError, KafkaException, Message, Producer

from pipeline.adapters.kafka.away import kafka_log
from pipeline.adapters.kafka.cluster import ANSWER_S, COMMON, on_error, plainly
from pipeline.adapters.kafka.connection import connection
from pipeline.engine.ports import TP
from pipeline.errors import BrokerUnreachable

HOLD_S = 10.0  # after which the broker takes it away, if this process is gone


class Barrier:
    """Barriers of one transaction. Use as a context manager: they are away behind it. Raises BrokerUnreachable.

    `name`: the id of the transaction. Another one of that name takes away what a killed process has left.
    """

    def __init__(self, bootstrap: str, name: str) -> None:
        config = {"transactional.id": name, "transaction.timeout.ms": int(HOLD_S * 1000), "error_cb": on_error}
        self._producer = Producer(COMMON | {**connection(bootstrap), **config, "linger.ms": 0}, logger=kafka_log)
        self._failed: list[KafkaError] = []
        self._offsets: dict[TP, int] = {}
        self._call("begin", lambda: self._producer.init_transactions(ANSWER_S))

    def _call(self, what: str, call: Callable[[], object]) -> None:
        try:
            with plainly():
                call()
        except KafkaException as error:
            raise BrokerUnreachable(
                f"the broker does not {what} the transaction of a barrier: {error.args[0].str()}"
            ) from None

    def hold(self, partitions: Sequence[TP]) -> dict[TP, int]:
        """Put a barrier into each partition. Return where they stand."""
        self._call("begin", self._producer.begin_transaction)
        for tp in partitions:
            self._producer.produce(tp.topic, None, None, tp.partition, on_delivery=self._delivered)
            self._producer.poll(0)
        left = self._producer.flush(ANSWER_S)
        if left or self._failed:
            why = self._failed[0].str() if self._failed else f"no answer within {ANSWER_S:.0f} s"
            raise BrokerUnreachable(f"the broker does not take barriers: {why}")
        return self._offsets

    def _delivered(self, error: KafkaError | None, message: Message) -> None:
        if error is not None:
            self._failed.append(error)
        else:
            self._offsets[TP(message.topic(), message.partition())] = message.offset()  # type: ignore[arg-type, assignment]

    def __enter__(self) -> Barrier:
        return self

    def __exit__(self, *_: object) -> None:
        with suppress(KafkaException), plainly():  # the broker ends it then
            self._producer.purge()
            self._producer.flush(1.0)
            self._producer.abort_transaction(ANSWER_S)
