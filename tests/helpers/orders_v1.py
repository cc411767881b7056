"""The orders service before day and time were told apart: its OrderPlaced, and the codec that writes it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.adapters.avro.codec import Codec
from pipeline.adapters.avro.registry import Registry, Schema
from pipeline.engine.state.table import Codecs, RowCodec
from pipeline.model import EventMessage
from topologies import orders
from topologies.orders import GoodsReturned, Line, OrderConfirmed, OrderHeld, OrderLetGo, OrderRefused

TOPIC = "orders.event"


@dataclass(frozen=True, slots=True)
class OrderPlaced:
    customer: str
    country: str
    at: str
    lines: tuple[Line, ...]
    checkout: str = "saga"


Event = OrderPlaced | GoodsReturned | OrderHeld | OrderConfirmed | OrderRefused | OrderLetGo


class Then(Registry):
    """The schemas as they were when OrderPlaced had changed least recently."""

    def current(self, topic: str, *, written: bool = False) -> tuple[int, Schema]:
        _, before = self.compared(topic)[-1]
        return before.id, before.schema


def as_then(event: Any) -> Any:
    """Return what the service of then would have said."""
    if not isinstance(event, orders.OrderPlaced):
        return event
    at = f"{event.day}T{event.time}" if event.time else event.day
    return OrderPlaced(event.customer, event.country, at, event.lines, event.checkout)


def encoder(schemas: Path) -> Callable[[EventMessage], bytes]:
    """Return what writes events as the service of then did."""
    codec = Codec(Then(schemas), TOPIC, EventMessage, Event, strict="read")
    return lambda message: codec.encode(message._replace(body=as_then(message.body)))


class WritesV1:
    """The codec of the events of today, but some are written as they were then: `old(message)` says which."""

    def __init__(self, today: RowCodec, old: Callable[[EventMessage], bool], schemas: Path) -> None:
        then, now = encoder(schemas), today.encode
        self.decode, self.fit = today.decode, today.fit
        self.encode: Callable[[Any], bytes] = lambda message: (then if old(message) else now)(message)


def rolling(make: Codecs, schemas: Path, old: Callable[[EventMessage], bool] = lambda _: True) -> Codecs:
    """Return the codecs of workers of which some are of then."""

    def codec(topic: str, *asked: Any, **more: Any) -> RowCodec:
        made = make(topic, *asked, **more)
        return WritesV1(made, old, schemas) if topic == TOPIC and more.get("strict", True) else made

    return codec
