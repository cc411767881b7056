"""Writes a topic's records under the offsets that they had.

Kafka counts offsets by itself. So where an offset has no record (the end of a transaction, what was aborted, compacted
away or deleted), a record of another producer is written, whose transaction is aborted in the end: no reader ever sees
it, and the next record gets its offset.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from typing import NamedTuple

from confluent_kafka import KafkaError, KafkaException, Message, Producer

from pipeline.adapters.kafka.away import kafka_log
from pipeline.adapters.kafka.cluster import COMMON, QUIET_S, on_error, plainly
from pipeline.adapters.kafka.connection import connection
from pipeline.engine.ports import TP
from pipeline.errors import BrokerUnreachable, RestoreRefused

Told = Callable[[KafkaError | None, Message], None]
Headers = tuple[tuple[str, bytes | None], ...]
RUN = 2_000  # records at once of a partition
FILL = 50_000  # the same of what stands for nothing
FILLING_MS = 900_000  # the longest transaction that brokers allow by default
RENEW_S = 300.0
RECORD_BYTES_MAX = 32 << 20


class Written(NamedTuple):
    """A record with its offset."""

    offset: int
    key: bytes | None
    value: bytes | None
    time_ms: int
    headers: Headers


class Part(NamedTuple):
    """What comes next in a partition: records without a gap, or `gap` offsets without a record."""

    records: list[Written]
    gap: int


def parts(records: Iterator[Written], end: int) -> Iterator[Part]:
    """Divide the records of a partition, from offset 0 to `end`, into runs and gaps."""
    at, run = 0, list[Written]()
    for record in records:
        if run and (record.offset != at or len(run) == RUN):
            yield Part(run, 0)
            run = []
        if record.offset > at:
            yield from _gaps(record.offset - at)
        run.append(record)
        at = record.offset + 1
    if run:
        yield Part(run, 0)
    yield from _gaps(end - at)


def _gaps(count: int) -> Iterator[Part]:
    for done in range(0, count, FILL):
        yield Part([], min(FILL, count - done))


class ExactWriter:
    """Writes topics that nothing else writes to. Raises BrokerUnreachable, and RestoreRefused if something does.

    `name`: the id of the transaction of what stands for nothing.
    """

    def __init__(self, bootstrap: str, name: str) -> None:
        common = COMMON | {
            **connection(bootstrap),
            "compression.type": "lz4",
            "message.max.bytes": RECORD_BYTES_MAX,
            "queue.buffering.max.messages": 500_000,
            "error_cb": on_error,
            "linger.ms": 1,
        }
        self._records = Producer(common | {"enable.idempotence": True}, logger=kafka_log)
        filling = {"transactional.id": name, "transaction.timeout.ms": FILLING_MS}
        self._filler = Producer(common | filling, logger=kafka_log)
        self._failed = ""
        self._touched: set[TP] = set()  # partitions in the filler's transaction
        self._began_s: float | None = None
        self._call(lambda: self._filler.init_transactions(QUIET_S))

    def write(self, partitions: Mapping[TP, Iterator[Part]]) -> Iterator[int]:
        """Write partitions, which are empty. Yield now and then how many offsets are written."""
        ahead = {tp: next(each, None) for tp, each in partitions.items()}
        at, done = dict.fromkeys(partitions, 0), 0
        while any(ahead.values()):
            runs = {tp: part.records for tp, part in ahead.items() if part is not None and part.records}
            for tp, records in runs.items():
                self._send(tp, records)
                at[tp] += len(records)
            self._flush(self._records)
            ahead |= {tp: next(partitions[tp], None) for tp in runs}
            gaps = {tp: part.gap for tp, part in ahead.items() if part is not None and part.gap}
            renew = self._began_s is not None and time.monotonic() - self._began_s > RENEW_S
            if renew and any(tp in self._touched and part and not part.gap for tp, part in ahead.items()):
                continue  # the transaction's end takes an offset of each partition: wait until all have one to fill
            after = {tp: next(partitions[tp], None) for tp in gaps}
            self._fill(gaps, [tp for tp in gaps if after[tp] is None], renew=renew)
            for tp, gap in gaps.items():
                at[tp] += gap
            ahead |= after
            if (now := sum(at.values())) != done:
                done = now
                yield done
        self._end()

    def close(self) -> None:
        """End both producers."""
        with suppress(KafkaException), plainly():
            self._records.purge()
            self._records.flush(1.0)

    # --- records ------------------------------------------------------------------------------------------------------

    def _send(self, tp: TP, records: list[Written]) -> None:
        last = records[-1].offset

        def delivered(error: KafkaError | None, message: Message) -> None:
            if error is not None:
                self._failed = error.str()
            elif message.offset() != last:
                self._failed = f"{tp.topic}-{tp.partition} has got offset {message.offset()} where it had {last}"

        for record in records:
            told = delivered if record.offset == last else None
            self._produce(tp, record, told)

    def _produce(self, tp: TP, record: Written, told: Told | None) -> None:
        headers: list[tuple[str, str | bytes | None]] = list(record.headers)
        while True:
            try:
                self._records.produce(
                    tp.topic, record.value, record.key, tp.partition, told, timestamp=record.time_ms, headers=headers
                )
                return
            except BufferError:
                self._records.poll(0.1)
            except KafkaException as error:
                where = f"{tp.topic}-{tp.partition} offset {record.offset}"
                raise BrokerUnreachable(f"{where}: {error.args[0].str()}") from None

    def _flush(self, producer: Producer) -> None:
        left = producer.flush(QUIET_S)
        if self._failed:
            raise RestoreRefused(f"{self._failed}: another program writes there, or the broker refuses it; begin again")
        if left:
            raise BrokerUnreachable(f"the broker does not confirm records within {QUIET_S:.0f} s; restore again")

    # --- what stands for nothing --------------------------------------------------------------------------------------

    def _fill(self, gaps: Mapping[TP, int], last: list[TP], *, renew: bool) -> None:
        """Fill gaps. The end of the transaction takes an offset itself; it is left to it where a partition ends.

        `renew`: end the transaction behind them, and begin another.
        """
        if not gaps:
            return
        if self._began_s is None:
            self._call(self._filler.begin_transaction)
            self._began_s = time.monotonic()
        ends = set(gaps) if renew else set(last)
        late: dict[TP, int] = {}
        for tp, gap in gaps.items():
            less = tp in ends and (gap > 1 or tp in self._touched)
            if renew and not less:
                late[tp] = gap  # it may not be touched by this transaction any more
                continue
            for _ in range(gap - less):
                self._nothing(tp)
            self._touched.add(tp)
        self._flush(self._filler)
        if renew:
            self._end()
            self._fill(late, last, renew=False)

    def _nothing(self, tp: TP) -> None:
        while True:
            try:
                self._filler.produce(tp.topic, None, None, tp.partition)
                return
            except BufferError:
                self._filler.poll(0.1)
            except KafkaException as error:
                raise BrokerUnreachable(f"{tp.topic}-{tp.partition}: {error.args[0].str()}; restore again") from None

    def _end(self) -> None:
        if self._began_s is not None:
            self._call(lambda: self._filler.abort_transaction(QUIET_S))
            self._began_s = None
            self._touched.clear()

    def _call(self, call: Callable[[], object]) -> None:
        try:
            with plainly():
                call()
        except KafkaException as error:
            raise BrokerUnreachable(f"a transaction cannot go on: {error.args[0].str()}; restore again") from None
