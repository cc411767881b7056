"""The orders of the comparison of checkouts, and how long each took, by the times of the records themselves."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from itertools import islice
from typing import Any, NamedTuple

from pipeline.adapters.avro.codec import codecs
from pipeline.demo.commands import Asked, Way, stocking, trading
from pipeline.demo.invoices import Document, Invoices
from pipeline.engine.ports import TP
from pipeline.model import CommandMessage, EventMessage
from pipeline.topology import Topology
from pipeline.verify.sources.kafka import KafkaHistory
from topologies import orders


class Part(NamedTuple):
    """Orders equal to those of every other part, on products and accounts of their own."""

    prefix: str  # of all its keys
    stock: list[Asked]
    orders: list[Asked]

    @property
    def products(self) -> dict[str, list[str]]:
        """The codes that each order asks for, by its number."""
        return {asked.key: list(dict.fromkeys(line.code for line in lines_of(asked))) for asked in self.orders}


def lines_of(asked: Asked) -> tuple[orders.Line, ...]:
    """What an order asks for."""
    assert isinstance(asked.command, orders.PlaceOrder)
    return asked.command.lines


def part(invoices: Invoices, prefix: str, count: int, way: Way) -> Part:
    """The first `count` orders of the file; fewer where it has no more."""
    documents = {}
    for document in islice(_orders(invoices), count):
        lines = {(prefix + code, price): quantity for (code, price), quantity in document.lines.items()}
        number, customer = prefix + document.number, prefix + document.customer
        documents[number] = replace(document, number=number, customer=customer, lines=lines, adjustments=[])
    codes = [code for document in documents.values() for code, _ in document.lines]
    alone = Invoices(documents, dict.fromkeys(codes, "a product"))
    placing = [asked for asked in trading(alone, way) if asked.aggregate == "orders"]
    return Part(prefix, list(stocking(alone, way)), placing)


def _orders(invoices: Invoices) -> Iterator[Document]:
    return (document for document in invoices.documents.values() if document.lines and not document.is_return)


class Took(NamedTuple):
    """An order's way to its end: when it was stored, when that was decided, milliseconds since the epoch, and how."""

    placed_ms: int
    ended_ms: int
    reason: str  # why it was refused; empty where it was confirmed

    @property
    def ms(self) -> int:
        return self.ended_ms - self.placed_ms


def took(bootstrap: str, topology: Topology, prefix: str) -> dict[str, Took]:
    """Of each order whose number begins with `prefix` and that has come to an end.

    A command's record has the time at which the broker stored it, an event's that at which the worker made it: the
    commit that shows it to others comes some milliseconds later.
    """
    commands = codecs(topology.schemas)("orders.command", CommandMessage, orders.Command).decode
    events = codecs(topology.schemas)("orders.event", EventMessage, orders.Event, upcasts=orders.orders.upcasts).decode
    placed: dict[str, int] = {}
    found: dict[str, Took] = {}
    for key, at_ms, body in _bodies(bootstrap, "orders.command", prefix, commands):
        if isinstance(body, orders.PlaceOrder):
            placed[key] = at_ms
    for key, at_ms, body in _bodies(bootstrap, "orders.event", prefix, events):
        if isinstance(body, orders.OrderConfirmed | orders.OrderRefused):
            found[key] = Took(placed[key], at_ms, getattr(body, "reason", ""))
    return found


def _bodies(
    bootstrap: str, topic: str, prefix: str, decode: Callable[[bytes | None], Any]
) -> Iterator[tuple[str, int, Any]]:
    with KafkaHistory(bootstrap, {}, None, None, 0.0) as history:
        for partition in range(history.partitions(topic)):
            for entry in history.records(TP(topic, partition)):
                if entry.key is not None and entry.key.startswith(prefix.encode()):
                    yield entry.key.decode(), entry.time_ms, decode(entry.value).body


def percentile(values: Iterable[float], percent: int) -> float:
    """Of values in any order; 0 of none."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, len(ordered) * percent // 100)] if ordered else 0.0


def percent(count: float, of: float) -> float:
    """With one decimal; 0 of nothing."""
    return round(100 * count / of, 1) if of else 0.0


def refused(ended: Iterable[Took]) -> Counter[str]:
    """How many were refused, by reason."""
    return Counter(each.reason for each in ended if each.reason)
