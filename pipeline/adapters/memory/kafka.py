"""The broker: topics, transactions and groups, with their coordinators."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from pipeline.adapters.memory.clock import MemoryClock
from pipeline.adapters.memory.groups import Group
from pipeline.adapters.memory.log import Headers, PartitionLog
from pipeline.adapters.memory.transactions import Transactions
from pipeline.engine.ports import TP, LogFacts
from pipeline.errors import TopicError

DELETE_RETENTION_MS = 24 * 3_600_000
RECORD_BYTES_MAX = 1_000_000


@dataclass(slots=True)
class Topic:
    """A topic and its logs. `identity`: unique among all topics ever created."""

    identity: int
    compacted: bool
    logs: list[PartitionLog]


class MemoryKafka:
    """A broker in memory. `changed` is called with each topic or group that has changed."""

    def __init__(self, clock: MemoryClock | None = None, *, record_bytes_max: int = RECORD_BYTES_MAX) -> None:
        self.clock = clock or MemoryClock()
        self.record_bytes_max = record_bytes_max  # the broker refuses larger ones,
        self.request_bytes_max = 2 * record_bytes_max  # and the client refuses these
        self.topics: dict[str, Topic] = {}
        self.groups: dict[str, Group] = {}
        self.slow: dict[TP, float] = {}  # until when a partition answers no reader
        self._late_markers: dict[TP, float] = {}
        self.changed: Callable[[str], None] = lambda _: None
        self.timed_out: Callable[[str], None] = lambda _: None  # called with the producer's name
        self.transactions = Transactions(self)
        self._identities = 0

    def create_topic(self, name: str, partitions: int, *, compacted: bool = False) -> None:
        """Create a topic; one of that name is replaced by an empty one."""
        self._identities += 1
        logs = [PartitionLog(TP(name, n)) for n in range(partitions)]
        self.topics[name] = Topic(self._identities, compacted, logs)

    def log(self, tp: TP) -> PartitionLog:
        """Return the log of a partition. Raises TopicError if there is none."""
        topic = self.topics.get(tp.topic)
        if topic is None or tp.partition >= len(topic.logs):
            raise TopicError(f"no partition {tp.topic}-{tp.partition}; create it with: pipeline topics create TOPOLOGY")
        return topic.logs[tp.partition]

    def facts(self, name: str) -> LogFacts:
        """Return what the broker knows of a topic."""
        self.log(TP(name, 0))
        topic = self.topics[name]
        return LogFacts(topic.identity, len(topic.logs), DELETE_RETENTION_MS)

    def group(self, name: str) -> Group:
        """Return the group of that name; create it if there is none."""
        if name not in self.groups:
            self.groups[name] = Group(name, self)
        return self.groups[name]

    def append(self, tp: TP, key: bytes | None, value: bytes | None, headers: Headers = ()) -> int:
        """Store a record outside any transaction, as a sender of commands does. Return its offset."""
        offset = self.log(tp).append(key, value, self.clock.time_ms(), headers)
        self.changed(tp.topic)
        return offset

    def compact(self) -> None:
        """Compact every compacted topic, as the cleaner does."""
        for topic in self.topics.values():
            if topic.compacted:
                for log in topic.logs:
                    log.compact(self.clock.time_ms(), DELETE_RETENTION_MS)

    def slow_down(self, tps: Iterable[TP], seconds: float) -> None:
        """Make these partitions answer no reader for some time."""
        until = self.clock.now_s + seconds
        for tp in tps:
            self.slow[tp] = max(until, self.slow.get(tp, 0))
            self.clock.later(seconds, lambda tp=tp: self._fast_again(tp))  # type: ignore[misc]

    def _fast_again(self, tp: TP) -> None:
        if self.slow.get(tp, 0) <= self.clock.now_s:
            self.slow.pop(tp, None)
            self.changed(tp.topic)

    def delay_markers(self, tps: Iterable[TP], seconds: float) -> None:
        """Delay the markers of decided transactions in these partitions for some time."""
        until = self.clock.now_s + seconds
        for tp in tps:
            self._late_markers[tp] = max(until, self._late_markers.get(tp, 0))

    def markers_late_by(self, tp: TP) -> float:
        """Return in how many seconds a marker arrives; a group's offsets are partition -1 of its name."""
        return max(0.0, self._late_markers.get(tp, 0) - self.clock.now_s) if self._late_markers else 0.0
