"""What the lane relies on in Kafka and in its adapters: transactions, fencing, ends, groups.

Every case runs on a real Kafka and on the one in memory.
"""

import random
import time
from collections.abc import Callable, Iterator
from contextlib import closing

import pytest

from pipeline.adapters.kafka import SESSION_S
from pipeline.client.commands import Commands
from pipeline.engine.ports import TP, LogReader, Polled, Position, Producer
from pipeline.errors import LaneFatal, RecordRefused, TransactionAborted
from pipeline.model.records.partitioning import partition_of
from tests.bank.traffic import BANK, KEYS, asked
from tests.contract.clusters import Cluster, MemoryCluster, RealCluster, name


@pytest.fixture(params=["memory", "kafka"])
def cluster(request: pytest.FixtureRequest) -> Cluster:
    return MemoryCluster() if request.param == "memory" else RealCluster(request.getfixturevalue("kafka"))


@pytest.fixture
def topic(cluster: Cluster) -> str:
    return cluster.topic()


@pytest.fixture
def producer(cluster: Cluster) -> Iterator[Producer]:
    with closing(cluster.producer(name("tx"))) as made:
        yield made


@pytest.fixture
def reader(cluster: Cluster) -> Iterator[LogReader]:
    with closing(cluster.reader()) as made:
        yield made


class Member:
    """A group member that notes what it is told."""

    def __init__(
        self, cluster: Cluster, group: str, topics: list[str], instance: str = "one", protocol: str = "classic"
    ) -> None:
        self.consumer = cluster.consumer(group, f"{group}-{instance}", protocol)
        self.partitions: set[TP] = set()
        self.given_back: set[TP] = set()
        self.consumer.subscribe(topics, self)

    def assigned(self, partitions: list[TP]) -> None:
        self.partitions |= set(partitions)

    def revoked(self, partitions: list[TP]) -> None:
        self.partitions -= set(partitions)
        self.given_back |= set(partitions)

    lost = revoked

    def until(self, count: int) -> None:
        """Polls until that many partitions are assigned. Bounded by the number of polls."""
        for _ in range(300):
            if len(self.partitions) == count:
                return
            assert self.consumer.poll(10, 0.1) == Polled()  # all is paused
        pytest.fail(f"assigned {self.partitions}, not {count} partitions")


def read_to_end(reader: LogReader, tp: TP, start: int | None = None) -> tuple[list[bytes], int]:
    """Values of a partition and the offset of its stable end."""
    reader.follow({tp: start})
    values: list[bytes] = []
    try:
        for _ in range(100):
            polled = reader.poll(100, 0.1)
            values += [record.value() for record in polled.batches.get(tp, [])]
            if tp in polled.ends:
                return values, polled.ends[tp]
    finally:
        reader.unfollow([tp])
    pytest.fail("no end in sight")


def test_only_what_is_committed_is_read_and_the_end_is_behind_the_marker(
    cluster: Cluster, topic: str, producer: Producer, reader: LogReader
) -> None:
    producer.begin()
    producer.produce(topic, b"k", b"aborted", 0)
    producer.flush(10)
    producer.abort()
    producer.begin()
    producer.produce(topic, b"k", b"committed", 0)
    cluster.commit(producer)
    values, end = read_to_end(reader, TP(topic, 0))
    assert values == [b"committed"]
    assert end == reader.ends([TP(topic, 0)])[TP(topic, 0)] == 4  # two records, two markers


def test_an_open_transaction_holds_the_stable_end_back_but_not_the_logs(
    cluster: Cluster, topic: str, producer: Producer, reader: LogReader
) -> None:
    producer.begin()
    producer.produce(topic, b"k", b"open", 0)
    producer.flush(10)
    assert read_to_end(reader, TP(topic, 0)) == ([], 0)
    assert reader.ends([TP(topic, 0)]) == {TP(topic, 0): 1}
    producer.abort()


