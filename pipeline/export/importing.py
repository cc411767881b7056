"""An export file to a topic: commands through the front door, all else into an empty topic that no service owns."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol

from confluent_kafka import KafkaError, KafkaException, Producer

from pipeline.adapters.avro.codec import codecs, served_codecs
from pipeline.adapters.avro.registry import Registry
from pipeline.adapters.exported.reading import ExportFile
from pipeline.adapters.kafka import COMMON, QUIET_S, admin, connection, end_offsets, on_error
from pipeline.adapters.kafka.topics import partition_counts
from pipeline.engine.plan import ServicePlan
from pipeline.engine.ports import TP
from pipeline.errors import BrokerUnreachable, ExportFileError, ImportRefused, TopicError, UndecodableRecord
from pipeline.model import Aggregate, CommandMessage, TopicKind, is_barrier
from pipeline.model.records.partitioning import partition_of
from pipeline.topology import Topology
from pipeline.verify.sources.decode import Decoder
from pipeline.verify.sources.file_schemas import registry_with
from pipeline.verify.sources.history import Entry

RECORD_BYTES_MAX = 16 * 1024 * 1024
Headers = list[tuple[str, str | bytes | None]]


class Ready(NamedTuple):
    """A record to be stored. `partition`: -1 where the key says it."""

    key: bytes | None
    value: bytes | None
    headers: Headers
    partition: int = -1


class Target(Protocol):
    """The cluster that takes the records."""

    def ends(self, topic: str) -> list[int]:
        """Return where each partition ends. Raises TopicError if there is no such topic."""

    def send(self, topic: str, ready: Ready) -> None:
        """Queue a record; wait while the queue is full."""

    def flush(self) -> None:
        """Wait until all are stored. Raises BrokerUnreachable."""


@dataclass(slots=True)
class Imported:
    """How many records were stored, and how many were left out, by why."""

    records: int = 0
    left_out: Counter[str] = field(default_factory=Counter)


def import_file(
    file: ExportFile,
    topology: Topology,
    to_topic: str,
    target: Target,
    now_ms: int,
    from_topic: str | None = None,
    step: Callable[[int], object] = lambda _: None,
) -> Imported:
    """Store the records of one topic of the file. `from_topic`: which, if the file has others than `to_topic`.

    Of commands, those that came from outside go in, decided anew under the ids that they had: so once, however often
    they are imported. What services send one another, they send again. Raises ImportRefused, ExportFileError and
    TopicError.
    """
    source = _source(file, to_topic, from_topic)
    ends = target.ends(to_topic)
    aggregate = _aggregate(topology, to_topic)
    imported = Imported()
    if aggregate is not None:
        records = _commands(file, source, topology, aggregate, now_ms, imported)
    else:
        _check_free(file, source, topology, to_topic, ends)
        records = _copies(file, source, len(ends))
    for ready in records:
        target.send(to_topic, ready)
        imported.records += 1
        step(imported.records + imported.left_out.total())
    target.flush()
    return imported


def _source(file: ExportFile, to_topic: str, from_topic: str | None) -> str:
    topics = sorted(file.topics)
    source = from_topic or (to_topic if to_topic in topics or len(topics) > 1 else topics[0])
    if source not in topics:
        raise ExportFileError(
            f"{file.path} has no records of {source}; name one that it has with --topic: {', '.join(topics)}"
        )
    return source


def _aggregate(topology: Topology, topic: str) -> Aggregate[Any, Any, Any] | None:
    owned = [aggregate for service in topology.services.values() for aggregate in service.owned]
    return next((each for each in owned if TopicKind.COMMAND.topic(each.name) == topic), None)


def _entries(file: ExportFile, topic: str) -> Iterator[tuple[int, Entry]]:
    for partition in range(file.topics[topic]):
        for record in file.records(topic, partition):
            yield partition, Entry(*record)


# --- commands ---------------------------------------------------------------------------------------------------------


def _commands(
    file: ExportFile,
    source: str,
    topology: Topology,
    aggregate: Aggregate[Any, Any, Any],
    now_ms: int,
    imported: Imported,
) -> Iterator[Ready]:
    topic = TopicKind.COMMAND.topic(aggregate.name)
    if source != topic:
        raise ImportRefused(f"{source} holds no commands of {aggregate.name}: only an export of {topic} goes in there")
    decoder = Decoder(registry_with([file], topology), topic, CommandMessage, aggregate.command)
    make = served_codecs(topology.schemas, topology.names, registers=True)
    encode = make(topic, CommandMessage, aggregate.command).encode
    for _, record in _entries(file, source):
        if is_barrier(record.value, record.headers):
            continue
        try:
            read = decoder.read(record)
        except UndecodableRecord:
            imported.left_out["no commands, but replies or what cannot be read"] += 1
            continue
        if read is None:
            imported.left_out["of no class here"] += 1
        elif read[1].causation_id is not None:
            imported.left_out["sent by services, which send them again"] += 1
        else:
            command = read[1]._replace(issued_ms=now_ms, reply_to=None)
            yield Ready(record.key, encode(command), list(record.headers))


# --- anything else ----------------------------------------------------------------------------------------------------


def _check_free(file: ExportFile, source: str, topology: Topology, topic: str, ends: list[int]) -> None:
    """Raise ImportRefused if records there would contradict what a service keeps, or could not be read."""
    make = codecs(topology.schemas)
    for service in topology.services.values():
        if topic in {own for own, _ in ServicePlan(service, make).own_topics()}:
            raise ImportRefused(
                f"{topic} belongs to the service {service.name!r}, whose tables would contradict what is imported; "
                f"import the commands instead, or name a topology without {service.name!r} that only follows {topic}"
            )
    if any(ends):
        raise ImportRefused(
            f"{topic} has records already, and those of an import would stand among or behind them; delete the topic "
            "and create it anew, or name a new one"
        )
    sources = {each.topic for service in topology.services.values() for each in service.sources()}
    registry = Registry(topology.schemas)
    for entry in file.schemas if topic in sources else ():
        if entry["topic"] != source:
            continue
        try:
            registry.written_with(entry["id"], topic)
        except UndecodableRecord as error:
            raise ImportRefused(
                f"this topology follows {topic}, and cannot read what {file.path} has of {source}: {error}; take that "
                f"schema over into {topology.schemas}/manifest.json"
            ) from error


def _copies(file: ExportFile, source: str, partitions: int) -> Iterator[Ready]:
    """Yield the records as they are, in the partitions where they stood, or if there are not as many, by their keys."""
    alike = partitions == file.topics[source]
    for partition, record in _entries(file, source):
        home = partition if alike or not record.key else partition_of(record.key, partitions)
        yield Ready(record.key, record.value, list(record.headers), home % partitions)


class KafkaTarget:
    """A cluster."""

    def __init__(self, bootstrap: str) -> None:
        self._admin = admin(bootstrap)
        self._failed = ""
        config = COMMON | {
            **connection(bootstrap),
            "enable.idempotence": True,
            "partitioner": "murmur2_random",
            "linger.ms": 20,
            "queue.buffering.max.messages": 20_000,
            "message.max.bytes": RECORD_BYTES_MAX,
            "error_cb": on_error,
        }
        self._producer = Producer(config)

    def ends(self, topic: str) -> list[int]:
        """Return where each partition ends. Raises TopicError if there is no such topic."""
        count = partition_counts(self._admin).get(topic, 0)
        if not count:
            raise TopicError(f"the broker has no topic {topic}; create it first, or correct the name")
        return list(end_offsets(self._admin, [TP(topic, n) for n in range(count)]).values())

    def send(self, topic: str, ready: Ready) -> None:
        """Queue a record; wait while the queue is full."""
        while True:
            try:
                self._producer.produce(
                    topic, ready.value, ready.key, ready.partition, self._delivered, headers=ready.headers
                )
                break
            except BufferError:
                self._producer.poll(0.1)
            except KafkaException as error:
                self._failed = error.args[0].str()
                break
        self._producer.poll(0)
        if self._failed:
            self.flush()

    def _delivered(self, error: KafkaError | None, _: object) -> None:
        if error is not None:
            self._failed = error.str()

    def flush(self) -> None:
        """Wait until all are stored. Raises BrokerUnreachable."""
        left = self._producer.flush(QUIET_S)
        if self._failed or left:
            why = self._failed or f"no confirmation within {QUIET_S:.0f} s"
            raise BrokerUnreachable(
                f"only some of the records were stored: {why}; commands can be imported again, for anything else "
                "delete the topic and create it anew first"
            )
