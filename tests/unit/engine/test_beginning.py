"""What is new to a service that has folded its source for long begins at the beginning, or now, beside the others."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest

from pipeline import Database, Projection, Reaction, Send, Service
from pipeline.adapters.avro.codec import codecs
from pipeline.adapters.memory import (
    MemoryDatabase,
    MemoryGroupConsumer,
    MemoryKafka,
    MemoryLogReader,
    MemoryProducer,
    MemoryStores,
)
from pipeline.engine.beside import building
from pipeline.engine.context import LanePorts, LaneSettings
from pipeline.engine.loop.identity import Identity
from pipeline.engine.loop.lane import Lane
from pipeline.engine.parking.parking_log import Audit
from pipeline.engine.plan import ServicePlan
from pipeline.engine.ports import TP, Position
from pipeline.errors import LaneFatal, TableUnavailable, TopologyError
from pipeline.model import EventMessage
from pipeline.model.records.partitioning import partition_of
from pipeline.model.records.step_notes import StepNote, mark
from pipeline.server.reads.local_tables import LocalTables
from pipeline.testing.simulation.judge.history import SimulatedHistory
from pipeline.topology import Topology
from pipeline.verify import judge
from tests.simulation.worlds import tills as t

MAKE = codecs(t.SCHEMAS)
AUDIT = Audit("anna", "a test")
ENTRIES, SUMS = t.BOOKS.reactions[0], t.BOOKS.projections[0]
OPEN = Projection("open_tills", [t.EVENTS], t.OpenTill(), t.evolve_open)
OLD = replace(t.BOOKS, projections=[], replicas=[])  # the reaction alone
KEYS = [f"till-{n}" for n in range(6)]


def service(*parts: Reaction | Projection[Any, Any], old: Service = OLD) -> Service:
    """The service with more parts than before."""
    reactions = [part for part in parts if isinstance(part, Reaction)]
    projections = [part for part in parts if isinstance(part, Projection)]
    return replace(old, reactions=[*old.reactions, *reactions], projections=[*old.projections, *projections])


class Shop:
    """The tills' events, and the service that follows them, on a Kafka in memory."""

    def __init__(self, partitions: int = 2) -> None:
        self.kafka, self.partitions, self.disks = MemoryKafka(), partitions, dict[str, MemoryStores]()
        self.database = MemoryDatabase()
        self.lanes: list[Lane] = []
        for topic, kind in ServicePlan(service(SUMS, OPEN), MAKE).own_topics():
            self.kafka.create_topic(topic, partitions, compacted=kind.compacted)
        self.kafka.create_topic("tills.event", partitions)
        self.encode = MAKE("tills.event", EventMessage, t.Taken | t.Closed | t.Scribbled).encode
        self.sent = 0

    def take(self, count: int, amount: int = 1, keys: Sequence[str] = KEYS) -> None:
        for _ in range(count):
            for key in keys:
                self.sent += 1
                event = EventMessage(self.sent, f"c{self.sent}", "", self.kafka.clock.time_ms(), t.Taken(amount), None)
                tp = TP("tills.event", partition_of(key.encode(), self.partitions))
                self.kafka.append(tp, key.encode(), self.encode(event))

    def lane(self, declared: Service, name: str = "books-0", **settings: Any) -> Lane:
        kafka = self.kafka
        ports = LanePorts(
            MemoryGroupConsumer(kafka, "books", str(Identity(name, 0, "home"))),
            MemoryProducer(kafka, name),
            MemoryLogReader(kafka, name),
            self.disks.setdefault(name, MemoryStores()),
            kafka.clock,
            lambda: MemoryLogReader(kafka, name),
            self.database,  # type: ignore[arg-type]  # it opens what a lane asks for
        )
        lane = Lane(ServicePlan(declared, MAKE), ports, LaneSettings(**settings))
        lane.open()
        self.lanes.append(lane)
        return lane

    def turn(self, there: Callable[[], bool]) -> None:
        for _ in range(3_000):
            if there():
                return
            for lane in self.lanes:
                lane.turn()
        pytest.fail(f"it never comes to that: {[lane.stats.building for lane in self.lanes]}")

    def level(self) -> bool:
        """Whether all is folded by all."""
        offsets = self.kafka.group("books").offsets
        topics = {topic for lane in self.lanes for topic in lane.plan.source_topics}
        logs = [log for topic in topics for log in self.kafka.topics[topic].logs]
        there = all(log.tp in offsets and offsets[log.tp].offset >= log.end for log in logs)
        running = sum(len(lane._tasks.running()) - len(lane._unclaimed) for lane in self.lanes)
        busy = any(lane._building.busy or lane._tasks.unbuilt or lane._tasks.uncommitted() for lane in self.lanes)
        return there and running == len(logs) and not busy

    def run(self, declared: Service) -> Lane:
        """Run a worker of that code until all is done."""
        lane = self.lane(declared)
        self.turn(self.level)
        return lane

    def stop(self) -> None:
        for lane in self.lanes:
            lane.close()
        self.lanes.clear()
        self.kafka.clock.advance(30)  # the group forgets the member, and what it subscribed to

    def crash(self) -> None:
        for lane in self.lanes:
            lane.abandon(LaneFatal("killed"))
        self.lanes.clear()
        self.kafka.clock.advance(30)

    def after(self, declared: Service) -> Lane:
        """Run other code than before."""
        self.stop()
        return self.run(declared)

    def rows(self, table: str) -> dict[str, Any]:
        """The rows of a table, as a worker answers."""
        found: dict[str, Any] = {}
        for lane in self.lanes:
            tables = LocalTables(lambda lane=lane: lane.views)  # type: ignore[misc]
            for name, partition in list(lane.views):
                if name == table:
                    found |= {key.decode(): row for key, row in tables.pairs(table, partition, b"", b"", 10**6)}
        return found

    def commands(self, name: str) -> list[str]:
        """The ids of the commands that a reaction has sent, those of aborted transactions left out."""
        decode = ServicePlan(service(), MAKE).commands["books"].decode
        logs = self.kafka.topics["books.command"].logs
        found = [decode(r.value()).id for log in logs for r in log.archive if r.decided]
        return [command for command in found if command.startswith(f"{name}/")]

    def findings(self, declared: Service) -> dict[str, Any]:
        workers = [SimpleNamespace(lane=lane, plan=lane.plan) for lane in self.lanes]
        world: Any = SimpleNamespace(kafka=self.kafka, workers=workers, ahead_ms=0, may_raise=lambda _: True)
        topology = Topology("books", {"books": declared, "tills": replace(t.TILLS, projections=[])}, t.SCHEMAS)
        return judge(SimulatedHistory(world), topology, ("books",)).found


