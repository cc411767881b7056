"""Whether the shop is as it must be: nothing lost, nothing twice, no row wrong."""

from __future__ import annotations

import time
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaError, TopicPartition

from pipeline.adapters.avro.codec import codecs
from pipeline.adapters.kafka import READING
from pipeline.adapters.kafka.topics import partition_counts
from pipeline.demo import figures
from pipeline.model import EventMessage, StateMessage
from pipeline.model.reservation import Released, Reserved
from pipeline.model.saga.participant import name_of
from pipeline.verify import verify
from tests.faults.harness import sql_rows
from tests.faults.harness.load import Sent
from tests.helpers.support import Shop, until

SHOWN = 20
PARTITIONS = 4
MOMENT_S = 5.0
MOVES = (
    "OrderConfirmed",
    "ReservedTaken",
    "Captured",
    "StockPutBack",
    "Refunded",
)  # what comes of documents, once each
BETWEEN = ("OrderHeld", "OrderRefused", "StockReserved", "StockReleased", "Authorised", "Voided")  # of their checkouts


@dataclass(slots=True)
class Damage:
    """What is not as it must be, in words."""

    lost: list[str] = field(default_factory=list)
    duplicated: list[str] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)
    stale: list[str] = field(default_factory=list)  # reads that lacked what they had to contain

    def __bool__(self) -> bool:
        return bool(self.lost or self.duplicated or self.wrong or self.stale)

    def __str__(self) -> str:
        parts = {"lost": self.lost, "duplicated": self.duplicated, "wrong": self.wrong, "stale": self.stale}
        lines = [f"{name}: {len(found)}" for name, found in parts.items()]
        return "\n".join(lines + [f"{name} {each}" for name, found in parts.items() for each in found[:SHOWN]])


def check(shop: Shop, sent: Sent, database: str) -> Damage:
    """Judges logs and tables of a shop that has settled. `database`: the address of the one that reports has."""
    damage = Damage()
    answered: Counter[str] = Counter()
    moved: Counter[tuple[str, str, str]] = Counter()
    ends: dict[str, dict[str, Any]] = {}
    for service in shop.topology.services.values():
        for aggregate in service.aggregates:
            decode = codecs(shop.topology.schemas)(
                f"{aggregate.name}.event", EventMessage, aggregate.event, upcasts=aggregate.upcasts
            ).decode
            states: dict[str, Any] = defaultdict(lambda aggregate=aggregate: aggregate.initial)
            versions: Counter[str] = Counter()
            for key, value in read(shop, f"{aggregate.name}.event"):
                event = decode(value)
                versions[key] += 1
                if event.version != versions[key]:
                    damage.wrong.append(f"{aggregate.name} {key}: version {event.version} in place {versions[key]}")
                states[key] = aggregate.evolve(states[key], event.body)
                if getattr(states[key], "on_hand", 0) < 0:
                    damage.wrong.append(f"{aggregate.name} {key}: {states[key].on_hand} on hand")
                kind = type(event.body).__name__
                if kind in MOVES:
                    document = event.body.order if kind in ("StockPutBack", "Refunded") else event.body.transaction
                    moved[kind, name_of(document), key] += 1
                elif kind not in BETWEEN and not isinstance(event.body, Reserved | Released):  # the engine's own
                    answered[event.command_id] += 1
            ends[aggregate.name] = states
            _check_states(shop, aggregate, states, versions, damage)
    damage.lost += [f"reply: {each}" for each in sent.unanswered]
    damage.wrong += [f"reply: {each}" for each in sent.misled]
    damage.stale += sent.stale
    _compare("command", answered, Counter(sent.events.keys()), damage)
    _check_checkouts(ends, sent, damage)
    _compare("move", moved, sent.moved, damage)
    _check_tables(shop, sent, damage)
    _check_history(shop, damage)
    _check_database(sent, database, damage)
    return damage


