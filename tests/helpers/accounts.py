"""Accounts whose states have had two revisions, on a Kafka in memory: workers of either, and what readers get."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from pipeline import Aggregate, Rejected, Service
from pipeline.adapters.avro.codec import codecs
from pipeline.adapters.avro.registry import Registry
from pipeline.adapters.avro.schemas.files import schema_files
from pipeline.adapters.memory import MemoryGroupConsumer, MemoryKafka, MemoryLogReader, MemoryProducer, MemoryStores
from pipeline.engine.context import LanePorts, LaneSettings
from pipeline.engine.copies.histories import Histories
from pipeline.engine.loop.identity import Identity
from pipeline.engine.loop.lane import Lane
from pipeline.engine.plan import ServicePlan
from pipeline.engine.ports import TP
from pipeline.engine.stats import LaneStats
from pipeline.errors import LaneFatal
from pipeline.model import CommandMessage, EventMessage
from pipeline.model.records.partitioning import partition_of
from pipeline.server.reads.local_tables import LocalTables
from pipeline.testing.simulation.judge.history import SimulatedHistory
from pipeline.topology import Topology
from pipeline.verify import Report, judge


@dataclass(frozen=True, slots=True)
class Pay:
    """Money in, or out if less than nothing."""

    amount: int


@dataclass(frozen=True, slots=True)
class Paid:
    amount: int


@dataclass(frozen=True, slots=True)
class Account:
    """The first revision: the balance alone."""

    balance: int = 0


@dataclass(frozen=True, slots=True)
class Ledger:
    """The second revision: another class, with what no row of the first tells."""

    paid_in: int
    paid_out: int


def decide(command: Pay, account: Account) -> list[Paid] | Rejected:
    return [Paid(command.amount)] if account.balance + command.amount >= 0 else Rejected("overdrawn")


def evolve(account: Account, event: Paid) -> Account:
    return Account(account.balance + event.amount)


def decide_by_ledger(command: Pay, ledger: Ledger) -> list[Paid] | Rejected:
    left = ledger.paid_in - ledger.paid_out + command.amount
    return [Paid(command.amount)] if left >= 0 else Rejected("overdrawn")


def enter(ledger: Ledger, event: Paid) -> Ledger:
    return Ledger(ledger.paid_in + max(event.amount, 0), ledger.paid_out + max(-event.amount, 0))


FIRST = Aggregate("accounts", command=Pay, event=Paid, initial=Account(), decide=decide, evolve=evolve)
SECOND = replace(FIRST, initial=Ledger(0, 0), decide=decide_by_ledger, evolve=enter, revision=2)
KEYS = [f"account-{n}" for n in range(6)]


def service(aggregate: Aggregate[Any, Any, Any]) -> Service:
    return Service("bank", aggregates=[aggregate])


def write_schemas(directory: Path, *aggregates: Aggregate[Any, Any, Any]) -> Path:
    """Schemas of both revisions, or of those given, made from the classes."""
    for aggregate in aggregates or (FIRST, SECOND):
        for each in schema_files([service(aggregate)], directory):
            each.path.write_text(each.text)
    Registry(directory).register()
    return directory


class Bank:
    """The accounts' topics, and the workers."""

    def __init__(self, schemas: Path, partitions: int = 2) -> None:
        self.schemas, self.make, self.partitions = schemas, codecs(schemas), partitions
        self.kafka, self.disks = MemoryKafka(), dict[str, MemoryStores]()
        self.lanes: dict[str, Lane] = {}
        self.stats: dict[str, LaneStats] = {}
        for aggregate in (FIRST, SECOND):
            for topic, kind in ServicePlan(service(aggregate), self.make).own_topics():
                if topic not in self.kafka.topics:
                    self.kafka.create_topic(topic, partitions, compacted=kind.compacted)
        self.encode = ServicePlan(service(FIRST), self.make).commands["accounts"].encode
        self.sent = 0

    # --- workers ------------------------------------------------------------------------------------------------------

    def lane(self, aggregate: Aggregate[Any, Any, Any], name: str = "bank-0", **settings: Any) -> Lane:
        kafka, stats = self.kafka, self.stats.setdefault(name, LaneStats())
        plan, stores = ServicePlan(service(aggregate), self.make), self.disks.setdefault(name, MemoryStores())
        ports = LanePorts(
            MemoryGroupConsumer(kafka, "bank", str(Identity(name, 0, "home"))),
            MemoryProducer(kafka, name),
            MemoryLogReader(kafka, name),
            stores,
            kafka.clock,
            lambda: MemoryLogReader(kafka, name),
            histories=Histories(plan, MemoryLogReader(kafka, name), stores, kafka.clock, stats, 3),
        )
        lane = self.lanes[name] = Lane(plan, ports, LaneSettings(**settings), stats)
        lane.open()
        return lane

    def turn(self, there: Callable[[], bool], most: int = 3_000) -> None:
        for _ in range(most):
            if there():
                return
            for lane in self.lanes.values():
                lane.turn()
            self.kafka.clock.advance(0.01)
        pytest.fail(f"it never comes to that: {[lane.stats.building for lane in self.lanes.values()]}")

    def level(self) -> bool:
        """Whether all commands are decided, by workers that lack nothing."""
        offsets = self.kafka.group("bank").offsets
        logs = self.kafka.topics["accounts.command"].logs
        there = all(log.tp in offsets and offsets[log.tp].offset >= log.end for log in logs)
        running = sum(len(lane._tasks.running()) - len(lane._unclaimed) for lane in self.lanes.values())
        busy = any(lane._building.busy or lane._tasks.uncommitted() for lane in self.lanes.values())
        views = [view for lane in self.lanes.values() for view in lane.histories.values()]
        known = len(views) == len(logs) and all(view.position >= self.kafka.log(view.log).end for view in views)
        return there and known and running == len(logs) and not busy

    def run(self, aggregate: Aggregate[Any, Any, Any], name: str = "bank-0") -> Lane:
        """Run a worker of that revision until all is done."""
        lane = self.lane(aggregate, name)
        self.turn(self.level)
        return lane

    def stop(self, *names: str) -> None:
        for name in names or list(self.lanes):
            self.lanes.pop(name).close()
        self.kafka.clock.advance(30)

    def crash(self, *names: str) -> None:
        for name in names or list(self.lanes):
            self.lanes.pop(name).abandon(LaneFatal("killed"))
        self.kafka.clock.advance(30)

    # --- commands, and what came of them ------------------------------------------------------------------------------

    def pay(self, amount: int, times: int = 1) -> None:
        for _ in range(times):
            for key in KEYS:
                self.sent += 1
                name, now_ms = f"c{self.sent}", self.kafka.clock.time_ms()
                tp = TP("accounts.command", partition_of(key.encode(), self.partitions))
                self.kafka.append(tp, key.encode(), self.encode(CommandMessage(name, name, None, now_ms, Pay(amount))))

    def tables(self) -> LocalTables:
        def views() -> dict[tuple[str, int], Any]:
            return {k: v for lane in self.lanes.values() for k, v in lane.views.items() if v.copy is None}

        return LocalTables(views)

    def rows(self) -> dict[str, Any]:
        """The states of all accounts, as workers answer."""
        pairs = [p for n in range(self.partitions) for p in self.tables().pairs("accounts", n, b"", b"", 100)]
        return {key.decode(): row.body for key, row in pairs}

    def past(self, version: int) -> set[Any]:
        """The states that the histories have of a version."""
        found = set()
        for key in KEYS:
            tp = "accounts", partition_of(key.encode(), self.partitions)
            view = next(lane.histories[tp] for lane in self.lanes.values() if tp in lane.histories)
            state = view.past.state(key.encode(), version)
            found.add(None if state is None else state.body)
        return found

    def events(self) -> int:
        return sum(r.decided for log in self.kafka.topics["accounts.event"].logs for r in log.records)

    def append_event(self, key: str, event: EventMessage) -> None:
        """Put an event on the log past all workers."""
        tp = TP("accounts.event", partition_of(key.encode(), self.partitions))
        self.kafka.append(tp, key.encode(), self.make("accounts.event", EventMessage, Paid).encode(event))

    def verified(self, aggregate: Aggregate[Any, Any, Any]) -> Report:
        workers = [SimpleNamespace(lane=lane, plan=lane.plan) for lane in self.lanes.values()]
        world: Any = SimpleNamespace(kafka=self.kafka, workers=workers, ahead_ms=0, may_raise=lambda _: True)
        return judge(SimulatedHistory(world), Topology("bank", {"bank": service(aggregate)}, self.schemas), ())
