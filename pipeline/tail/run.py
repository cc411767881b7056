"""The records of topics as they stand on a broker."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from confluent_kafka import Message

from pipeline.adapters.avro.registry import ENGINE
from pipeline.adapters.avro.served import open_registry
from pipeline.adapters.json.as_written import AsWritten
from pipeline.adapters.kafka import admin
from pipeline.adapters.kafka.inspection.records import RecordReader
from pipeline.adapters.kafka.schemas.topic import SchemasTopic
from pipeline.adapters.kafka.topics import partition_counts
from pipeline.engine.ports import TP
from pipeline.tail.record import Reader, Shown
from pipeline.tail.topics import chosen
from pipeline.topology import Topology


class Wanted(NamedTuple):
    """Which records are wanted: of a key, of a type, stored since then; without `since_ms` the last ones."""

    key: str | None = None
    type: str | None = None
    since_ms: int | None = None
    last: int = 10
    follow: bool = False


class Tail:
    """Records of topics. Use as a context manager.

    `names`: of topics, aggregates, projections or services. `topology`: None if there is none; then the schemas are
    those that writers have published. Raises TopicError, BrokerUnreachable.
    """

    def __init__(self, bootstrap: str, topology: Topology | None, names: Sequence[str]) -> None:
        there = partition_counts(admin(bootstrap))
        self.topics = chosen(names, topology, there)
        registry = open_registry(ENGINE if topology is None else topology.schemas)
        self._published = SchemasTopic(bootstrap, registry)
        self._published.catch_up()
        declared = {} if topology is None else {here: name for name, here in topology.names.items()}
        self._reader = Reader(AsWritten(registry), declared)
        self._records = RecordReader(bootstrap, [TP(topic, n) for topic in self.topics for n in range(there[topic])])

    def __enter__(self) -> Tail:
        return self

    def __exit__(self, *_: object) -> None:
        self._published.close()
        self._records.close()

    @property
    def held_back(self) -> list[str]:
        """The places from which on an open transaction hides what is stored."""
        return [f"{tp.topic}/{tp.partition}@{offset}" for tp, offset in sorted(self._records.held_back.items())]

    def records(self, wanted: Wanted) -> Iterator[Shown]:
        """Yield the records in order of time; with `follow`, go on with what comes, for ever."""
        if wanted.since_ms is None:
            found: Iterator[Message] = iter(self._records.last(wanted.last, lambda each: self._is_meant(each, wanted)))
        else:
            found = self._records.since(wanted.since_ms)
        yield from (self._shown(each) for each in found if self._is_meant(each, wanted))
        if not wanted.follow:
            return
        self._published.follow()
        for each in self._records.following():
            if self._is_meant(each, wanted):
                yield self._shown(each)

    def _is_meant(self, message: Message, wanted: Wanted) -> bool:
        """Return whether a record is wanted. What its bytes tell is asked first: that is quick."""
        key = message.key() or b""
        if wanted.key is not None and wanted.key.encode() not in key and wanted.key != b64encode(key).decode():
            return False
        if wanted.key is None and wanted.type is None:
            return True
        shown = self._shown(message)
        return (wanted.key is None or wanted.key in (shown.key, shown.key_base64)) and wanted.type in (None, shown.type)

    def _shown(self, message: Message) -> Shown:
        place = message.topic(), message.partition(), message.offset(), message.timestamp()[1]
        headers = tuple(message.headers() or ())
        return self._reader.read(*place, message.key(), message.value(), headers)  # type: ignore[arg-type]
