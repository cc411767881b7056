"""The history as Kafka and the workers hold it now."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from typing import Any

from confluent_kafka import OFFSET_BEGINNING, OFFSET_END, Consumer, KafkaError, KafkaException, TopicPartition

from pipeline.adapters.kafka import (
    ANSWER_S,
    QUIET_S,
    READING,
    admin,
    asked_again,
    connection,
    end_offsets,
    first_offsets,
)
from pipeline.adapters.kafka.group_offsets import Committed, GroupOffsets
from pipeline.adapters.kafka.topics import partition_counts
from pipeline.engine.ports import TP
from pipeline.errors import BrokerUnreachable, TopicError
from pipeline.flow.command_to_reply import AHEAD_S_MAX
from pipeline.model.records.step_notes import StepNotes, read_step_notes
from pipeline.verify.sources.history import Entry, Kept, Stored, read_whole

Rows = Callable[[str, int], Iterable[Mapping[str, Any]]]
Positions = Callable[[str], Mapping[str, Mapping[str, Any]]]

RETRY_S = 0.2
BATCH = 10_000


class KafkaHistory:
    """A `History` over a broker. Use as a context manager.

    `sources`: what each service folds as a group. `rows(table, partition)`: a table's rows as the query path gives
    them; None leaves the tables out, and so does `positions(service)` the stores' positions. `patience_s`: what `wait`
    gives altogether.
    """

    ahead_ms = int(1_000 * AHEAD_S_MAX)

    def __init__(
        self,
        bootstrap: str,
        sources: Mapping[str, Sequence[str]],
        rows: Rows | None,
        positions: Positions | None,
        patience_s: float,
        *,
        lenient: bool = False,
        since_ms: int | None = None,
    ) -> None:
        """`lenient`: a topic that does not exist is one without partitions, as of code that was not deployed yet.

        `since_ms`: the time from which on there are `records`, by the clock of whatever gave each its time; None: all.
        """
        self._lenient, self._since_ms = lenient, since_ms
        self._admin = admin(bootstrap)
        self._counts = partition_counts(self._admin)
        config = READING | {**connection(bootstrap), "auto.offset.reset": "earliest", "fetch.wait.max.ms": 1}
        self._reader = Consumer(config | {"group.id": "pipeline-verify"})
        with suppress(KafkaException):  # only saves time: it learns each leader when it reads, else half a second later
            self._reader.list_topics(timeout=ANSWER_S)
        self._groups = {name: GroupOffsets(bootstrap, name) for name in sources}
        self._rows, self._positions, self._patience_s = rows, positions, patience_s
        self._deadline: float | None = None
        self._kept: dict[str, tuple[dict[TP, int], Kept]] = {}  # as of where the partitions ended
        self._bounds: dict[tuple[str, TP], Committed] = {}
        for service, topics in sources.items():
            tps = [TP(topic, n) for topic in topics for n in range(self.partitions(topic))]
            self._bounds |= {(service, tp): told for tp, told in self._ask_committed(service, tps).items()}

    def __enter__(self) -> KafkaHistory:
        return self

    def __exit__(self, *_: object) -> None:
        self._reader.close()
        for offsets in self._groups.values():
            offsets.close()

    def topics(self) -> frozenset[str]:
        """Return the topics that the broker has."""
        return frozenset(self._counts)

    def may_have_raised(self, decide: Callable[[], object]) -> bool:
        return True  # it may have been other code

    def partitions(self, topic: str) -> int:
        if topic not in self._counts:
            if self._lenient:
                return 0
            raise TopicError(f"the topic {topic} does not exist; create it with: pipeline topics create TOPOLOGY")
        return self._counts[topic]

    def bound(self, service: str, tp: TP) -> int | None:
        bound = self._bounds.get((service, tp))
        return None if bound is None else bound.offset

    def steps(self, service: str, tp: TP) -> StepNotes:
        bound = self._bounds.get((service, tp))
        return {} if bound is None else read_step_notes(bound.note)

    def committed(self, service: str, tp: TP) -> int | None:
        told = self._ask_committed(service, [tp]).get(tp)
        return None if told is None else told.offset

    def _ask_committed(self, service: str, tps: Sequence[TP]) -> dict[TP, Committed]:
        return self._groups[service].of_all(tps, QUIET_S)

    def low(self, tp: TP) -> int:
        return first_offsets(self._admin, [tp])[tp]

    def end(self, tp: TP) -> int:
        return end_offsets(self._admin, [tp])[tp]

    def records(self, tp: TP) -> Iterator[Entry]:
        end = self.end(tp)
        if not end:
            return
        begin = self._begin(tp)
        if begin >= end:
            return
        self._reader.assign([TopicPartition(*tp, begin)])
        try:
            yield from self._until(tp, end)
        finally:
            self._reader.unassign()

    def _begin(self, tp: TP) -> int:
        """Return the offset to begin with."""
        if self._since_ms is None:
            return OFFSET_BEGINNING
        asked = TopicPartition(*tp, max(0, self._since_ms - self.ahead_ms))
        unanswered = f"the broker does not say what of {tp.topic} was stored since then: %s"
        (found,) = asked_again(unanswered, lambda: self._reader.offsets_for_times([asked], timeout=ANSWER_S))
        return self.end(tp) if found.offset == OFFSET_END else int(found.offset)

    def kept(self, topic: str) -> Kept:
        ends = end_offsets(self._admin, [TP(topic, n) for n in range(self.partitions(topic))])
        known = self._kept.get(topic)
        if known is None or known[0] != ends:  # what has come since `ends` is read again next time
            known = self._kept[topic] = ends, read_whole(self, topic)
        return known[1]

    def _until(self, tp: TP, end: int) -> Iterator[Entry]:
        heard = time.monotonic()
        while True:
            first = self._reader.poll(RETRY_S)
            messages = [] if first is None else [first, *self._reader.consume(BATCH, 0)]
            for message in messages:
                error = message.error()
                if error is None:
                    heard = time.monotonic()
                    offset: int = message.offset()  # type: ignore[assignment]  # without error there is one
                    headers: Any = tuple(message.headers() or ())
                    yield Entry(offset, message.key(), message.value(), message.timestamp()[1], headers)
                    if offset + 1 >= end:
                        return
                elif error.code() != KafkaError._PARTITION_EOF:
                    if error.code() in (KafkaError.UNKNOWN_TOPIC_OR_PART, KafkaError.TOPIC_AUTHORIZATION_FAILED):
                        raise TopicError(f"cannot read {tp.topic}: {error.str()}")
                elif (message.offset() or 0) >= end:
                    return
            if time.monotonic() - heard > QUIET_S:
                raise BrokerUnreachable(
                    f"{tp.topic}-{tp.partition} cannot be read to its end {end} within {QUIET_S:.0f} s; "
                    "the broker may be away, or a producer has left a transaction open; try again later"
                )

    def rows(self, table: str, partition: int) -> dict[str, Any] | None:
        if self._rows is None:
            return None
        told = ("key", "pending")  # beside the value
        return {row["key"]: {n: v for n, v in row.items() if n not in told} for row in self._rows(table, partition)}

    def stored(self, service: str) -> dict[TP, Stored] | None:
        if self._positions is None:
            return None
        found = {}
        for name, each in self._positions(service).items():
            topic, _, number = name.rpartition("-")
            found[TP(topic, int(number))] = Stored(each["source"], each["changelogs"])
        return found

    def wait(self) -> bool:
        now = time.monotonic()
        if self._deadline is None:
            self._deadline = now + self._patience_s
        if now >= self._deadline:
            return False
        time.sleep(RETRY_S)
        return True
