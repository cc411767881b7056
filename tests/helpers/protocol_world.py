"""Sagas and their participants on a network that loses, repeats, delays and reorders; all of them may crash anywhere.

A schedule is a string of bytes, each one action. What is on the way is a bag. States and timers survive a crash,
messages and what a process was about to do may not. After the schedule comes a fair time: everything arrives, timers
end, nobody crashes; by its end all must be settled.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from pipeline.model import Aggregate, Cancel, Deadline, Effect, Rejected
from pipeline.model.saga.saga import Ask, Replied, Saga, TimeUp
from tests.helpers.market import Goods

PATIENCE = 1_000  # messages of the fair time
SCHEDULE = st.binary(min_size=40, max_size=200)


def finds(drive: Callable[[bytes], None]) -> bool:
    """Whether one of 2,000 schedules shows a planted bug."""

    @settings(max_examples=2_000, deadline=None, database=None, phases=[Phase.generate], report_multiple_bugs=False)
    @given(SCHEDULE)
    def search(schedule: bytes) -> None:
        drive(schedule)

    try:
        search()
    except AssertionError:
        return True
    return False


# --- the world --------------------------------------------------------------------------------------------------------


class ToSaga(NamedTuple):
    key: str
    message: Any


class ToGoods(NamedTuple):
    saga_key: str
    ask: Ask


class Act(NamedTuple):
    """What came of a command at a participant, in the order in which it happened."""

    key: str
    command: Any
    accepted: bool
    events: tuple[Any, ...]


@dataclass
class World:
    saga: Saga[Any]
    goods: Aggregate[Any, Any, Goods]
    stock: dict[str, Goods]
    answers: dict[Any, Any] | None = None  # of commands by id, where participants remember them
    decides_after_telling: bool = False  # planted: the coordinator tells others before it has noted what
    states: dict[str, Any] = field(default_factory=dict)
    timers: set[tuple[str, str]] = field(default_factory=set)
    bag: list[ToSaga | ToGoods] = field(default_factory=list)
    acts: list[Act] = field(default_factory=list)
    seen: dict[str, list[Any]] = field(default_factory=dict)  # states of each saga, in order
    asked: list[tuple[str, Ask]] = field(default_factory=list)

    def run(self, begins: Iterable[ToSaga], schedule: bytes) -> None:
        self.bag += begins
        for n in range(0, len(schedule) - 1, 2):
            self.act(schedule[n], schedule[n + 1])
        self.settle(begins)

    def act(self, what: int, which: int) -> None:
        """One thing happens: mostly something arrives, else a timer ends, or something is lost or repeated."""
        if what < 40:
            if self.timers:
                key, name = sorted(self.timers)[which % len(self.timers)]
                self.tell(key, TimeUp(name), crash=what % 8)
            return
        if not self.bag:
            return
        place = which % len(self.bag)
        if what < 60:
            self.bag.append(self.bag[place])
        elif what < 80:
            self.lose(place)
        else:
            self.arrive(place, crash=what % 16)

    def lose(self, place: int) -> None:
        message = self.bag[place]
        if isinstance(message, ToGoods) or isinstance(message.message, Replied):
            del self.bag[place]  # what begins a saga comes from a log, and is not lost

    def arrive(self, place: int, crash: int = -1) -> None:
        message = self.bag.pop(place)
        if isinstance(message, ToSaga):
            if crash == 1:
                self.bag.append(message)  # it crashes before it has noted anything, and reads it again
            else:
                self.tell(*message, crash=crash)
        elif crash != 1:
            self.command(message, crash=crash)

    def tell(self, key: str, message: Any, crash: int = -1) -> None:
        """A saga takes something in. Crash 2: after it has noted it, and before it has sent anything."""
        after = self.states.get(key, self.saga.initial)
        decision = self.saga.decide(message, after)
        if isinstance(decision, Rejected):
            return
        for event in decision:
            if not isinstance(event, Effect):
                after = self.saga.evolve(after, event)
        if isinstance(message, TimeUp):
            self.timers.discard((key, message.timer))
        asks = [effect for effect in decision if isinstance(effect, Ask)]
        if crash == 2 and self.decides_after_telling:
            self.bag += [ToGoods(key, ask) for ask in asks]
            self.timers.add((key, message.timer)) if isinstance(message, TimeUp) else None
            return
        self.states[key] = after
        self.seen.setdefault(key, []).append(after)
        self.timers -= {(key, effect.name) for effect in decision if isinstance(effect, Cancel)}
        self.timers |= {(key, effect.name) for effect in decision if isinstance(effect, Deadline)}
        self.asked += [(key, ask) for ask in asks]
        if crash != 2:
            self.bag += [ToGoods(key, ask) for ask in asks]

    def command(self, message: ToGoods, crash: int = -1) -> None:
        """A participant takes a command in. Crash 2: after it has noted what came of it, and before it answers."""
        saga_key, ask = message
        command_id = saga_key, ask.step, ask.attempt
        reply = None if self.answers is None else self.answers.get(command_id)
        if reply is None:
            reply = self.decide(ask)
        if self.answers is not None:
            self.answers[command_id] = reply
        if crash != 2:
            self.bag.append(ToSaga(saga_key, reply))

    def decide(self, ask: Ask) -> Replied:
        decision = self.goods.decide(ask.command, self.stock[ask.key])
        refused = isinstance(decision, Rejected)
        events = () if refused else tuple(decision)
        for event in events:
            self.stock[ask.key] = self.goods.evolve(self.stock[ask.key], event)
        self.acts.append(Act(ask.key, ask.command, not refused, events))
        assert self.stock[ask.key].free >= 0
        return Replied(ask.step, ask.attempt, not refused, decision.reason if refused else "")

    def settle(self, begins: Iterable[ToSaga]) -> None:
        """The fair time."""
        self.bag += begins
        for _ in range(PATIENCE):
            if self.bag:
                self.arrive(0)
            elif self.timers:
                key, name = min(self.timers)
                self.tell(key, TimeUp(name))
            else:
                break
        else:
            raise AssertionError(f"not settled: {self.states}, {self.timers}")
        for key, begin in begins:
            status = self.saga.summary(self.states[key]).status
            assert status in ("done", "undone"), (key, begin, status)

    def check_goods(self, stocked: dict[str, int]) -> None:
        """Nothing is held any more, nothing has come or gone in any other way than by being confirmed."""
        for key, stock in self.stock.items():
            assert not stock.ledger.holds, (key, stock)
            assert not stock.ledger.claims, (key, stock)
            assert stock.free + stock.gone == stocked[key], (key, stock)