def test_flush_tells_the_offset_behind_the_last_record_of_each_partition(topic: str, producer: Producer) -> None:
    producer.begin()
    for n in range(3):
        producer.produce_last(topic, b"k", b"%d" % n, 0)
    producer.produce_last(topic, b"k", None, 2)
    producer.produce(topic, b"k", b"not asked for", 1)
    assert producer.flush(10) == {TP(topic, 0): 3, TP(topic, 2): 1}
    producer.abort()


def test_keys_are_spread_as_java_clients_spread_them(
    cluster: Cluster, topic: str, producer: Producer, reader: LogReader
) -> None:
    keys = [f"key-{n}".encode() for n in range(40)]
    producer.begin()
    for key in keys:
        producer.produce(topic, key, key)
    cluster.commit(producer)
    for partition in range(4):
        values, _ = read_to_end(reader, TP(topic, partition))
        assert values == [key for key in keys if partition_of(key, 4) == partition]


def told_out_of_range(reader: LogReader) -> set[TP]:
    """The partitions of the first such answer. Bounded by the number of polls."""
    for _ in range(100):
        if told := reader.poll(10, 0.1).out_of_range:
            return told
    pytest.fail("nothing was told")


def test_a_place_that_the_log_does_not_hold_is_told(topic: str, reader: LogReader) -> None:
    reader.follow({TP(topic, 0): 1000})
    assert told_out_of_range(reader) == {TP(topic, 0)}


def test_what_retention_has_taken_is_told_and_the_beginning_is_behind_it(
    cluster: Cluster, topic: str, producer: Producer, reader: LogReader
) -> None:
    tp = TP(topic, 0)
    for value in (b"old", b"new"):
        producer.begin()
        producer.produce(topic, b"k", value, 0)
        cluster.commit(producer)
    cluster.truncate(tp, 2)
    assert read_to_end(reader, tp) == ([b"new"], 4)
    reader.follow({tp: 1})
    assert told_out_of_range(reader) == {tp}


def test_a_record_behind_an_open_transaction_waits_for_it(
    cluster: Cluster, topic: str, producer: Producer, reader: LogReader
) -> None:
    tp = TP(topic, 0)
    producer.begin()
    producer.produce(topic, b"k", b"open", 0)
    producer.flush(10)
    with closing(cluster.producer(name("tx"))) as other:
        other.begin()
        other.produce(topic, b"k", b"committed", 0)
        cluster.commit(other)
    reader.follow({tp: None})
    for _ in range(100):
        polled = reader.poll(10, 0.1)
        assert polled.batches == {}
        if tp in polled.ends:
            assert (polled.ends, polled.held_back) == ({tp: 0}, {tp})
            break
    producer.abort()
    reader.unfollow([tp])
    assert read_to_end(reader, tp) == ([b"committed"], 4)


def test_a_record_that_the_broker_refuses_is_told_though_others_are_queued(
    cluster: Cluster, topic: str, producer: Producer
) -> None:
    producer.begin()
    producer.produce(topic, b"k", b"x" * 1_200_000, 0)
    for n in range(100):
        producer.produce(topic, b"k", b"small", n % 4)
    with pytest.raises(RecordRefused):
        cluster.commit(producer)  # which flushes first, though the rest may never be sent
    producer.abort()


def test_a_second_producer_of_the_same_id_fences_the_first(cluster: Cluster, topic: str) -> None:
    with closing(cluster.producer(f"tx-{topic}")) as first:
        first.begin()
        first.produce(topic, b"k", b"zombie", 0)
        first.flush(10)
        with closing(cluster.producer(f"tx-{topic}")):
            first.produce(topic, b"k", b"zombie", 0)
            with pytest.raises((LaneFatal, TransactionAborted)):
                cluster.commit(first)


