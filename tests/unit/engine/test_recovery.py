"""Rolling tables forward, and the named reasons for beginning anew; on a real RocksDB, with changelogs made by hand."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from pipeline.adapters.rocksdb.stores import RocksStores, claim_slot
from pipeline.engine.copies.recovery import TableRecovery
from pipeline.engine.plan import SourceTopic
from pipeline.engine.ports import TP, LogFacts, Position
from pipeline.engine.state.table import TableSpec
from pipeline.engine.stats import LaneStats, Wipe
from pipeline.errors import LaneFatal, RecordsLost, TableUnavailable

SOURCE, CHANGELOG = TP("stock.command", 0), TP("stock.state", 0)
HOUR_MS = 3_600_000
FACTS = LogFacts(identity=7, partitions=1, delete_retention_ms=24 * HOUR_MS)


class Row(NamedTuple):
    at: int
    name: bytes
    data: bytes | None

    def key(self) -> bytes:
        return self.name

    def value(self) -> bytes | None:
        return self.data

    def offset(self) -> int:
        return self.at


class SetClock:
    """Says what it is told to."""

    def __init__(self) -> None:
        self.now_ms = 1_000_000 * HOUR_MS

    def monotonic_s(self) -> float:
        return self.now_ms / 1000

    def time_ms(self) -> int:
        return self.now_ms


class World:
    """One partition's store over several lives of its worker."""

    def __init__(self, stores: RocksStores) -> None:
        self.stores, self.clock, self.stats = stores, SetClock(), LaneStats()
        tables = [TableSpec("stock", CHANGELOG.topic, None)]  # type: ignore[arg-type]
        self.source_topic = SourceTopic(SOURCE.topic, codec=None, envelope=True, queue="queue", tables=tables)  # type: ignore[arg-type]
        self.store: Any = None

    def begin(
        self, end: int, facts: LogFacts = FACTS, committed: Position | None = None
    ) -> tuple[TableRecovery, int | None]:
        """A worker starts: the copy, and where it is to read its changelog."""
        if self.store is not None:
            self.store.close()
        self.store = self.stores.open("stock.command-0")
        copy = TableRecovery(SOURCE, self.source_topic, self.store, self.clock, self.stats)
        starts = copy.begin({CHANGELOG: end}, {CHANGELOG.topic: facts})
        copy.set_target(committed, {CHANGELOG: end})
        return copy, starts[CHANGELOG]

    def rows(self) -> dict[bytes, bytes]:
        return dict(self.store.scan(b"stock\0", b"", 100))


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    _, stores = claim_slot(tmp_path, "stock", 0)
    made = World(stores)
    yield made
    made.store.close()
    stores.close()


def restored(world: World) -> None:
    copy, start = world.begin(end=3)
    assert start is None
    copy.apply(CHANGELOG, [Row(0, b"a", b"1"), Row(1, b"b", b"2")])
    assert copy.unfinished
    copy.reached(CHANGELOG, 3)  # a marker
    assert not copy.unfinished
    assert copy.finish(Position(10, {})) == {CHANGELOG.topic: (3, 7)}


def test_it_goes_on_where_it_was(world: World) -> None:
    restored(world)
    copy, start = world.begin(end=5)
    assert start == 3
    copy.apply(CHANGELOG, [Row(3, b"a", None), Row(4, b"c", b"3")])
    assert not copy.unfinished
    assert world.rows() == {b"stock\0b": b"2", b"stock\0c": b"3"}
    assert world.stats.wiped == {}


def test_an_end_below_the_target_is_an_open_transaction_and_waited_for(world: World) -> None:
    copy, _ = world.begin(end=4)
    copy.apply(CHANGELOG, [Row(0, b"a", b"1")])
    copy.reached(CHANGELOG, 2)
    assert copy.unfinished


def test_what_was_committed_is_the_target_whatever_a_leader_of_yesterday_says(world: World) -> None:
    copy, _ = world.begin(end=0, committed=Position(10, {CHANGELOG.topic: (3, 7)}))
    assert copy.unfinished
    copy.reached(CHANGELOG, 0)
    assert copy.unfinished
    copy.apply(CHANGELOG, [Row(2, b"a", b"1")])
    assert not copy.unfinished


def test_a_log_that_does_not_bring_what_was_committed_ends_the_lane(world: World) -> None:
    copy, _ = world.begin(end=0, committed=Position(10, {CHANGELOG.topic: (3, 7)}))
    copy.check()
    world.clock.now_ms += 121_000
    with pytest.raises(LaneFatal, match=r"no stable record comes for 120 s from stock\.state-0 from 0"):
        copy.check()


