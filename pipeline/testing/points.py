"""The named points of a lane: before and after each call through its ports. Faults and switches happen there."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar, cast

from pipeline.engine.ports import GroupConsumer, Listener, LogReader, Producer, Store, Stores

T = TypeVar("T")
At = Callable[[str], None]
PORTS: dict[str, type] = {
    "consumer": GroupConsumer,
    "listener": Listener,
    "reader": LogReader,
    "producer": Producer,
    "stores": Stores,
    "store": Store,
}
NOTHING = ("identities",)  # what only hands out what it has: no fault strikes there
CALLS = {
    port: [name for name in vars(kind) if not name.startswith("_") and name not in NOTHING]
    for port, kind in PORTS.items()
}
POINTS = tuple(f"{port}.{call}:{when}" for port in PORTS for call in CALLS[port] for when in ("before", "after"))


class Pointed:
    """An adapter with the points of its port. Other attributes are the adapter's own."""

    def __init__(self, inner: Any, at: At) -> None:
        self._inner, self._at = inner, at

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)


def _around(call: str, point: str) -> Callable[..., Any]:
    before, after = f"{point}:before", f"{point}:after"

    def pointed(self: Pointed, *args: Any) -> Any:
        self._at(before)
        result = getattr(self._inner, call)(*args)
        self._at(after)
        return result

    return pointed


# One class for each port, as a simulation makes thousands of instances.
_POINTED: dict[str, Any] = {
    port: type(port.capitalize(), (Pointed,), {call: _around(call, f"{port}.{call}") for call in CALLS[port]})
    for port in PORTS
}
_subscribe, _open = _POINTED["consumer"].subscribe, _POINTED["stores"].open
_POINTED["consumer"].subscribe = lambda self, topics, listener: _subscribe(
    self, topics, pointed("listener", listener, self._at)
)
_POINTED["stores"].open = lambda self, *which: pointed("store", _open(self, *which), self._at)
_POINTED["store"].get_many = _around("get_many", "store.get")  # of a database's tables; many rows are got as one is


def pointed(port: str, inner: T, at: At) -> T:
    """Return the adapter with `at` called before and after each call of its port, and so its listener and stores."""
    return cast(T, _POINTED[port](inner, at))
