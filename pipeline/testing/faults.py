"""Planned faults at the ports of a lane, for tests of the engine and of topologies that run on it.

Each call that a lane makes through `pipeline.engine.ports` has two named points, before and after: at
`producer.commit:after` the transaction is committed and the local tables are not yet written. A plan says what happens
at the n-th call of a point, by chance or for certain. It is a value: the same plan fires at the same calls in every
process and run, so that a machine or a simulator, whichever schedules the calls, can ask it.
"""

from __future__ import annotations

import logging
import os
import random
import signal
import threading
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import partial
from typing import NamedTuple

from pipeline.errors import LaneFatal, OutcomeUnknown, TransactionAborted
from pipeline.testing.points import POINTS, At

log = logging.getLogger(__name__)

# Where each action corresponds to something that happens in the world. The broker may refuse a transaction until it has
# committed it, never after; only a commit's outcome can remain unknown.
_REFUSABLE = tuple(f"producer.{call}" for call in ("produce", "park", "produce_last", "flush"))
PLACES: dict[str, Callable[[str], bool]] = {
    "kill": lambda point: True,  # SIGKILL to this process
    "stop": lambda point: True,  # SIGSTOP to this process; another one must continue it
    "abort": lambda point: point == "producer.commit:before" or point.partition(":")[0] in _REFUSABLE,
    "fatal": lambda point: point.startswith("producer.") or point == "consumer.poll:before",
    "unknown": lambda point: point == "producer.commit:after",  # committed, but the reply is lost
}


class Firing(NamedTuple):
    """A fault that fires: which action, at which call of which point in which lane."""

    lane: str
    point: str
    call: int
    action: str

    def __str__(self) -> str:
        return f"{self.lane}/{self.point}@{self.call}={self.action}"


@dataclass(frozen=True, slots=True)
class Rule:
    """`action` at calls `first` to `last` (None: for ever) of each point that matches `point` and allows the action.

    As text: `[lane/]point[@first[-[last]]][%probability]=action`, for instance `orders/producer.commit:after@3=kill` or
    `*:*%0.001=kill`. Lane and point may contain `*`.
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
        """Return whether the rule may fire at that point."""
        return fnmatchcase(point, self.point) and PLACES[self.action](point)

    def covers(self, lane: str, point: str, call: int) -> bool:
        """Return whether the rule may fire at that call."""
        in_time = self.first <= call and (self.last is None or call <= self.last)
        return in_time and fnmatchcase(lane, self.lane) and self.touches(point)

    @classmethod
    def parse(cls, text: str) -> Rule:
        """Parse a rule. Raises ValueError."""
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
    """Rules; the first that fires wins. As text: `seed=7; rule; rule`."""

    rules: tuple[Rule, ...] = ()
    seed: int = 0

    @classmethod
    def parse(cls, text: str) -> Plan:
        """Parse a plan. Raises ValueError."""
        parts = [part.strip() for part in text.split(";") if part.strip()]
        seed = int(parts.pop(0)[5:]) if parts and parts[0].startswith("seed=") else 0
        return cls(tuple(Rule.parse(part) for part in parts), seed)

    @classmethod
    def by_chance(cls, seed: int, probability: float, action: str = "kill", point: str = "*") -> Plan:
        """Make a plan of one action, with that probability at each call of each point that allows it."""
        return cls((Rule(point, action, probability=probability),), seed)

    def fires(self, lane: str, point: str, call: int) -> Firing | None:
        """Return the fault that fires at that call. It depends on nothing else."""
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
    """Counts the calls of one process and fires the plan's faults. `note` is called with each before it happens."""

    def __init__(self, plan: Plan, note: Action = _note, actions: Mapping[str, Action] = PROCESS) -> None:
        self.plan, self._note, self._actions = plan, note, actions
        self._touched = {point for point in POINTS if any(rule.touches(point) for rule in plan.rules)}
        self._calls: Counter[tuple[str, str]] = Counter()
        self._counting = threading.Lock()  # lanes have their own threads, and queries read stores in others

    def at(self, lane: str, point: str) -> None:
        """Count a call of a point, and fire its fault, if any. What no rule touches costs next to nothing."""
        if point not in self._touched:
            return
        with self._counting:
            self._calls[lane, point] += 1
            call = self._calls[lane, point]
        if firing := self.plan.fires(lane, point, call):
            self._note(firing)
            self._actions[firing.action](firing)

    def of(self, lane: str) -> At:
        """Return what to call at the points of that lane."""
        return partial(self.at, lane)
