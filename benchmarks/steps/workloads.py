"""Records of other kinds than a command that changes one user: what the shop's services fold besides.

Work of a service in itself, one partition of one topic, without Kafka.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from pipeline import Database, Service
from pipeline.adapters.avro.registry import Registry
from pipeline.adapters.rocksdb.stores import claim_slot
from pipeline.adapters.sql import SqlDatabase, SqlStores, database_url
from pipeline.engine.plan import ServicePlan, SourceTopic
from pipeline.engine.ports import TP
from pipeline.engine.state.table import Codecs, SharedTable
from pipeline.flow import Find
from pipeline.model import (
    Acceptance,
    Ask,
    CommandMessage,
    EventMessage,
    Parked,
    Rejected,
    Replied,
    ReplyMessage,
    Saga,
    Started,
    TopicKind,
)
from pipeline.topology import load
from topologies import checkout_2pc as two
from topologies import checkout_saga as one
from topologies import inventory as inv
from topologies import orders as o
from topologies import reports

SECRET = b"of no use outside"
PRODUCTS = 1_000
NOW_MS = time.time_ns() // 1_000_000
UNITS = 26  # products of an order, as of the shop's real ones
CUSTOMER = o.CustomerCountry("France")


@dataclass(frozen=True, slots=True)
class Kind:
    """Records of `topic`, which `service` folds. `messages(count)`: about as many, as (key, message)."""

    service: Service
    topic: str
    messages: Callable[[int], Iterator[tuple[str, Any]]]
    finders: Mapping[str, Find] = field(default_factory=dict)

    def source_topic(self, codecs: Codecs) -> SourceTopic:
        """As a lane has it."""
        return ServicePlan(self.service, codecs, secret=SECRET).source_topics[self.topic]

    def records(self, codecs: Codecs, source_topic: SourceTopic, count: int) -> Iterator[tuple[bytes, bytes]]:
        """Key and value as they stand on the topic; an answer as whoever was asked writes it."""
        replies = codecs(TopicKind.REPLY.value, ReplyMessage, Acceptance | Rejected | Parked)
        for key, message in self.messages(count):
            codec = replies if isinstance(message, ReplyMessage) else source_topic.codec
            yield key.encode(), codec.encode(message)

    @contextmanager
    def store(self, home: Path, source_topic: SourceTopic) -> Iterator[Any]:
        """Where its tables are, new and empty."""
        if source_topic.keeps_locally:
            _, stores = claim_slot(home, self.service.name, 0)
            local = stores.open(self.topic)
            try:
                yield local
            finally:
                local.close()
                stores.close()
            return
        shared = SqlStores(
            SqlDatabase(self.service.name, database_url(f"sqlite:///{home / 'tables.db'}")),
            Registry(load("topologies").schemas),
        )
        try:
            yield shared.open(TP(self.topic, 0), [spec for spec in source_topic.tables if spec.make is SharedTable])
        finally:
            shared.close()


def kinds() -> dict[str, Kind]:
    """Each beside a plain one of its sort."""
    described = Service("reports", projections=[replace(reports.products, database=Database.ROCKSDB)])
    in_sql = Service("reports", projections=[reports.products])
    ordering = Service("orders", aggregates=[o.orders], replicas=[o.customer_countries])
    stock = Service("inventory", aggregates=[inv.inventory])
    return {
        "an order is placed": Kind(ordering, "orders.command", lambda n: placed(n, "France"), COPY),
        "… its country found in a copy": Kind(ordering, "orders.command", lambda n: placed(n, ""), COPY),
        "stock is sold over the counter": Kind(stock, "inventory.command", sold),
        "… or held, and then taken, for a checkout": Kind(stock, "inventory.command", held),
        "an answer to a saga that asked 26": checkout(one.checkout_saga, one.BeginCheckout, one.Units, one.service),
        "… to a two-phase commit of as many": checkout(two.checkout_2pc, two.BeginCheckout, two.Units, two.service),
        "an event makes a row in RocksDB": Kind(described, "inventory.event", registered),
        "… in SQLite": Kind(in_sql, "inventory.event", registered),
    }


def asked(n: int, body: Any, reply_to: str | None = None) -> CommandMessage:
    """The nth command."""
    return CommandMessage(f"command-{n}", f"command-{n}", None, NOW_MS, body, None, reply_to)


COPY: Mapping[str, Find] = {o.customer_countries.name: lambda _: (0, 1, CUSTOMER)}


def placed(count: int, country: str) -> Iterator[tuple[str, Any]]:
    """Orders of three lines, each by itself."""
    lines = tuple(o.Line(f"P{n}", 1, 1_000) for n in range(3))
    for n in range(count):
        yield f"order-{n}", asked(n, o.PlaceOrder("anna", country, "2009-12-01T07:45:00", lines))


def stocked() -> Iterator[tuple[str, Any]]:
    """Products that there is no end of."""
    for n in range(PRODUCTS):
        yield f"P{n}", asked(n, inv.RegisterProduct("tea"))
        yield f"P{n}", asked(PRODUCTS + n, inv.ReceiveStock(10**9))


def sold(count: int) -> Iterator[tuple[str, Any]]:
    """One at a time, of each product in turn."""
    yield from stocked()
    for n in range(count):
        yield f"P{n % PRODUCTS}", asked(2 * PRODUCTS + n, inv.TakeStock(f"order-{n}", 1))


def held(count: int) -> Iterator[tuple[str, Any]]:
    """One after the other, of each product in turn."""
    yield from stocked()
    for n in range(count // 2):
        transaction, first = f"order-{n}", 2 * (PRODUCTS + n)
        yield f"P{n % PRODUCTS}", asked(first, inv.ReserveStock(transaction, 1))
        yield f"P{n % PRODUCTS}", asked(first + 1, inv.TakeReserved(transaction))


def registered(count: int) -> Iterator[tuple[str, Any]]:
    """A product each."""
    for n in range(count):
        yield f"P{n}", EventMessage(1, f"command-{n}", f"command-{n}", NOW_MS, reports.ProductRegistered(f"tea {n}"))


def checkout(saga: Saga[Any], begin: Any, unit: Any, service: Service) -> Kind:
    """Orders of UNITS products that all say yes to, one after the other."""

    def messages(count: int) -> Iterator[tuple[str, Any]]:
        units, sent, order = tuple(unit(f"P{n}", 1) for n in range(UNITS)), 0, 0
        while sent < count:
            order += 1
            key = f"order-{order}"
            for message in told(saga, key, begin(key, "anna", 1_000, units)):
                sent += 1
                yield key, message

    return Kind(replace(service, reactions=[]), TopicKind.COMMAND.topic(saga.name), messages)


def told(saga: Saga[Any], key: str, begin: Any) -> Iterator[Any]:
    """What a saga is told from its beginning to its end, if nobody refuses."""
    state, waiting = saga.initial, [begin]
    yield asked(0, begin)
    while waiting:
        message = waiting.pop(0)
        decided = saga.decide(message, state)
        assert not isinstance(decided, Rejected)
        for each in decided:
            if isinstance(each, Ask):
                name = f"{saga.name}/{key}/{each.step}/{each.attempt}"
                yield ReplyMessage(name, each.to, 0, 0, NOW_MS, NOW_MS, 0, Acceptance(1, 0, ()))
                waiting.append(Replied(each.step, each.attempt, accepted=True))
            elif each is message or isinstance(each, Started):
                state = saga.evolve(state, each)
