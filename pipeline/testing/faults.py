"""Planned faults at the ports of a lane, for tests of the engine and of topologies that run on it.

Each call that a lane makes through `pipeline.engine.ports` is a named point, before and after:
`producer.commit:after` is when the transaction is committed and the local tables are not written yet. A plan says what
happens at the n-th call there, by chance or for certain. It is a value: the same plan fires at the same calls in every
process and in any run, so whoever schedules the calls, the machine or a simulator, can ask it.
"""

from __future__ import annotations

import logging
import os
import random
import signal
import threading
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any, NamedTuple, TypeVar, cast

from pipeline.engine.ports import (
    TP,
    GroupConsumer,
    Listener,
    LogReader,
    Producer,
    SharedStore,
    SharedStores,
    Store,
    Stores,
)
from pipeline.engine.state.table import TableSpec
from pipeline.errors import LaneFatal, OutcomeUnknown, TransactionAborted

log = logging.getLogger(__name__)
T = TypeVar("T")

PORTS: dict[str, type] = {
    "consumer": GroupConsumer,
    "listener": Listener,
    "reader": LogReader,
    "producer": Producer,
    "stores": Stores,
    "store": Store,
}


def methods(port: str) -> list[str]:
    """The calls of a port."""
    return [name for name in vars(PORTS[port]) if not name.startswith("_")]


POINTS = tuple(f"{port}.{method}:{when}" for port in PORTS for method in methods(port) for when in ("before", "after"))
# Where an action can stand for something that happens in the world. The broker may refuse a transaction until it has
# committed it, never after; only a commit has an outcome that can stay unknown.
_REFUSABLE = tuple(f"producer.{call}" for call in ("produce", "park", "produce_last", "flush"))
PLACES: dict[str, Callable[[str], bool]] = {
    "kill": lambda point: True,  # SIGKILL to this process
    "stop": lambda point: True,  # SIGSTOP to this process; somebody else has to let it go on
    "abort": lambda point: point == "producer.commit:before" or point.partition(":")[0] in _REFUSABLE,
    "fatal": lambda point: point.startswith("producer.") or point == "consumer.poll:before",
    "unknown": lambda point: point == "producer.commit:after",  # committed, but the answer is lost
}


class Firing(NamedTuple):
    """A fault that fires: what, where, at which call of that point in that lane."""

    lane: str
    point: str
    call: int
    action: str

    def __str__(self) -> str:
        return f"{self.lane}/{self.point}@{self.call}={self.action}"


@dataclass(frozen=True, slots=True)
class Rule:
    """`action` at the calls `first` to `last` (None: for ever) of every point that `point` matches and that allows it.

    As text: `[lane/]point[@first[-[last]]][%probability]=action`, for instance `orders/producer.commit:after@3=kill`
    or `*:*%0.001=kill`. Lane and point may hold `*`.
    """

    point: str
    action: str
    lane: str = "*"
    first: int = 1
    last: int | None = None
    probability: float = 1.0

    def __post_init__(self) -> None:
        if self.action not in PLACES:
            raise ValueError(f"no action {self.action!r}; there are {', '.join(PLACES)}")
        if not any(self.touches(point) for point in POINTS):
            raise ValueError(f"{self.action!r} cannot happen at {self.point!r}; points are named like {POINTS[0]}")
        if self.first < 1 or (self.last is not None and self.last < self.first) or not 0 < self.probability <= 1:
            raise ValueError(f"rule without any call to fire at: {self}")

    def touches(self, point: str) -> bool:
        """Whether the rule may fire at that point."""
        return fnmatchcase(point, self.point) and PLACES[self.action](point)

    def covers(self, lane: str, point: str, call: int) -> bool:
        """Whether the rule may fire at that call."""
        in_time = self.first <= call and (self.last is None or call <= self.last)
        return in_time and fnmatchcase(lane, self.lane) and self.touches(point)

    @classmethod
    def parse(cls, text: str) -> Rule:
        """Raises ValueError."""
        where, equals, action = text.strip().partition("=")
        if not equals:
            raise ValueError(f"not a rule: {text!r}; write [lane/]point[@first[-[last]]][%probability]=action")
        where, _, chance = where.partition("%")
        where, _, calls = where.partition("@")
        lane, slash, point = where.rpartition("/")
        first, dash, last = calls.partition("-")
        until = int(last) if last else None if dash or not first else int(first)
        return cls(point, action, lane if slash else "*", int(first or 1), until, float(chance or 1))

    def __str__(self) -> str:
        lane = "" if self.lane == "*" else f"{self.lane}/"
        calls = f"@{self.first}" if self.last == self.first else f"@{self.first}-{self.last or ''}"
        chance = "" if self.probability == 1 else f"%{self.probability}"
        return f"{lane}{self.point}{'' if calls == '@1-' else calls}{chance}={self.action}"