def _check_checkouts(ends: dict[str, dict[str, Any]], sent: Sent, damage: Damage) -> None:
    """Each is over. An order that may have come too late for its stock is added to what must be, if it did not."""
    for name in ("orders", "inventory", "payments"):
        damage.wrong += [f"{name} {key}: {s.ledger.holds} held" for key, s in ends[name].items() if s.ledger.holds]
    for number, order in sent.uncertain.items():
        found = ends["orders"][number]
        if found.status == "confirmed":
            sent.sells(number, order)
            continue
        sent.figures["orders"]["refused"] += 1
        if (found.status, found.reason) != ("refused", "out_of_stock"):
            damage.wrong.append(f"orders {number}: {found.status} {found.reason}")
    sent.uncertain = {}  # it is certain now
    for customer, row in sent.figures["customers"].items():
        account = ends["payments"][customer]
        if (account.charged, account.refunded) != (row["spent"], row["refunded"]):
            damage.wrong.append(f"payments {customer}: {account}, expected {row}")


def _check_history(shop: Shop, damage: Damage) -> None:
    """What `pipeline verify` finds; it knows nothing of what was sent, but looks at everything else."""
    for finding in verify(shop.bootstrap, shop.topology).findings:
        kind = finding.kind.partition("_")[0]
        into = {"missing": damage.lost, "duplicate": damage.duplicated}.get(kind, damage.wrong)
        into.append(f"{finding.kind} {finding.topic}-{finding.partition} {finding.key} {finding}")


def _compare(what: str, found: Counter[Any], expected: Counter[Any], damage: Damage) -> None:
    damage.lost += [f"{what} {each}" for each in (expected - found).elements()]
    damage.duplicated += [f"{what} {each}" for each in (found - expected).elements()]


def _check_states(shop: Shop, aggregate: Any, states: dict[str, Any], versions: Counter[str], damage: Damage) -> None:
    """The changelog's last value of each key is the fold of its events."""
    decode = codecs(shop.topology.schemas)(f"{aggregate.name}.state", StateMessage, type(aggregate.initial)).decode
    last = {key: decode(value) for key, value in read(shop, f"{aggregate.name}.state")}
    for key in sorted(states.keys() | last.keys()):
        state = last.get(key)
        if state is None or (state.version, state.body) != (versions[key], states[key]):
            damage.wrong.append(f"{aggregate.name}.state {key}: {state}, its events give {versions[key]} {states[key]}")


def _check_tables(shop: Shop, sent: Sent, damage: Damage) -> None:
    """What queries answer is what the commands add up to. Replicas are eventual: they are given time."""
    with shop.query(60.0) as client:

        def wrong() -> list[str]:
            return figures.differences(figures.from_tables(client), sent.figures)

        found = wrong()
        if found and all(each.startswith("customer_countries") for each in found):
            until("replicas follow", lambda: not wrong(), 30.0)
            found = []
    damage.wrong += found


def _check_database(sent: Sent, database: str, damage: Damage) -> None:
    """The rows in SQL, as whoever knows SQL finds them. They come after the commit, so they are given a moment."""
    expected = sql_rows.expected(sent, PARTITIONS)

    def wrong() -> list[str]:
        return figures.differences(sql_rows.found(database), expected)

    deadline = time.monotonic() + MOMENT_S
    while (found := wrong()) and time.monotonic() < deadline:
        time.sleep(0.2)
    damage.wrong += found


def read(shop: Shop, topic: str) -> Iterator[tuple[str, bytes | None]]:
    """All committed records of a topic: key and value."""
    consumer = Consumer(READING | {"bootstrap.servers": shop.bootstrap, "group.id": "oracle", "log_level": 3})
    left = partition_counts(shop.admin)[topic]
    consumer.assign([TopicPartition(topic, n, OFFSET_BEGINNING) for n in range(left)])
    try:
        while left:
            for message in consumer.consume(5_000, 0.1):
                error = message.error()
                if error is None:
                    yield message.key().decode(), message.value()
                elif error.code() == KafkaError._PARTITION_EOF:
                    left -= 1
    finally:
        consumer.close()
