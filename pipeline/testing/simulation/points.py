"""The named points of a lane: before and after each call through its ports. Faults and switches happen there."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, cast

from pipeline.engine.ports import GroupConsumer, Listener, LogReader, Producer, SharedStore, Store, Stores
from pipeline.testing import faults

At = Callable[[str], None]
# Between these two points a commit's offsets have joined the transaction, and it is not yet decided.
POINTS = (*faults.POINTS, "producer.commit:offsets")


class Pointed:
    """An adapter with the points of its port. One class for each port, as thousands of instances are made."""

    def __init__(self, inner: Any, at: At) -> None:
        self._inner, self._at = inner, at


def _pointed(port: str) -> type[Pointed]:
    return type(port.capitalize(), (Pointed,), {method: _around(port, method) for method in faults.methods(port)})


def _around(port: str, method: str) -> Callable[..., Any]:
    before, after = f"{port}.{method}:before", f"{port}.{method}:after"

    def pointed(self: Pointed, *args: Any) -> Any:
        self._at(before)
        result = getattr(self._inner, method)(*args)
        self._at(after)
        return result

    return pointed


POINTED: dict[str, Any] = {port: _pointed(port) for port in faults.PORTS}


def _subscribe(self: Pointed, topics: Sequence[str], listener: Listener) -> None:
    """Subscribe a listener with points of its own."""
    self._at("consumer.subscribe:before")
    self._inner.subscribe(topics, POINTED["listener"](listener, self._at))
    self._at("consumer.subscribe:after")


POINTED["consumer"].subscribe = _subscribe


def pointed_consumer(inner: GroupConsumer, at: At) -> GroupConsumer:
    """Return the consumer with its points, and with those of the listener that subscribes."""
    return cast(GroupConsumer, POINTED["consumer"](inner, at))


def pointed_store(inner: Store, at: At) -> Store:
    """Return the store with its points."""
    store = POINTED["store"](inner, at)
    store.damage = inner.damage
    return cast(Store, store)


def pointed_shared_store(inner: SharedStore, at: At) -> SharedStore:
    """Return the shared store with the points of any store; `get_many` has those of `get`."""

    def get_many(keys: Sequence[bytes]) -> dict[bytes, bytes]:
        at("store.get:before")
        rows = inner.get_many(keys)
        at("store.get:after")
        return rows

    store = cast(Any, pointed_store(inner, at))
    store.check, store.get_many = inner.check, get_many
    return cast(SharedStore, store)


def pointed_producer(inner: Producer, at: At) -> Producer:
    """Return the producer with its points."""
    producer = POINTED["producer"](inner, at)
    producer.name = inner.name
    return cast(Producer, producer)


def pointed_reader(inner: LogReader, at: At) -> LogReader:
    """Return the reader with its points."""
    return cast(LogReader, POINTED["reader"](inner, at))


def pointed_stores(inner: Stores, at: At) -> Stores:
    """Return the stores with their points."""
    return cast(Stores, POINTED["stores"](inner, at))