@dataclass(frozen=True, slots=True)
class Plan:
    """Rules, the first that fires wins. As text: `seed=7; rule; rule`."""

    rules: tuple[Rule, ...] = ()
    seed: int = 0

    @classmethod
    def parse(cls, text: str) -> Plan:
        """Raises ValueError."""
        parts = [part.strip() for part in text.split(";") if part.strip()]
        seed = int(parts.pop(0)[5:]) if parts and parts[0].startswith("seed=") else 0
        return cls(tuple(Rule.parse(part) for part in parts), seed)

    @classmethod
    def by_chance(cls, seed: int, probability: float, action: str = "kill", point: str = "*") -> Plan:
        """`action` with that probability at each call of each point that allows it."""
        return cls((Rule(point, action, probability=probability),), seed)

    def fires(self, lane: str, point: str, call: int) -> Firing | None:
        """What happens at that call. Depends on nothing else."""
        for number, rule in enumerate(self.rules):
            if rule.covers(lane, point, call) and (
                rule.probability == 1
                or random.Random(f"{self.seed} {number} {lane} {point} {call}").random() < rule.probability
            ):
                return Firing(lane, point, call, rule.action)
        return None

    def __str__(self) -> str:
        return "; ".join([f"seed={self.seed}", *map(str, self.rules)] if self.seed else map(str, self.rules))


def _aborted(firing: Firing) -> None:
    raise TransactionAborted(f"injected: {firing}")


def _fatal(firing: Firing) -> None:
    raise LaneFatal(f"injected: {firing}")


def _unknown(firing: Firing) -> None:
    raise OutcomeUnknown(f"injected: {firing}")


Action = Callable[[Firing], None]
PROCESS: Mapping[str, Action] = {
    "kill": lambda _: os.kill(os.getpid(), signal.SIGKILL),
    "stop": lambda _: os.kill(os.getpid(), signal.SIGSTOP),
    "abort": _aborted,
    "fatal": _fatal,
    "unknown": _unknown,
}


def _note(firing: Firing) -> None:
    log.warning("fault: %s", firing)


class Faults:
    """Counts the calls of one process and lets the plan's faults happen. `note` hears of each before it does."""

    def __init__(self, plan: Plan, note: Action = _note, actions: Mapping[str, Action] = PROCESS) -> None:
        self.plan, self._note, self._actions = plan, note, actions
        self._calls: Counter[tuple[str, str]] = Counter()
        self._counting = threading.Lock()  # lanes have threads of their own, and queries read stores in others

    def at(self, lane: str, point: str) -> None:
        """To be called at the point."""
        with self._counting:
            self._calls[lane, point] += 1
            call = self._calls[lane, point]
        if firing := self.plan.fires(lane, point, call):
            self._note(firing)
            self._actions[firing.action](firing)

    def around(self, lane: str, name: str, call: Callable[..., Any]) -> Callable[..., Any]:
        """`call` with its two points; itself where no rule touches them, so that what is not tested costs nothing."""
        before, after = f"{name}:before", f"{name}:after"
        if not any(rule.touches(point) for rule in self.plan.rules for point in (before, after)):
            return call

        def with_points(*args: Any, **kwargs: Any) -> Any:
            self.at(lane, before)
            result = call(*args, **kwargs)
            self.at(lane, after)
            return result

        return with_points


class _Wrapped:
    """An adapter with the points of its port; whatever else it has is the adapter's own."""

    def __init__(self, port: str, inner: object, lane: str, faults: Faults, **instead: Callable[..., Any]) -> None:
        self._inner = inner
        for method in methods(port):
            call = instead.get(method) or getattr(inner, method)
            setattr(self, method, faults.around(lane, f"{port}.{method}", call))

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)


def wrap_producer(inner: Producer, lane: str, faults: Faults) -> Producer:
    """The producer with its points."""
    return cast(Producer, _Wrapped("producer", inner, lane, faults))


def wrap_reader(inner: LogReader, lane: str, faults: Faults) -> LogReader:
    """The log reader with its points."""
    return cast(LogReader, _Wrapped("reader", inner, lane, faults))


def wrap_consumer(inner: GroupConsumer, lane: str, faults: Faults) -> GroupConsumer:
    """The consumer with its points, and with those of the listener that will subscribe."""

    def subscribe(topics: Any, listener: Listener) -> None:
        inner.subscribe(topics, cast(Listener, _Wrapped("listener", listener, lane, faults)))

    return cast(GroupConsumer, _Wrapped("consumer", inner, lane, faults, subscribe=subscribe))


def wrap_shared(inner: SharedStores, lane: str, faults: Faults) -> SharedStores:
    """Stores in a database, with the points of any other."""

    def opened(source: TP, tables: Sequence[TableSpec]) -> SharedStore:
        return cast(SharedStore, _Wrapped("store", inner.open(source, tables), lane, faults))

    return cast(SharedStores, _Wrapped("stores", inner, lane, faults, open=opened))


def wrap_stores(inner: Stores, lane: str, faults: Faults) -> Stores:
    """The stores with their points, and with those of each store."""

    def opened(name: str) -> Store:
        return cast(Store, _Wrapped("store", inner.open(name), lane, faults))

    return cast(Stores, _Wrapped("stores", inner, lane, faults, open=opened))
