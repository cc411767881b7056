"""Records that cannot be read yet are waited for: nothing is parked, skipped or folded past, and others go on."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass, make_dataclass, replace
from pathlib import Path
from typing import Any, Literal

import pytest

from pipeline import Aggregate, Projection, Replica, Service, Source
from pipeline.adapters.avro.codec import codecs
from pipeline.adapters.avro.registry import Registry
from pipeline.adapters.avro.schemas.files import schema_files
from pipeline.adapters.memory import MemoryGroupConsumer, MemoryKafka, MemoryLogReader, MemoryProducer, MemoryStores
from pipeline.engine.context import LanePorts, LaneSettings
from pipeline.engine.copies.histories import Histories
from pipeline.engine.loop.identity import Identity
from pipeline.engine.loop.lane import Lane
from pipeline.engine.parking.unknown import PATIENCE_S, PAUSE_S
from pipeline.engine.plan import ServicePlan
from pipeline.engine.ports import TP
from pipeline.engine.stats import LaneStats
from pipeline.model import CommandMessage, EventMessage
from pipeline.model.records.partitioning import partition_of
from pipeline.server.reads.local_tables import LocalTables
from tests.helpers import accounts

KEYS = [f"order-{n}" for n in range(8)]
PARTITIONS = 2
HERE = [key for key in KEYS if partition_of(key.encode(), PARTITIONS) == 0]  # in the first partition …
THERE = [key for key in KEYS if key not in HERE]  # … and in the other


@dataclass(frozen=True, slots=True)
class Place:
    amount: int


@dataclass(frozen=True, slots=True)
class Cancel:
    why: str


@dataclass(frozen=True, slots=True)
class Placed:
    amount: int


@dataclass(frozen=True, slots=True)
class Cancelled:
    why: str


@dataclass(frozen=True, slots=True)
class Order:
    amount: int = 0


NotedOrder: Any = make_dataclass(  # the state of newer code
    "Order", [("amount", int, 0), ("note", str, "new")], frozen=True, slots=True
)


@dataclass(frozen=True, slots=True)
class Amount:
    amount: int = 0


@dataclass(frozen=True, slots=True)
class Seen:
    amount: int = 0


def decide(command: Any, order: Order) -> list[Any]:
    return [Cancelled(command.why)] if isinstance(command, Cancel) else [Placed(command.amount)]


def evolve(order: Any, event: Any) -> Any:
    return replace(order, amount=order.amount + event.amount) if isinstance(event, Placed) else type(order)()


OLD = Aggregate("orders", command=Place, event=Placed, initial=Order(), decide=decide, evolve=evolve)
NEW = replace(OLD, command=Place | Cancel, event=Placed | Cancelled)
SHOP, NEW_SHOP = Service("shop", aggregates=[OLD]), Service("shop", aggregates=[NEW])
EVENTS = Source("orders.event", Placed)
AMOUNTS = Service("books", projections=[Projection("amounts", sources=[EVENTS], initial=Amount(), evolve=evolve)])
COPIES = Service("copies", replicas=[Replica("seen", EVENTS, initial=Seen(), evolve=evolve)])


class World:
    """Topics, one worker at a time of some service, and two repositories: that of old code, and that of new."""

    def __init__(self, path: Path, new: Service = NEW_SHOP, old: Service = SHOP) -> None:
        self.kinds = new.aggregates[0].command
        self.new = self._repository(path / "new", new)
        self.old = self._repository(path / "old", old, AMOUNTS, COPIES)
        self.registry = self.old.registry
        self.kafka, self.stats, self.stores = MemoryKafka(), LaneStats(), MemoryStores()
        for service in (old, AMOUNTS, COPIES):
            for topic, kind in ServicePlan(service, self.old).own_topics():
                self.kafka.create_topic(topic, PARTITIONS, compacted=kind.compacted)
        self.numbers = itertools.count()
        self.lane: Lane

    def _repository(self, path: Path, *services: Service) -> Any:
        path.mkdir()
        for each in schema_files(services, path):
            each.path.write_text(each.text)
        Registry(path).register()
        return codecs(path)

    def start(self, service: Service, make: Any = None) -> None:
        plan = ServicePlan(service, make or self.old)
        name = service.name
        self.lane = Lane(
            plan,
            LanePorts(
                MemoryGroupConsumer(self.kafka, name, str(Identity(name, 0, "home"))),
                MemoryProducer(self.kafka, name),
                MemoryLogReader(self.kafka, name),
                self.stores,
                self.kafka.clock,
                lambda: MemoryLogReader(self.kafka, name),
                histories=Histories(plan, MemoryLogReader(self.kafka, name), self.stores, self.kafka.clock, self.stats),
            ),
            LaneSettings(),
            self.stats,
        )
        self.lane.open()

    def turn(self, there: Callable[[], bool] | float) -> None:
        """Turn until something is so, or for so many seconds."""
        clock = self.kafka.clock
        until_s = clock.monotonic_s() + (there if isinstance(there, float) else 20.0)
        while clock.monotonic_s() < until_s:
            self.lane.turn()
            if not isinstance(there, float) and there():
                return
            clock.advance(0.05)
        assert isinstance(there, float), f"it never comes to that: {self.stats}"

    def publish(self) -> None:
        """Let the old code's registry learn what the new code writes with."""
        for each in self.new.registry.versions(["orders.event", "orders.command", "orders.state"]):
            self.registry.learn(each.id, each.topic, each.schema)

    def _append(self, topic: str, key: str, value: bytes) -> None:
        self.kafka.append(TP(topic, partition_of(key.encode(), PARTITIONS)), key.encode(), value)

    def event(self, key: str, body: Any, version: int = 1) -> None:
        encode = self.new("orders.event", EventMessage, Placed | Cancelled).encode
        self._append("orders.event", key, encode(EventMessage(version, "c", "c", 0, body)))

    def command(self, key: str, body: Any, make: Any = None) -> None:
        kinds = Place if make is self.old else self.kinds
        encode = (make or self.new)("orders.command", CommandMessage, kinds).encode
        now_ms = self.kafka.clock.time_ms()
        self._append(
            "orders.command", key, encode(CommandMessage(f"{key}/{next(self.numbers)}", "r", None, now_ms, body))
        )

    def amounts(self, table: str) -> dict[str, int]:
        tables = LocalTables(lambda: self.lane.views)
        pairs = [pair for n in range(PARTITIONS) for pair in tables.pairs(table, n, b"", b"", 100)]
        return {key.decode(): getattr(row, "body", row).amount for key, row in pairs}

    @property
    def parked(self) -> int:
        return self.stats.parked


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