def test_positions_are_committed_with_the_transaction_or_not_at_all(
    cluster: Cluster, topic: str, producer: Producer
) -> None:
    member = Member(cluster, f"g-{topic}", [topic])
    tp = TP(topic, 0)
    with closing(member.consumer):
        member.until(4)
        assert member.consumer.committed([tp]) == {tp: None}
        producer.begin()
        producer.produce(topic, b"k", b"v", 1)
        position = Position(5, {"a.state": (77, 2**64 - 1), "b.row": (0, 1)}, ("orders-dead-0",), 2**64 - 1, 2)
        producer.commit({tp: position}, member.consumer.group(), 10)
        assert member.consumer.committed([tp]) == {tp: position}


def test_a_commit_notes_whose_it_is_and_what_is_open_does_not_count(
    cluster: Cluster, topic: str, producer: Producer
) -> None:
    member = Member(cluster, f"g-{topic}", [topic])
    tp = TP(topic, 0)
    with closing(member.consumer), closing(cluster.producer(name("other"))) as other:
        member.until(4)
        assert member.consumer.owners([tp]) == {}
        producer.begin()
        producer.produce(topic, b"k", b"v", 1)
        producer.commit({tp: Position(5, {"a.state": (77, 1)}, ("orders-dead-0",))}, member.consumer.group(), 10)
        assert member.consumer.owners([tp, TP(topic, 1)]) == {tp: (producer.name, "orders-dead-0")}
        other.begin()
        other.produce(topic, b"k", b"v", 1)
        cluster.join_offsets(other, {tp: Position(6, {})}, member.consumer.group())
        assert member.consumer.owners([tp]) == {tp: (producer.name, "orders-dead-0")}
        other.abort()


def test_members_are_told_by_their_static_names_also_to_who_is_none(cluster: Cluster, topic: str) -> None:
    group = f"g-{topic}"
    asking = cluster.consumer(group, "")
    with closing(asking):
        assert asking.members() == set()
        member = Member(cluster, group, [topic])
        with closing(member.consumer):
            member.until(4)
            assert asking.members() == {f"{group}-one"}


def test_fencing_a_producer_ends_what_it_has_left_open(
    cluster: Cluster, topic: str, producer: Producer, reader: LogReader
) -> None:
    gone = cluster.producer(name("gone"))
    gone.begin()
    gone.produce(topic, b"k", b"open", 0)
    gone.flush(10)
    assert read_to_end(reader, TP(topic, 0)) == ([], 0)
    producer.fence(gone.name)
    for _ in range(100):
        if read_to_end(reader, TP(topic, 0)) == ([], 2):
            break
        cluster.pause()
    else:
        pytest.fail("what was open still hides what comes after it")
    with closing(gone), pytest.raises((LaneFatal, TransactionAborted)):
        cluster.commit(gone)


def test_an_earlier_generation_of_the_group_cannot_commit(cluster: Cluster, topic: str, producer: Producer) -> None:
    group = f"g-{topic}"
    first = Member(cluster, group, [topic], "one")
    with closing(first.consumer):
        first.until(4)
        stale = first.consumer.group()
        second = Member(cluster, group, [topic], "two")
        with closing(second.consumer):
            # Both have to poll for the group to come to its new generation.
            both_poll(cluster, first, second, lambda: len(first.partitions) == len(second.partitions) == 2)
            producer.begin()
            producer.produce(topic, b"k", b"v", 0)
            with pytest.raises(TransactionAborted):
                producer.commit({TP(topic, 0): Position(5, {})}, stale, 10)
            producer.abort()
            assert first.consumer.committed([TP(topic, 0)]) == {TP(topic, 0): None}


def test_offsets_within_an_undecided_transaction_are_not_to_be_had(
    cluster: Cluster, topic: str, producer: Producer
) -> None:
    member = Member(cluster, f"g-{topic}", [topic])
    tp = TP(topic, 0)
    with closing(member.consumer):
        member.until(4)
        producer.begin()
        producer.produce(topic, b"k", b"v", 1)
        cluster.join_offsets(producer, {tp: Position(5, {})}, member.consumer.group())
        assert member.consumer.committed([tp]) is None
        assert member.consumer.committed([TP(topic, 1)]) in ({TP(topic, 1): None}, None)
        producer.abort()
        offsets = [offset for _ in range(20) if (offset := member.consumer.committed([tp]))]
        assert offsets[0] == {tp: None}


