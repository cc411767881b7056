"""Records of several partitions in order of time, from a moment or the last ones, and those that come."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from confluent_kafka import OFFSET_END, Consumer, KafkaError, KafkaException, Message, TopicPartition

from pipeline.adapters.kafka.away import kafka_log
from pipeline.adapters.kafka.cluster import ANSWER_S, QUIET_S, admin, end_offsets, first_offsets, on_error
from pipeline.adapters.kafka.connection import connection
from pipeline.adapters.kafka.reading import READING
from pipeline.engine.ports import TP
from pipeline.errors import BrokerUnreachable, TopicError

POLL_S = 0.2
BATCH = 500
BUFFERED_MAX = 2_000  # records of one partition that wait for those of others
WINDOW = 500  # offsets that are looked at first for the last records; more, if too few are found
REFUSED = (KafkaError.UNKNOWN_TOPIC_OR_PART, KafkaError.TOPIC_AUTHORIZATION_FAILED)
Wanted = Callable[[Message], bool]


class RecordReader:
    """Reads committed records of these partitions. In memory: a bounded number for each.

    `held_back`: partitions of which an open transaction hides what comes from an offset on.
    """

    def __init__(self, bootstrap: str, partitions: Sequence[TP]) -> None:
        self._admin, self._tps = admin(bootstrap), list(partitions)
        self.held_back: dict[TP, int] = {}
        self._next: dict[TP, int] = {}
        config = {"group.id": "pipeline-tail", "auto.offset.reset": "earliest", "error_cb": on_error}
        self._consumer = Consumer(READING | connection(bootstrap) | config, logger=kafka_log)

    def close(self) -> None:
        """Close the connections."""
        self._consumer.close()

    def since(self, since_ms: int) -> Iterator[Message]:
        """Yield what was stored from then on up to now, in order of time; each partition in its own order."""
        ends = end_offsets(self._admin, self._tps)
        asked = [TopicPartition(*tp, since_ms) for tp in self._tps]
        try:
            found = self._consumer.offsets_for_times(asked, timeout=ANSWER_S) if asked else []
        except KafkaException as error:
            raise BrokerUnreachable(f"the broker does not say where to begin: {error.args[0].str()}") from None
        starts = {TP(p.topic, p.partition): p.offset for p in found}
        low = first_offsets(self._admin, self._tps)
        begins = {tp: ends[tp] if at == OFFSET_END else max(at, low[tp]) for tp, at in starts.items()}
        yield from self._merged(begins, ends)

    def last(self, count: int, wanted: Wanted) -> list[Message]:
        """Return the last `count` records that are wanted, of all partitions together, in order of time."""
        ends, low = end_offsets(self._admin, self._tps), first_offsets(self._admin, self._tps)
        kept: dict[TP, list[Message]] = {tp: [] for tp in self._tps}
        until, window = dict(ends), WINDOW
        while left := [tp for tp in self._tps if len(kept[tp]) < count and until[tp] > low[tp]]:
            begins = {tp: max(low[tp], until[tp] - window) for tp in left}
            found: dict[TP, deque[Message]] = {tp: deque(maxlen=count) for tp in left}
            for message in self._merged(begins, {tp: until[tp] for tp in left}):
                if wanted(message):
                    found[_tp(message)].append(message)
            for tp in left:
                kept[tp] = [*found[tp], *kept[tp]][-count:]
            until |= begins
            window *= 4
        self._next = ends
        return sorted((each for of in kept.values() for each in of), key=_time)[-count:]

    def following(self) -> Iterator[Message]:
        """Yield what comes behind what was read before, for ever."""
        self._consumer.assign([TopicPartition(*tp, at) for tp, at in self._next.items()])
        while True:
            yield from sorted(filter(None, map(self._read, self._poll())), key=_time)

    def _merged(self, begins: Mapping[TP, int], ends: Mapping[TP, int]) -> Iterator[Message]:
        """Yield the records of these ranges; of the partitions, that with the oldest record next is the next."""
        self._next |= ends
        unread = {tp for tp, begin in begins.items() if begin < ends[tp]}
        if not unread:
            return
        waiting: dict[TP, deque[Message]] = {tp: deque() for tp in unread}
        paused: set[TP] = set()
        self._consumer.assign([TopicPartition(*tp, begins[tp]) for tp in sorted(unread)])
        heard = time.monotonic()
        while unread or any(waiting.values()):
            while any(not waiting[tp] for tp in unread):
                messages = self._poll()
                heard = time.monotonic() if messages else heard
                if time.monotonic() - heard > QUIET_S:
                    raise BrokerUnreachable(
                        f"{', '.join(sorted({tp.topic for tp in unread}))} cannot be read to the end within "
                        f"{QUIET_S:.0f} s; the broker may be away; try again later"
                    )
                for message in messages:
                    self._take(message, ends, waiting, unread)
                for tp in [tp for tp in unread if len(waiting[tp]) > BUFFERED_MAX and tp not in paused]:
                    self._consumer.pause([TopicPartition(*tp)])
                    paused.add(tp)
            ready = [tp for tp, of in waiting.items() if of]
            if not ready:
                break
            tp = min(ready, key=lambda tp: _time(waiting[tp][0]))
            yield waiting[tp].popleft()
            if tp in paused and len(waiting[tp]) < BATCH:
                self._consumer.resume([TopicPartition(*tp)])
                paused.discard(tp)
        self._consumer.unassign()

    def _take(
        self, message: Message, ends: Mapping[TP, int], waiting: dict[TP, deque[Message]], unread: set[TP]
    ) -> None:
        tp, read = _tp(message), self._read(message)
        if tp not in unread:
            return
        offset = message.offset() or 0
        if read is None:  # the end of what can be read
            if message.error() is not None and message.error().code() == KafkaError._PARTITION_EOF:  # type: ignore[union-attr]
                if offset < ends[tp]:
                    self.held_back[tp] = offset
                    self._next[tp] = offset
                unread.discard(tp)
            return
        if offset < ends[tp]:
            waiting[tp].append(read)
        if offset + 1 >= ends[tp]:
            unread.discard(tp)

    def _poll(self) -> list[Message]:
        first = self._consumer.poll(POLL_S)
        return [] if first is None else [first, *self._consumer.consume(BATCH, 0)]

    def _read(self, message: Message) -> Message | None:
        """Return a record; None for a message that is none. Raises TopicError."""
        error = message.error()
        if error is None:
            return message
        if error.code() in REFUSED:
            raise TopicError(f"cannot read {message.topic()}: {error.str()}; look at the rights of this user")
        if error.code() != KafkaError._PARTITION_EOF:
            on_error(error)
        return None


def _tp(message: Message) -> TP:
    return TP(message.topic(), message.partition())  # type: ignore[arg-type]


def _time(message: Message) -> Any:
    return message.timestamp()[1], message.topic(), message.partition()