@pytest.fixture
def shop(monkeypatch: pytest.MonkeyPatch) -> Iterator[Shop]:
    monkeypatch.setattr(building, "RECORDS", 200)
    t.Code.mend(True)
    yield Shop()
    t.Code.mend(True)


PARTS = {
    "routed": SUMS,
    "direct": OPEN,
    "routed in SQL": replace(SUMS, database=Database.SQLITE),
    "direct in SQL": replace(OPEN, database=Database.SQLITE),
}
TABLES = {kind: part.name for kind, part in PARTS.items()}


def whole(shop: Shop, table: str, amount: int) -> bool:
    """Whether the rows hold all that was taken."""
    rows = shop.rows(table)
    if table == "sums":  # one that is a multiple of seven is deleted, and begins again
        return rows == ({"odd": t.Sum(amount % 7)} if amount % 7 else {})
    return rows == {key: t.OpenTill(amount // 6, amount // 6) for key in KEYS}


@pytest.mark.parametrize("kind", PARTS)
def test_a_new_projection_holds_all_that_came_before_it(shop: Shop, kind: str) -> None:
    shop.take(50)
    shop.run(OLD)
    declared = service(PARTS[kind])
    shop.after(declared)
    assert whole(shop, TABLES[kind], 300)
    shop.take(1)
    shop.turn(shop.level)
    assert whole(shop, TABLES[kind], 306)
    assert len(shop.commands("entries")) == len(set(shop.commands("entries"))) == 306, "the old reaction acts once"
    assert not shop.findings(declared)


@pytest.mark.parametrize("kind", PARTS)
def test_one_that_begins_now_holds_what_comes_and_no_restart_skips_any(shop: Shop, kind: str) -> None:
    shop.take(50)
    shop.run(OLD)
    declared = service(replace(PARTS[kind], start="now"))
    shop.after(declared)
    assert shop.rows(TABLES[kind]) == {}
    shop.stop()
    shop.take(2)
    shop.run(declared)
    assert whole(shop, TABLES[kind], 12)
    assert not shop.findings(declared)


def test_the_first_of_a_service_can_begin_now_too(shop: Shop) -> None:
    shop.take(5)
    declared = replace(t.BOOKS, reactions=[replace(ENTRIES, start="now")], projections=[OPEN], replicas=[])
    lane = shop.lane(declared)
    shop.turn(lambda: len(shop.kafka.group("books").offsets) == 4)
    shop.stop()
    shop.take(1)
    shop.run(declared)
    assert len(shop.commands("entries")) == 6
    assert whole(shop, "open_tills", 36), "beside one that begins at the beginning"
    assert lane.stats.reopened == 0
    assert not shop.findings(declared)


@pytest.mark.parametrize("start", ["beginning", "now"])
def test_a_new_reaction_reacts_to_history_unless_it_begins_now(shop: Shop, start: str) -> None:
    shop.take(10)
    shop.run(OLD)
    declared = service(replace(ENTRIES, name="second", start=start))
    shop.after(declared)
    assert len(shop.commands("second")) == (60 if start == "beginning" else 0)
    shop.after(declared)
    shop.take(1)
    shop.turn(shop.level)
    found = shop.commands("second")
    assert len(found) == len(set(found)) == (66 if start == "beginning" else 6)
    assert not shop.findings(declared)


def test_a_crash_in_the_midst_repeats_nothing_and_leaves_nothing_out(shop: Shop) -> None:
    shop.take(1_500)
    shop.run(OLD)
    shop.stop()
    declared = service(SUMS, OPEN, replace(ENTRIES, name="second"))
    for _ in range(3):
        lane = shop.lane(declared, commit_interval_s=0.0)
        before = len(shop.commands("second"))
        shop.turn(lambda before=before: len(shop.commands("second")) > before)  # type: ignore[misc]
        assert lane._building.busy
        assert lane.stats.building["tills.event-0"]["steps"] == ["react:second", "route:sums", "project:open_tills"]
        with pytest.raises(TableUnavailable, match="'open_tills' is new and is being built: 0 of 2 partitions"):
            shop.rows("open_tills")
        with pytest.raises(TableUnavailable, match="'sums' is new"):
            shop.rows("sums")
        shop.crash()
    shop.run(declared)
    found = shop.commands("second")
    assert len(found) == len(set(found)) == 9_000
    assert whole(shop, "open_tills", 9_000)
    assert not shop.findings(declared)


def test_the_others_go_on_meanwhile(shop: Shop) -> None:
    shop.take(2_000)
    shop.run(service(OPEN))
    shop.stop()
    lane = shop.lane(service(OPEN, SUMS))
    shop.turn(lambda: lane._building.busy)
    shop.take(1)
    shop.turn(lambda: len(shop.commands("entries")) == 12_006)
    assert lane._building.busy, "what came last is folded before the history of the new one is"
    assert whole(shop, "open_tills", 12_006)
    shop.turn(shop.level)
    assert not shop.findings(service(OPEN, SUMS))


def test_two_workers_build_it_together_and_neither_shows_half_of_it(shop: Shop) -> None:
    shop.take(500)
    shop.run(OLD)
    shop.stop()
    declared = service(SUMS)
    first = shop.lane(declared)
    second = shop.lane(declared, "books-1")
    shop.turn(lambda: first.stats.assigned == second.stats.assigned == 3)
    while first._tasks.unbuilt or second._tasks.unbuilt:
        for lane in shop.lanes:
            lane.turn()
            sums = [view for (name, _), view in lane.views.items() if name == "sums"]
            if any(view.unbuilt and not view.unbuilt() for view in sums):
                notes = [shop.kafka.group("books").offsets[TP("tills.event", n)].steps for n in range(2)]
                assert all(note.level for each in notes for note in each.values()), "whole on all workers"
    shop.turn(shop.level)
    assert whole(shop, "sums", 3_000)
    assert not shop.findings(declared)


def test_code_without_it_in_between_leaves_no_gap(shop: Shop) -> None:
    shop.take(10)
    shop.run(service(OPEN))
    shop.after(OLD)
    shop.take(10)
    shop.turn(shop.level)
    shop.after(service(OPEN))
    assert whole(shop, "open_tills", 120)
    assert not shop.findings(service(OPEN))


def test_a_record_on_which_it_raises_is_parked_for_it_alone_and_its_key_waits(shop: Shop) -> None:
    shop.take(3)
    shop.take(1, 11, KEYS[:1])
    shop.take(3)
    shop.run(OLD)
    shop.stop()
    t.Code.mend(False)
    declared = service(OPEN)
    lane = shop.lane(declared, raising_share=1.0)
    shop.turn(shop.level)
    assert lane.stats.held_keys == 1
    assert lane.stats.queued == 4, "the record and three behind it"
    assert shop.rows("open_tills")[KEYS[0]] == t.OpenTill(3, 3)
    assert shop.rows("open_tills")[KEYS[1]] == t.OpenTill(6, 6)
    assert not shop.findings(declared)
    shop.take(1)
    shop.turn(shop.level)
    assert lane.stats.queued == 5
    t.Code.mend(True)
    tp = TP("tills.event", partition_of(KEYS[0].encode(), 2))
    assert lane.redrive(tp, KEYS[0].encode(), 10, AUDIT).left == 0
    shop.turn(shop.level)
    assert shop.rows("open_tills")[KEYS[0]] == t.OpenTill(18, 8)
    commands = shop.commands("entries")
    assert len(commands) == len(set(commands)) == 43
    assert not shop.findings(declared)


def test_what_waits_already_comes_to_it_from_the_queue(shop: Shop) -> None:
    shop.take(1, 7)  # of which the route of the old one raises
    shop.take(2)
    t.Code.mend(False)
    lane = shop.lane(service(SUMS), raising_share=1.0)
    shop.turn(shop.level)
    assert lane.stats.queued == 18
    shop.stop()
    declared = service(SUMS, OPEN)
    lane = shop.lane(declared, raising_share=1.0)
    shop.turn(shop.level)
    assert shop.rows("open_tills") == {}
    t.Code.mend(True)
    for key in KEYS:
        tp = TP("tills.event", partition_of(key.encode(), 2))
        assert lane.redrive(tp, key.encode(), 10, AUDIT).left == 0
    shop.turn(shop.level)
    assert shop.rows("open_tills") == {key: t.OpenTill(9, 3) for key in KEYS}
    assert not shop.findings(declared)


def test_what_was_discarded_before_it_was_there_is_folded_by_it(shop: Shop) -> None:
    shop.take(1, 7, KEYS[:1])
    shop.take(1, 2, KEYS[:1])
    t.Code.mend(False)
    lane = shop.lane(service(SUMS), raising_share=1.0)
    shop.turn(shop.level)
    tp, key = TP("tills.event", partition_of(KEYS[0].encode(), 2)), KEYS[0].encode()
    assert lane.discard(tp, key, None, 1, AUDIT).done == 1
    assert lane.redrive(tp, key, 10, AUDIT).left == 0
    shop.turn(shop.level)
    t.Code.mend(True)
    declared = service(SUMS, OPEN)
    shop.after(declared)
    assert shop.rows("open_tills") == {KEYS[0]: t.OpenTill(9, 2)}
    assert not shop.findings(declared)


def test_operators_wait_until_it_is_built(shop: Shop) -> None:
    shop.take(1, 7, KEYS[:1])
    shop.take(2_000)
    t.Code.mend(False)
    shop.lane(service(SUMS), raising_share=1.0)
    shop.turn(shop.level)
    shop.stop()
    lane = shop.lane(service(SUMS, OPEN), raising_share=1.0)
    shop.turn(lambda: lane._building.busy)
    tp = TP("tills.event", partition_of(KEYS[0].encode(), 2))
    with pytest.raises(TableUnavailable, match=r"project:open_tills is new and is built from tills\.event-"):
        lane.redrive(tp, KEYS[0].encode(), 1, AUDIT)


def test_a_projection_that_began_late_is_found(shop: Shop) -> None:
    """As it did in former times, where the group stood."""
    shop.take(5)
    shop.run(OLD)
    shop.stop()
    group = shop.kafka.group("books")
    for tp in (TP("tills.event", n) for n in range(2)):
        planted = {mark(step): StepNote(0, 0, level=True) for step in ("project:open_tills", "route:sums")}
        group.offsets[tp] = group.offsets[tp]._replace(steps=group.offsets[tp].steps | planted)  # type: ignore[operator]
    shop.run(service(OPEN, SUMS))
    shop.take(1)
    shop.turn(shop.level)
    found = shop.findings(service(OPEN, SUMS))
    assert found.keys() >= {"wrong_row", "missing_message"}, found


def test_a_new_replica_holds_all_that_came_before_it(shop: Shop) -> None:
    shop.take(5)
    shop.run(OLD)
    declared = replace(OLD, replicas=t.BOOKS.replicas)
    shop.after(declared)
    shop.turn(lambda: len(shop.rows("seen")) == 6 and all(row == t.Seen(5) for row in shop.rows("seen").values()))
    assert not shop.findings(declared)


@pytest.mark.parametrize("late", KEYS)
def test_it_is_tried_again_on_a_transient_error_and_goes_on(shop: Shop, late: str) -> None:
    shop.take(3, t.SLOW_AMOUNT)
    shop.run(OLD)
    shop.stop()
    slow = iter([True, True])

    def react(key: str, event: t.Taken | t.Closed) -> list[Send]:
        if key == late and next(slow, False):
            raise TimeoutError("too slow")
        return list(t.enter(key, event))

    declared = service(replace(ENTRIES, name="second"), Reaction("third", t.EVENTS, react))
    lane = shop.lane(declared)
    for _ in range(200):
        lane.turn()
        shop.kafka.clock.advance(0.05)
    assert shop.level()
    assert lane.stats.tried_again == 2
    assert lane.stats.parked == 0
    for name in ("second", "third"):
        assert len(shop.commands(name)) == len(set(shop.commands(name))) == 18


def test_what_the_broker_refuses_is_parked_for_it_alone(shop: Shop) -> None:
    shop.take(3)
    shop.take(1, 2, KEYS[:1])
    shop.take(3)
    shop.run(OLD)
    shop.stop()

    def react(key: str, event: t.Taken | t.Closed) -> list[Send]:
        assert isinstance(event, t.Taken)
        return [Send("book-a", t.Enter("x" * shop.kafka.record_bytes_max if event.amount == 2 else key, event.amount))]

    declared = service(Reaction("second", t.EVENTS, react))
    lane = shop.lane(declared)
    shop.turn(shop.level)
    assert len(shop.commands("second")) == 36 - 3, "all but those that wait behind it"
    assert lane.stats.held_keys == 1
    assert len(shop.commands("entries")) == len(set(shop.commands("entries"))) == 37
    assert not shop.findings(declared)


@pytest.mark.parametrize("part", [replace(ENTRIES, name="x"), OPEN])
def test_a_start_is_one_of_two(part: Any) -> None:
    with pytest.raises(TopologyError, match="start='yesterday' is neither"):
        service(replace(part, start="yesterday"))


def test_copies_cannot_begin_now() -> None:
    (seen,) = t.BOOKS.replicas
    with pytest.raises(TopologyError, match="replica 'seen': start=\"now\" is another moment for each worker"):
        replace(OLD, replicas=[replace(seen, start="now")])
    with pytest.raises(TopologyError, match="replica 'seen': start=3 is neither"):
        replace(OLD, replicas=[replace(seen, start=3)])  # type: ignore[arg-type]


def test_offsets_set_by_a_tool_to_where_they_were_leave_the_notes_as_they_are(shop: Shop) -> None:
    """They stand on the service's own topic, too."""
    shop.take(5)
    shop.run(OLD)
    now = replace(ENTRIES, name="second", start="now")
    shop.after(service(now))
    shop.take(1)
    shop.turn(shop.level)
    shop.stop()
    group = shop.kafka.group("books")
    group.offsets = {tp: Position(each.offset, {}) for tp, each in group.offsets.items()}
    declared = service(now, OPEN)
    shop.run(declared)
    assert whole(shop, "open_tills", 36)
    assert len(shop.commands("second")) == 6
    assert not shop.findings(declared)
