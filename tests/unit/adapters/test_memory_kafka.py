"""The Kafka in memory where a real one takes too long to be asked: time-outs, expulsion, the cleaner, crashes."""

from collections.abc import Sequence

import pytest

from pipeline.adapters.memory import MemoryGroupConsumer, MemoryKafka, MemoryLogReader, MemoryProducer, MemoryStores
from pipeline.engine.ports import TP, Position
from pipeline.errors import LaneFatal, RecordRefused, TransactionAborted

T = TP("t", 0)


class Listening:
    def __init__(self) -> None:
        self.heard: list[tuple[str, list[TP]]] = []

    def assigned(self, partitions: Sequence[TP]) -> None:
        self.heard.append(("assigned", list(partitions)))

    def revoked(self, partitions: Sequence[TP]) -> None:
        self.heard.append(("revoked", list(partitions)))

    def lost(self, partitions: Sequence[TP]) -> None:
        self.heard.append(("lost", list(partitions)))


@pytest.fixture
def kafka() -> MemoryKafka:
    made = MemoryKafka()
    made.create_topic("t", 1, compacted=True)
    return made


def write(kafka: MemoryKafka, producer: MemoryProducer, *pairs: tuple[bytes, bytes | None]) -> None:
    producer.begin()
    for key, value in pairs:
        producer.produce("t", key, value, 0)
    producer.commit({}, None)


def read(kafka: MemoryKafka) -> list[tuple[bytes, bytes | None]]:
    reader = MemoryLogReader(kafka)
    reader.follow({T: None})
    return [(record.key(), record.value()) for record in reader.poll(100, 0).batches.get(T, [])]


def test_a_transaction_times_out_and_fences_its_producer(kafka: MemoryKafka) -> None:
    producer = MemoryProducer(kafka, "p")
    producer.begin()
    producer.produce("t", b"k", b"v", 0)
    producer.flush()
    kafka.clock.advance(59)
    assert kafka.log(T).stable_end == 0
    kafka.clock.advance(2)
    assert kafka.log(T).stable_end == 2
    assert read(kafka) == []
    with pytest.raises(LaneFatal):
        producer.commit({}, None)


def test_a_silent_member_is_expelled_and_hears_of_it(kafka: MemoryKafka) -> None:
    listening = Listening()
    consumer = MemoryGroupConsumer(kafka, "g", "g-0")
    consumer.subscribe(["t"], listening)
    consumer.poll(1, 0)
    stale = consumer.group()
    consumer.silence()
    kafka.clock.advance(7)
    consumer.beat()
    producer = MemoryProducer(kafka, "p")
    producer.begin()
    with pytest.raises(TransactionAborted, match="does not know this member"):
        producer.commit({T: Position(1, {})}, stale)
    consumer.poll(1, 0)
    assert listening.heard == [("assigned", [T]), ("lost", [T]), ("assigned", [T])]


def test_a_short_silence_is_nothing(kafka: MemoryKafka) -> None:
    listening = Listening()
    consumer = MemoryGroupConsumer(kafka, "g", "g-0")
    consumer.subscribe(["t"], listening)
    consumer.poll(1, 0)
    consumer.silence()
    kafka.clock.advance(5)
    consumer.beat()
    kafka.clock.advance(5)
    consumer.poll(1, 0)
    assert listening.heard == [("assigned", [T])]


def test_the_cleaner_keeps_the_last_of_each_key_and_deletions_for_a_day(kafka: MemoryKafka) -> None:
    producer = MemoryProducer(kafka, "p")
    write(kafka, producer, (b"a", b"1"), (b"b", b"1"))
    write(kafka, producer, (b"a", None), (b"b", b"2"))
    kafka.compact()
    assert read(kafka) == [(b"a", None), (b"b", b"2")]
    kafka.clock.advance(25 * 3600)
    kafka.compact()
    assert read(kafka) == [(b"b", b"2")]
    assert kafka.log(T).end == 6


def test_late_markers_hold_back_what_is_committed(kafka: MemoryKafka) -> None:
    kafka.delay_markers([T], 3)
    producer = MemoryProducer(kafka, "p")
    write(kafka, producer, (b"a", b"1"))
    assert read(kafka) == []
    producer.begin()
    producer.produce("t", b"a", b"2", 0)
    producer.flush()  # waits for the markers of the last transaction
    assert kafka.clock.now_s >= 4
    assert read(kafka) == [(b"a", b"1")]


def test_a_late_commit_counts_unless_another_producer_has_come(kafka: MemoryKafka) -> None:
    for another, there in ((False, [(b"a", b"1")]), (True, [(b"a", b"1")])):
        producer = MemoryProducer(kafka, "p")
        producer.begin()
        producer.produce("t", b"a", b"1", 0)
        with pytest.raises(LaneFatal):
            producer.commit_late({}, None, 2)
        if another:
            MemoryProducer(kafka, "p")
        kafka.clock.advance(3)
        assert read(kafka) == there


def test_the_broker_refuses_large_records_and_the_client_larger_ones() -> None:
    kafka = MemoryKafka(record_bytes_max=10)
    kafka.create_topic("t", 1)
    producer = MemoryProducer(kafka, "p")
    producer.begin()
    with pytest.raises(RecordRefused):
        producer.produce("t", b"k", b"x" * 21, 0)
    producer.produce("t", b"k", b"x" * 11, 0)
    with pytest.raises(RecordRefused):
        producer.flush()


def test_a_crash_takes_the_last_writes_each_as_a_whole() -> None:
    stores = MemoryStores()
    store = stores.open("s")
    store.write([(b"a", b"1")], {"p": 1})
    store.flush()
    for n in range(2, 6):
        store.write([(b"a", b"%d" % n), (b"b", b"%d" % n)], {"p": n})
    stores.crash(lambda writes: writes // 2)
    store = stores.open("s")
    assert (store.get(b"a"), store.get(b"b"), store.position("p")) == (b"3", b"3", 3)


def test_a_damaged_store_begins_empty_and_says_so() -> None:
    stores = MemoryStores()
    store = stores.open("s")
    store.write([(b"a", b"1")], {"p": 1})
    assert isinstance(store.damaged(), LaneFatal)
    again = stores.open("s")
    assert (again.damage is None, again.position("p")) == (False, None)