def test_an_event_whose_schema_is_not_published_is_waited_for_and_other_partitions_go_on(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    world.start(AMOUNTS)
    world.event(HERE[0], Placed(1))
    world.event(HERE[1], Placed(2))
    world.turn(300.0)
    assert world.parked == 0
    assert world.amounts("amounts") == {}
    (said,) = world.stats.waiting.items()
    assert said[0] == "books at orders.event-0"
    assert said[1].startswith("offset 0: unknown schema id ")
    assert "pipeline schemas publish" in said[1]
    assert caplog.text.count("waits before offset 0") == 1
    world.publish()
    world.turn(lambda: len(world.amounts("amounts")) == 2)
    assert world.amounts("amounts") == {HERE[0]: 1, HERE[1]: 2}
    assert world.stats.waiting == {}
    assert world.parked == 0


@pytest.mark.parametrize(("service", "reader"), [(AMOUNTS, "books"), (COPIES, "replica seen")])
def test_an_event_of_a_kind_that_only_newer_code_has_is_waited_for(world: World, service: Service, reader: str) -> None:
    world.publish()
    world.start(service)
    world.event(HERE[0], Placed(1))
    world.event(HERE[0], Cancelled("no"), 2)
    world.event(HERE[1], Placed(2))
    world.turn(60.0)
    (said,) = world.stats.waiting.items()
    assert said[0] == f"{reader} at orders.event-0"
    assert "Cancelled" in said[1]
    assert "start this service with code that has it" in said[1]
    assert (world.parked, world.stats.skipped_by_replica) == (0, 0)
    if service is AMOUNTS:
        assert world.amounts("amounts") == {HERE[0]: 1}


def test_a_command_with_a_text_that_this_code_has_not_waits_for_newer_code(tmp_path: Path) -> None:
    less, more = (
        make_dataclass("Place", [("amount", int), ("kind", Literal[texts])], frozen=True, slots=True)  # type: ignore[valid-type]
        for texts in (("box",), ("box", "tube"))
    )
    old, new = (Service("shop", aggregates=[replace(OLD, command=kind)]) for kind in (less, more))
    world = World(tmp_path, new, old)
    world.publish()
    world.start(old)
    world.command(HERE[0], more(5, "box"))
    world.command(HERE[0], more(7, "tube"))
    world.turn(PATIENCE_S * 5)
    assert (world.amounts("orders"), world.parked) == ({HERE[0]: 5}, 0)
    assert "tube" in world.stats.waiting["shop at orders.command-0"]
    world.lane.close()
    world.start(new, world.new)
    world.turn(5.0)
    world.turn(lambda: world.amounts("orders") == {HERE[0]: 12})


def test_what_stands_before_it_is_folded_and_what_another_partition_has(world: World) -> None:
    world.start(AMOUNTS)
    encode = world.old("orders.event", EventMessage, Placed).encode
    for key in (HERE[0], *THERE):
        world._append("orders.event", key, encode(EventMessage(1, "c", "c", 0, Placed(5))))
    world.event(HERE[0], Placed(1), 2)
    world.turn(5.0)
    for key in THERE:
        world._append("orders.event", key, encode(EventMessage(2, "c", "c", 0, Placed(1))))
    world.turn(lambda: world.amounts("amounts") == {HERE[0]: 5, **dict.fromkeys(THERE, 6)})
    assert len(world.stats.waiting) == 1
    world.publish()
    world.turn(lambda: world.amounts("amounts")[HERE[0]] == 6)


def test_a_replica_stands_still_and_skips_nothing(world: World) -> None:
    world.start(COPIES)
    encode = world.old("orders.event", EventMessage, Placed).encode
    world._append("orders.event", HERE[0], encode(EventMessage(1, "c", "c", 0, Placed(5))))
    world.event(HERE[0], Placed(1), 2)
    world._append("orders.event", HERE[1], encode(EventMessage(1, "c", "c", 0, Placed(7))))
    world.turn(60.0)
    (copy,) = world.lane._tasks._replicas
    found = lambda key: None if (row := copy.find(key)[2]) is None else row.amount  # noqa: E731
    assert (found(HERE[0]), found(HERE[1])) == (5, None)
    assert list(world.stats.waiting) == ["replica seen at orders.event-0"]
    world.publish()
    world.turn(lambda: found(HERE[1]) == 7)
    assert found(HERE[0]) == 6
    assert world.stats.skipped_by_replica == 0
    assert world.stats.waiting == {}


def test_a_command_that_this_code_has_not_waits_for_newer_code(world: World) -> None:
    world.publish()
    world.start(SHOP)
    world.command(HERE[0], Place(5))
    world.command(HERE[0], Cancel("no"))
    world.command(HERE[0], Place(7))
    world.turn(PATIENCE_S * 20)
    assert world.amounts("orders") == {HERE[0]: 5}
    assert world.parked == 0
    assert "start this service with code that has it" in world.stats.waiting["shop at orders.command-0"]
    world.lane.close()
    world.start(NEW_SHOP, world.new)
    world.turn(5.0)  # its tables are restored
    world.turn(lambda: world.amounts("orders") == {HERE[0]: 7})
    assert world.parked == 0
    assert world.stats.waiting == {}


def test_a_command_of_a_schema_that_is_never_published_is_parked_in_the_end(world: World) -> None:
    world.start(SHOP)
    world.command(HERE[0], Cancel("no"))
    world.turn(PATIENCE_S - 2)
    assert world.parked == 0
    assert world.stats.waiting
    world.command(HERE[1], Place(5), world.old)
    world.turn(lambda: world.amounts("orders") == {HERE[1]: 5})
    assert world.parked == 1
    assert world.stats.waiting == {}
    world.command(HERE[2], Cancel("again"))
    world.turn(3.0)
    assert world.parked == 2, "one after the other would hold the partition up for ever"
    world.turn(PAUSE_S)
    world.command(HERE[3], Cancel("later"))
    world.turn(3.0)
    assert world.parked == 2


def test_what_is_no_record_of_any_schema_is_parked_at_once(world: World) -> None:
    world.start(SHOP)
    world._append("orders.command", HERE[0], b"no Avro")
    world.turn(lambda: world.parked == 1)


def test_a_history_stands_still_and_lacks_nothing(world: World) -> None:
    world.start(SHOP)
    encode = world.old("orders.event", EventMessage, Placed).encode
    world._append("orders.event", HERE[0], encode(EventMessage(1, "c", "c", 0, Placed(5))))
    world.event(HERE[0], Placed(1), 2)
    world.turn(lambda: "the history of orders at orders.event-0" in world.stats.waiting)
    view = world.lane.histories["orders", 0]
    assert view.position == 1
    world.publish()
    world.turn(lambda: view.position >= 2)
    assert world.stats.skipped_by_history == 0
    assert world.stats.waiting == {}


def test_a_state_of_newer_code_is_not_written_back_without_what_only_that_code_knows(tmp_path: Path) -> None:
    noted = replace(OLD, initial=NotedOrder())
    world = World(tmp_path, Service("shop", aggregates=[noted]))
    world.start(Service("shop", aggregates=[noted]), world.new)
    world.command(HERE[0], Place(5), world.new)
    world.turn(5.0)
    world.turn(lambda: world.amounts("orders") == {HERE[0]: 5})
    world.lane.close()
    world.publish()
    world.start(SHOP)
    world.command(HERE[0], Place(7), world.old)
    world.turn(60.0)
    assert world.parked == 0
    assert "would be lost" in world.stats.waiting["shop at orders.command-0"]
    world.lane.close()
    world.start(Service("shop", aggregates=[noted]), world.new)
    world.turn(5.0)
    world.turn(lambda: world.amounts("orders") == {HERE[0]: 12})


def test_a_revision_waits_for_what_it_has_to_fold(tmp_path: Path) -> None:
    (tmp_path / "bank").mkdir()
    (tmp_path / "newer").mkdir()
    bank = accounts.Bank(accounts.write_schemas(tmp_path / "bank"))
    noted: Any = make_dataclass("Paid", [("amount", int), ("memo", str, "")], frozen=True, slots=True)
    newer = replace(accounts.FIRST, event=noted)
    for each in schema_files([accounts.service(newer)], tmp_path / "newer"):
        each.path.write_text(each.text)
    Registry(tmp_path / "newer").register()
    make = codecs(tmp_path / "newer")
    bank.pay(7)
    bank.run(accounts.FIRST)
    bank.stop()
    key = accounts.KEYS[0]
    tp = TP("accounts.event", partition_of(key.encode(), bank.partitions))
    bank.kafka.append(
        tp, key.encode(), make(tp.topic, EventMessage, noted).encode(EventMessage(2, "c", "c", 0, noted(3)))
    )
    bank.lane(accounts.SECOND)
    stats = bank.stats["bank-0"]
    name = f"revision 2 of accounts at {tp.topic}-{tp.partition}"
    bank.turn(lambda: name in stats.waiting)
    for lane in [*bank.lanes.values()] * 300:
        lane.turn()
        bank.kafka.clock.advance(0.01)
    for each in make.registry.versions([tp.topic]):
        bank.make.registry.learn(each.id, each.topic, each.schema)
    bank.turn(bank.level)
    assert stats.waiting == {}
    assert bank.rows()[key] == accounts.Ledger(10, 0)
