"""A replica's own bookkeeping, on a real RocksDB."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from pipeline.adapters.avro.codec import codecs
from pipeline.adapters.rocksdb.stores import RocksStores, claim_slot
from pipeline.engine.copies.replica import ReplicaCopy
from pipeline.engine.ports import TP, LogFacts
from pipeline.engine.state.parked_table import ParkedRecord
from pipeline.engine.stats import LaneStats, Wipe
from pipeline.model import EventMessage, TopicKind
from pipeline.topology import Topology, load
from tests.unit.engine.test_recovery import Row

SOURCE = TP("users.event", 0)
FACTS = LogFacts(identity=7, partitions=1, delete_retention_ms=1)


@pytest.fixture
def stores(tmp_path: Path) -> Iterator[RocksStores]:
    _, made = claim_slot(tmp_path, "orders", 0)
    yield made
    made.close()


def copy(stores: RocksStores, topology: Topology, stats: LaneStats) -> ReplicaCopy:
    replica = topology.services["orders"].replicas[0]
    make = codecs(topology.schemas)
    events = make(SOURCE.topic, EventMessage, replica.source.event, strict=False)
    rows = make(TopicKind.REPLICA.topic(replica.name), type(replica.initial))
    queue = make("queue", ParkedRecord)
    return ReplicaCopy(replica, events, rows, queue, stores.open("replica"), stats)


def test_an_end_told_before_the_records_behind_it_does_not_turn_the_copy_back(stores: RocksStores) -> None:
    replica = copy(stores, load("topologies"), LaneStats())
    assert replica.starts(FACTS) == {SOURCE: None}
    replica.apply(SOURCE, [Row(10, b"u1", b"not Avro"), Row(12, b"u1", b"not Avro")])
    replica.reached(SOURCE, 10)
    assert replica.starts(FACTS) == {SOURCE: 13}
    replica.reached(SOURCE, 14)
    assert replica.starts(FACTS) == {SOURCE: 14}
    replica.store.close()


def test_a_copy_of_another_topic_of_that_name_begins_anew(stores: RocksStores) -> None:
    stats = LaneStats()
    replica = copy(stores, load("topologies"), stats)
    replica.starts(FACTS)
    replica.reached(SOURCE, 14)
    assert replica.starts(FACTS._replace(identity=8)) == {SOURCE: None}
    assert stats.wiped == {Wipe.OTHER_TOPIC: 1}
    replica.store.close()


def test_its_age_is_since_when_it_may_lack_something(stores: RocksStores) -> None:
    replica = copy(stores, load("topologies"), LaneStats())
    replica.starts(FACTS)
    replica.sample_lag({SOURCE: 5}, 100.0)
    assert replica.lag.age_s(101.0) is None, "it has not got there yet"
    replica.reached(SOURCE, 5)
    replica.sample_lag({SOURCE: 8}, 102.0)
    assert replica.lag.age_s(102.5) == 2.5, "it had all that there was at the look before, and no more is known"
    replica.sample_lag({SOURCE: 9}, 103.0)
    assert replica.lag.age_s(103.5) == 3.5, "behind, it grows older"
    replica.reached(SOURCE, 8)
    replica.sample_lag({SOURCE: 12}, 104.0)
    assert replica.lag.age_s(104.5) == 2.5, "under a steady load it is as of the look that it has got to"
    replica.begin_again()
    assert replica.lag.age_s(105.0) is None
    replica.store.close()