def both_poll(cluster: Cluster, first: Member, second: Member, there: Callable[[], bool]) -> None:
    for _ in range(300):
        if there():
            return
        first.consumer.poll(10, 0.02)
        second.consumer.poll(10, 0.02)
        cluster.pause()
    pytest.fail(f"{first.partitions} and {second.partitions}")


@pytest.mark.parametrize("protocol", ["classic", "consumer"])
def test_a_second_member_gets_its_share_and_gives_it_back_as_it_leaves(
    cluster: Cluster, topic: str, protocol: str
) -> None:
    group = f"g-{topic}"
    first = Member(cluster, group, [topic], "one", protocol)
    with closing(first.consumer):
        first.until(4)
        second = Member(cluster, group, [topic], "two", protocol)
        with closing(second.consumer):
            both_poll(cluster, first, second, lambda: len(first.partitions) == len(second.partitions) == 2)
            assert first.partitions | second.partitions == {TP(topic, n) for n in range(4)}
            # The classic protocol stops everything for a change, the other one what moves.
            assert len(first.given_back) == (4 if protocol == "classic" else 2)
            if protocol == "classic":
                left_s = time.monotonic()
                second.consumer.leave()
                first.until(4)
                assert time.monotonic() - left_s < SESSION_S / 2, "it waited for the end of a session"


def test_a_static_member_that_returns_changes_nothing(cluster: Cluster, topic: str) -> None:
    group = f"g-{topic}"
    first = Member(cluster, group, [topic], "one")
    with closing(first.consumer):
        first.until(4)
        second = Member(cluster, group, [topic], "two")
        both_poll(cluster, first, second, lambda: len(first.partitions) == len(second.partitions) == 2)
        held, first.given_back = set(second.partitions), set()
        second.consumer.close()
        again = Member(cluster, group, [topic], "two")
        with closing(again.consumer):
            both_poll(cluster, first, again, lambda: len(again.partitions) == 2)
            assert (again.partitions, first.given_back) == (held, set())


def test_another_of_the_same_name_takes_its_place(cluster: Cluster, topic: str) -> None:
    group = f"g-{topic}"
    first = Member(cluster, group, [topic])
    with closing(first.consumer):
        first.until(4)
        second = Member(cluster, group, [topic])
        with closing(second.consumer):
            second.until(4)
            with pytest.raises(LaneFatal):
                poll_for(first, 100)


def poll_for(member: Member, times: int) -> None:
    for _ in range(times):
        member.consumer.poll(10, 0.1)


def test_a_group_member_that_asks_for_what_is_not_there_is_told_and_cannot_go_on(cluster: Cluster, topic: str) -> None:
    member = Member(cluster, f"g-{topic}", [topic])
    tp = TP(topic, 0)
    with closing(member.consumer):
        member.until(4)
        member.consumer.start(tp, 1000)
        assert any(member.consumer.poll(10, 0.1).out_of_range == {tp} for _ in range(100))
        assert member.consumer.bounds(tp) == (0, 0)
        with pytest.raises(LaneFatal):
            member.consumer.start(tp, 0)


def test_the_commands_of_the_bank_come_back_with_their_keys(
    cluster: Cluster, topic: str, producer: Producer, reader: LogReader
) -> None:
    commands, rng = Commands(BANK), random.Random(1)
    sent = [commands.write(*asked(rng, KEYS, number)) for number in range(60)]
    producer.begin()
    for each in sent:
        producer.produce(topic, each.key, each.value, 0)
    cluster.commit(producer)
    reader.follow({TP(topic, 0): None})
    read: list[tuple[bytes, bytes]] = []
    for _ in range(100):
        polled = reader.poll(100, 0.1)
        read += [(record.key(), record.value()) for record in polled.batches.get(TP(topic, 0), [])]
        if TP(topic, 0) in polled.ends:
            break
    assert read == [(each.key, each.value) for each in sent]
