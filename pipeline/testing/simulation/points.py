"""The named points of a lane: before and after each call it makes through its ports. There anything can happen."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

from pipeline.runtime.ports import GroupConsumer, Listener, LogReader, Producer, Store, Stores

At = Callable[[str], None]
PORTS: dict[str, type] = {
    "consumer": GroupConsumer,
    "listener": Listener,
    "reader": LogReader,
    "producer": Producer,
    "stores": Stores,
    "store": Store,
}
METHODS = {port: tuple(name for name in vars(of) if not name.startswith("_")) for port, of in PORTS.items()}
CALLS = tuple(f"{port}.{method}" for port, methods in METHODS.items() for method in methods)
# Between these two a commit's offsets have joined the transaction, and nothing is decided.
POINTS = (*(f"{call}:{when}" for call in CALLS for when in ("before", "after")), "producer.commit:offsets")


class Pointed:
    """An adapter with the points of its port. `instead`: calls that are not the adapter's own."""

    def __init__(self, port: str, inner: object, at: At, **instead: Callable[..., Any]) -> None:
        for method in METHODS[port]:
            call = instead.get(method) or getattr(inner, method)
            setattr(self, method, _around(call, at, f"{port}.{method}:before", f"{port}.{method}:after"))


def _around(call: Callable[..., Any], at: At, before: str, after: str) -> Callable[..., Any]:
    def pointed(*args: Any) -> Any:
        at(before)
        result = call(*args)
        at(after)
        return result

    return pointed


def pointed_consumer(inner: GroupConsumer, at: At) -> GroupConsumer:
    """With its points, and with those of the listener that will subscribe."""

    def subscribe(topics: Any, listener: Listener) -> None:
        inner.subscribe(topics, cast(Listener, Pointed("listener", listener, at)))

    return cast(GroupConsumer, Pointed("consumer", inner, at, subscribe=subscribe))


def pointed_store(inner: Store, at: At) -> Store:
    """With its points."""
    store = Pointed("store", inner, at)
    store.damage = inner.damage  # type: ignore[attr-defined]
    return cast(Store, store)
