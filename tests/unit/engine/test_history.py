"""The history of a partition: what it holds, what it says, when it begins anew; on a real RocksDB."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from pipeline.adapters.avro.codec import codecs
from pipeline.adapters.memory import MemoryStores
from pipeline.adapters.rocksdb.stores import RocksStores, claim_slot
from pipeline.engine.copies.histories import PAUSE_S, Histories
from pipeline.engine.copies.history_follower import HistoryFollower
from pipeline.engine.plan import ServicePlan
from pipeline.engine.ports import TP, LogFacts, Polled
from pipeline.engine.state.history_reader import HistorySpec
from pipeline.engine.stats import LaneStats, Wipe
from pipeline.errors import BrokerUnreachable, HistoryIncomplete
from pipeline.flow import events_to_state
from pipeline.model import EventMessage, StateMessage, TopicKind
from pipeline.server.pages.history import page_of
from pipeline.topology import Topology
from tests.unit.engine.test_recovery import Row, SetClock
from topologies import inventory as inv

LOG = TP("inventory.event", 0)
FACTS = LogFacts(identity=7, partitions=1, delete_retention_ms=1)
EVERY = 4


@pytest.fixture
def stores(tmp_path: Path) -> Iterator[RocksStores]:
    _, made = claim_slot(tmp_path, "inventory", 0)
    yield made
    made.close()


@pytest.fixture
def spec(shop_topology: Topology) -> HistorySpec:
    make = codecs(shop_topology.schemas)
    events = make(LOG.topic, EventMessage, inv.inventory.event)
    return HistorySpec(
        inv.inventory, LOG.topic, events, make("inventory.state", StateMessage, inv.Stock), "inventory.state"
    )


class Life:
    """One life of a history: opened, and closed at the end."""

    def __init__(self, spec: HistorySpec, stores: RocksStores, *, end: int = 0, facts: LogFacts = FACTS) -> None:
        self.spec, self.stats = spec, LaneStats()
        self.copy = HistoryFollower(spec, 0, stores.open("history.inventory-0"), self.stats, EVERY)
        self.past = self.copy.past
        self.start = self.copy.begin(facts, end)

    def __enter__(self) -> Life:
        return self

    def __exit__(self, *_: object) -> None:
        self.copy.store.close()

    def take(self, first_offset: int, *events: tuple[bytes, EventMessage]) -> None:
        encode = self.spec.events.encode
        self.copy.apply(LOG, [Row(first_offset + n, key, encode(event)) for n, (key, event) in enumerate(events)])


def received(version: int, quantity: int = 1) -> EventMessage:
    return EventMessage(version, f"c{version}", f"corr{version}", 100 * version, inv.StockReceived(quantity))


def of(key: bytes, count: int, first: int = 1) -> list[tuple[bytes, EventMessage]]:
    return [(key, received(version, version)) for version in range(first, first + count)]


def test_events_are_had_by_key_and_version(spec: HistorySpec, stores: RocksStores) -> None:
    with Life(spec, stores) as life:
        life.take(0, *of(b"tea", 3), *of(b"te", 2), *of(b"teapot", 1))
        life.take(6, *of(b"tea", 2, first=4))
        for key, count in ((b"tea", 5), (b"te", 2), (b"teapot", 1)):
            assert life.past.events(key, 0, 100) == [event for _, event in of(key, count)]
            assert (life.past.first(key), life.past.last(key)) == (1, count)
        assert life.past.events(b"tea", 2, 2) == [received(3, 3), received(4, 4)]
        assert life.past.events(b"tea", 5, 2) == []
        assert (life.past.first(b"t"), life.past.last(b"t"), life.past.events(b"t", 0, 9)) == (0, 0, [])


@pytest.mark.parametrize(("first", "skipped"), [(1, None), (200, None), (1, 75), (150, 151)])
def test_pages_join_whatever_the_log_lacks(
    spec: HistorySpec, stores: RocksStores, first: int, skipped: int | None
) -> None:
    held = [version for version in range(first, 321) if version != skipped]
    with Life(spec, stores) as life:
        life.take(0, *[(b"tea", received(version)) for version in held])
        versions: list[int] = []
        after: int | None = 0
        while after is not None:
            page = page_of(life.past, b"tea", after, 60)
            versions += [event["version"] for event in page["events"]]
            after = page["next"]
        assert versions == held
        assert page["last"] == 320
        assert page_of(life.past, b"tea", 320, 60)["events"] == []


@pytest.mark.parametrize("batch", [1, 3, 4, 50])
def test_the_state_at_each_version_is_the_fold_of_the_events(
    spec: HistorySpec, stores: RocksStores, batch: int
) -> None:
    events = of(b"tea", 22)
    with Life(spec, stores) as life:
        for at in range(0, len(events), batch):
            life.take(at, *events[at : at + batch])
        for version in range(23):
            folded = events_to_state(inv.inventory, b"tea", None, [event for _, event in events[:version]])
            assert life.past.state(b"tea", version) == folded
        assert len(life.copy.store.scan(b"state\0", b"", 100)) == 22 // EVERY


def test_a_state_is_folded_from_few_events(
    spec: HistorySpec, stores: RocksStores, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Life(spec, stores) as life:
        life.take(0, *of(b"tea", 22))
        read: list[int] = []
        original = life.past.events
        monkeypatch.setattr(
            life.past, "events", lambda k, after, limit: read.append(limit) or original(k, after, limit)
        )
        for version in range(22):
            life.past.state(b"tea", version)
        assert max(read) < EVERY


def test_the_version_of_a_time(spec: HistorySpec, stores: RocksStores) -> None:
    with Life(spec, stores) as life:
        life.take(0, *of(b"tea", 9))
        assert [life.past.version_at(b"tea", ms) for ms in (0, 99, 100, 850, 900, 10**14)] == [0, 0, 1, 8, 9, 9]
        assert life.past.version_at(b"nobody", 10**14) == 0


def test_it_reads_on_where_it_left_off_and_what_comes_twice_is_there_once(
    spec: HistorySpec, stores: RocksStores
) -> None:
    with Life(spec, stores, end=5) as life:
        assert (life.start, life.copy.building) == (None, True)
        life.take(0, *of(b"tea", 3))
        life.copy.reached(LOG, 4)  # over a marker
        assert (life.copy.building, life.copy.ended) == (True, True)
        life.copy.reached(LOG, 5)
        assert not life.copy.building
    with Life(spec, stores, end=5) as life:
        assert (life.start, life.copy.building) == (5, False)
        life.take(0, *of(b"tea", 6))
        assert life.past.events(b"tea", 0, 100) == [event for _, event in of(b"tea", 6)]


def test_an_end_told_before_the_records_behind_it_does_not_turn_it_back(spec: HistorySpec, stores: RocksStores) -> None:
    with Life(spec, stores) as life:
        life.take(10, *of(b"tea", 3))
        life.copy.reached(LOG, 10)
        assert (life.copy.position, life.copy.ended) == (13, False)


@pytest.mark.parametrize("why", [Wipe.OTHER_TOPIC, Wipe.AHEAD, Wipe.OUT_OF_RANGE, Wipe.DAMAGED])
def test_it_begins_anew_for_a_named_reason(spec: HistorySpec, stores: RocksStores, why: Wipe) -> None:
    with Life(spec, stores) as life:
        life.take(0, *of(b"tea", 9))
    if why is Wipe.DAMAGED:
        (stores.directory / "history" / "damaged").write_text("a checksum is wrong")
    facts = FACTS._replace(identity=8) if why is Wipe.OTHER_TOPIC else FACTS
    with Life(spec, stores, end=8 if why is Wipe.AHEAD else 9, facts=facts) as life:
        if why is Wipe.OUT_OF_RANGE:
            assert life.start == 9
            assert list(life.copy.begin_again()) == [LOG]
        else:
            assert life.start is None
        assert life.stats.wiped == {why: 1}
        assert life.copy.building
        assert life.past.last(b"tea") == 0
        life.take(0, *of(b"tea", 9))
        assert life.past.last(b"tea") == 9
    with Life(spec, stores, end=9, facts=facts) as life:
        assert (life.start, life.stats.wiped) == (9, {})


def test_it_does_not_answer_before_it_is_again_what_it_was(spec: HistorySpec, stores: RocksStores) -> None:
    with Life(spec, stores, end=0) as life:
        life.take(0, *of(b"tea", 9))
        life.copy.reached(LOG, 9)
        assert (life.copy.building, life.copy.ended) == (False, True)
        life.copy.begin_again()
        assert (life.copy.building, life.copy.ended) == (True, False)
        life.take(0, *of(b"tea", 9))
        assert not life.copy.building


def test_a_log_whose_beginning_is_gone_is_told(
    spec: HistorySpec, stores: RocksStores, caplog: pytest.LogCaptureFixture
) -> None:
    with Life(spec, stores) as life:
        life.take(40, *of(b"tea", 6, first=7), *of(b"pot", 2))
        assert "has lost its beginning: its first event is version 7" in caplog.text
        assert (life.past.first(b"tea"), life.past.last(b"tea")) == (7, 12)
        assert len(life.past.events(b"tea", 0, 100)) == 6
        with pytest.raises(HistoryIncomplete, match="version 1 is missing: the event log holds 7 next"):
            life.past.state(b"tea", 12)
        assert life.past.version_at(b"tea", 900) == 9
        with pytest.raises(HistoryIncomplete, match="begins at version 7"):
            life.past.version_at(b"tea", 500)
        assert life.past.state(b"pot", 2) is not None


def test_what_is_no_event_is_skipped_and_told(
    spec: HistorySpec, stores: RocksStores, caplog: pytest.LogCaptureFixture
) -> None:
    with Life(spec, stores) as life:
        data = spec.events.encode(received(1))
        life.copy.apply(LOG, [Row(0, b"tea", b"not Avro"), Row(1, b"tea", data), Row(2, None, data)])  # type: ignore[arg-type]
        assert (life.stats.skipped_by_history, life.past.last(b"tea"), life.copy.position) == (2, 1, 3)
        assert "skips inventory.event-0 offset 0" in caplog.text


def test_a_bug_in_evolve_takes_the_states_and_not_the_events(
    spec: HistorySpec, stores: RocksStores, caplog: pytest.LogCaptureFixture
) -> None:
    def evolve(stock: inv.Stock, event: object) -> inv.Stock:
        raise KeyError("a bug")

    buggy = spec._replace(aggregate=replace(inv.inventory, evolve=evolve))
    with Life(buggy, stores) as life:
        life.take(0, *of(b"tea", 9))
        assert life.past.last(b"tea") == 9
        assert "a bug" in caplog.text
    with Life(spec, stores, end=9) as life:
        life.take(9, *of(b"tea", 9, first=10))
        state = life.past.state(b"tea", 18)
        assert state == events_to_state(inv.inventory, b"tea", None, [event for _, event in of(b"tea", 18)])


class Reader:
    """A log reader that is asked and has nothing to read."""

    def __init__(self) -> None:
        self.away = False
        self.followed: dict[TP, int | None] = {}

    def facts(self, topics: list[str]) -> dict[str, LogFacts]:
        if self.away:
            raise BrokerUnreachable("nobody answers")
        return dict.fromkeys(topics, FACTS)

    def ends(self, partitions: list[TP]) -> dict[TP, int]:
        return dict.fromkeys(partitions, 0)

    def follow(self, starts: dict[TP, int | None]) -> None:
        self.followed |= starts

    def unfollow(self, partitions: list[TP]) -> None:
        for tp in partitions:
            del self.followed[tp]

    def poll(self, records_max: int, timeout_s: float) -> Polled:
        return Polled()

    def close(self) -> None:
        self.followed.clear()


def test_histories_come_and_go_with_their_partitions_and_wait_for_the_broker(shop_topology: Topology) -> None:
    service = shop_topology.services["inventory"]
    reader, clock, stores, stats = Reader(), SetClock(), MemoryStores(), LaneStats()
    plan = ServicePlan(service, codecs(shop_topology.schemas))
    histories = Histories(plan, reader, stores, clock, stats)
    commands = TopicKind.COMMAND.topic("inventory")
    histories.add([TP(commands, n) for n in range(6)] + [TP("orders.event", 0)])
    reader.away = True
    histories.step()
    reader.away = False
    histories.step()
    assert not histories.views, "it asks again after a pause"
    clock.now_ms += int(PAUSE_S * 1000)
    histories.step()
    assert len(histories.views) == 4, "some at once"
    histories.remove([TP(commands, 0), TP(commands, 5)])
    histories.step()
    assert sorted(histories.views) == [("inventory", n) for n in range(1, 5)]
    assert sorted(reader.followed) == [TP("inventory.event", n) for n in range(1, 5)]
    assert (stores.disks["history.inventory-0"].in_use, stores.disks["history.inventory-1"].in_use) == (False, True)
    histories.close()
    assert not histories.views
    assert not any(disk.in_use for disk in stores.disks.values())