@pytest.mark.parametrize(
    ("end", "facts", "hours", "why"),
    [(3, FACTS._replace(identity=8), 0, Wipe.OTHER_TOPIC), (2, FACTS, 0, Wipe.AHEAD), (5, FACTS, 13, Wipe.TOO_OLD)],
)
def test_what_cannot_be_rolled_forward_is_wiped(world: World, end: int, facts: LogFacts, hours: int, why: Wipe) -> None:
    restored(world)
    world.clock.now_ms += hours * HOUR_MS
    copy, start = world.begin(end, facts)
    assert start is None
    assert copy.unfinished
    assert world.rows() == {}
    assert world.stats.wiped == {why: 1}


@pytest.mark.parametrize(("end", "hours"), [(5, 11), (3, 1000)])
def test_what_is_young_or_lacks_nothing_is_kept(world: World, end: int, hours: int) -> None:
    restored(world)
    world.clock.now_ms += hours * HOUR_MS
    assert world.begin(end)[1] == 3
    assert world.stats.wiped == {}


def test_half_a_restore_does_not_make_a_copy_young(world: World) -> None:
    restored(world)
    world.clock.now_ms += 8 * HOUR_MS
    copy, _ = world.begin(end=9)
    copy.apply(CHANGELOG, [Row(3, b"c", b"3")])  # and the worker is killed
    world.clock.now_ms += 5 * HOUR_MS
    world.begin(end=9)
    assert world.stats.wiped == {Wipe.TOO_OLD: 1}


def test_a_changelog_that_no_longer_reaches_back_is_read_from_its_beginning(world: World) -> None:
    restored(world)
    copy, _ = world.begin(end=9)
    assert list(copy.begin_again()) == [CHANGELOG]
    assert world.rows() == {}
    assert world.stats.wiped == {Wipe.OUT_OF_RANGE: 1}


def test_a_damaged_store_is_thrown_away_and_said(world: World) -> None:
    restored(world)
    world.store.flush()
    world.store.close()
    for table in world.stores.directory.glob("tables/*.sst"):
        table.write_bytes(table.read_bytes()[:100])
    _, start = world.begin(end=3)
    assert start is None
    assert world.stats.wiped == {Wipe.DAMAGED: 1}


def test_rows_without_a_group_offset_stop_the_service(world: World) -> None:
    restored(world)
    copy, _ = world.begin(end=3)
    with pytest.raises(RecordsLost, match=r"no offset for stock\.command-0.*reset-offsets"):
        copy.finish(None)


def test_a_restore_says_how_far_it_is(world: World) -> None:
    restored(world)  # as far as 3
    copy, _ = world.begin(end=3)
    assert copy.progress() == (0, 0)
    copy, start = world.begin(end=9, committed=Position(10, {CHANGELOG.topic: (9, 7)}))
    assert copy.is_aimed
    assert (start, copy.progress()) == (3, (0, 6))
    copy.apply(CHANGELOG, [Row(n, b"a", b"1") for n in range(3, 7)])
    assert copy.progress() == (4, 6)
    copy.apply(CHANGELOG, [Row(n, b"a", b"1") for n in range(7, 12)])
    assert copy.progress() == (6, 6), "what another worker has written since is not counted"
    copy.begin_again()
    assert copy.progress() == (0, 9)


def test_a_standby_knows_its_age(world: World) -> None:
    restored(world)  # as far as 3

    def look(copy: TableRecovery, end: int) -> None:
        copy.sample_lag({CHANGELOG: end}, world.clock.monotonic_s())

    copy, _ = world.begin(end=3)
    assert copy.age_s() is None
    look(copy, 3)
    assert copy.age_s() == 0
    for second in range(1, 4):  # under a steady load the ends of now are never reached, those of the last look are
        world.clock.now_ms += 1000
        look(copy, 3 + second)
        assert copy.age_s() == 1
        copy.apply(CHANGELOG, [Row(2 + second, b"a", b"1")])
    world.clock.now_ms += 5000
    assert copy.age_s() == 6


def test_one_offset_short_is_a_marker_and_no_deletion(world: World) -> None:
    restored(world)
    world.clock.now_ms += 1000 * HOUR_MS
    assert world.begin(end=4)[1] == 3
    assert world.stats.wiped == {}


def test_a_table_asked_while_it_is_being_closed_is_not_damaged(world: World) -> None:
    restored(world)
    error = world.store._database.failed(RuntimeError("Already mutably borrowed"))
    assert isinstance(error, TableUnavailable)
    assert world.begin(end=3)[1] == 3
