"""Which functions ask for their context, and what is refused when a topology is loaded."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial, wraps
from typing import Any

import pytest

from pipeline import Aggregate, CommandContext, EventContext, Projection, Reaction, Replica, Send, Source
from pipeline.errors import TopologyError
from pipeline.model import Participant, Saga, linear_saga, two_phase_saga
from pipeline.testing import given, given_saga
from tests.helpers.market import Buy, Sale, Step, held, released

# --- functions that an author may write; mypy holds their types -------------------------------------------------------


def decide(command: int, state: int) -> list[int]:
    return [command]


def decide_with(command: int, state: int, context: CommandContext) -> list[int]:
    return [context.version]


def decide_by_name(command: int, state: int, *, context: CommandContext) -> list[int]:
    return [context.version]


def evolve(state: int, event: int) -> int:
    return event


def evolve_with(state: int, event: int, context: EventContext) -> int:
    return context.version


def react_with(key: str, event: int, *, context: EventContext) -> Iterable[Send]:
    return [Send(context.key, event)]


def route_with(key: str, event: int, context: EventContext) -> Iterable[tuple[str, int]]:
    return [(key, context.version)]


SOURCE = Source("x.event", int)
TYPED = [
    Aggregate("a", int, int, 0, decide, evolve),
    Aggregate("a", int, int, 0, decide_with, evolve_with),
    Aggregate("a", int, int, 0, decide_by_name, lambda state, event: event),
    Aggregate("a", int, int, 0, lambda command, state, context: [], lambda state, event, *, context: 0),
    Reaction("r", SOURCE, react_with),
    Reaction("r", SOURCE, lambda key, event: []),
    Projection("p", [SOURCE], 0, evolve_with),
    Projection("p", [SOURCE], 0, evolve, by_key=int, route=route_with),
    Replica("c", SOURCE, 0, evolve_with),
]


def logged(function: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(function)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        return function(*args, **kwargs)

    return wrapper


@dataclass(frozen=True)
class Adder:
    """A callable, a method, and others' decorations of functions."""

    by: int

    def __call__(self, state: int, event: int, context: EventContext) -> int:
        return self.by + context.version

    def plain(self, state: int, event: int) -> int:
        return event

    def method(self, state: int, event: int, context: EventContext) -> int:
        return context.version

    @logged
    def decorated(self, state: int, event: int, context: EventContext) -> int:
        return context.version


def configured(function: Callable[..., Any]) -> Callable[[int, int], Any]:
    """A decorator that gives a parameter of that name itself, as code that there is may do."""

    @wraps(function)
    def wrapper(state: int, event: int) -> Any:
        return function(state, event, context=1000)

    return wrapper


def own(state: int, event: int, context: int) -> int:
    return context


def with_factor(factor: int, state: int, event: int, context: EventContext) -> int:
    return factor * context.version


@pytest.mark.parametrize(
    ("function", "asks", "gives"),
    [
        (evolve, False, 7),
        (lambda state, event: event, False, 7),
        (lambda context, event: event, False, 7),  # a name that stood there before
        (lambda *args: args[1], False, 7),
        (lambda state, event, **more: len(more), False, 0),
        (partial(own, context=1000), False, 1000),
        (logged(partial(own, context=1000)), False, 1000),
        (partial(configured(own)), False, 1000),
        (configured(own), False, 1000),
        (Adder(10).plain, False, 7),
        (logged(evolve), False, 7),
        (max, False, 7),
        (evolve_with, True, 1),
        (lambda state, event, context: context.version, True, 1),
        (lambda state, event, *more, context: context.version, True, 1),
        (partial(with_factor, 3), True, 3),
        (Adder(10), True, 11),
        (Adder(10).method, True, 1),
        (logged(evolve_with), True, 1),
        (logged(logged(Adder(5))), True, 6),
        (partial(logged(with_factor), 4), True, 4),
        (Adder(10).decorated, True, 1),
    ],
)
def test_a_function_asks_by_the_name_of_a_parameter(function: Any, asks: bool, gives: int) -> None:
    aggregate = Aggregate("a", int, int, 0, decide, function)
    assert aggregate.evolve_in_context is asks
    given(aggregate, 7).has(gives)


def ctx(state: int, event: int, ctx: EventContext) -> int:
    return 0


def of_a_command(state: int, event: int, context: CommandContext) -> int:
    return 0


def optional(state: int, event: int, context: EventContext | None = None) -> int:
    return 0


def before(state: int, event: int, context: EventContext, /) -> int:
    return 0


async def later(state: int, event: int) -> int:
    return 0


class Later:
    async def __call__(self, state: int, event: int) -> int:
        return 0


def first(context: EventContext, state: int, event: int) -> int:
    return 0


def further(state: int, event: int, when: int) -> int:
    return 0


@pytest.mark.parametrize(
    ("function", "says"),
    [
        (ctx, r"ctx, has a parameter 'ctx' annotated EventContext, but only one named 'context' is given a context"),
        (
            of_a_command,
            r"has a parameter 'context' annotated CommandContext, but what it is given is of the class EventContext",
        ),
        (
            optional,
            r"has a parameter 'context' with a default; leave the default out, so that it gets the EventContext",
        ),
        (lambda state, event, context=5: 0, r"line \d+, has a parameter 'context' with a default"),
        (before, r"has a parameter 'context' before a slash; it is passed by name"),
        (first, r"parameter 'context' annotated EventContext, but it stands where the state is given; put it behind"),
        (
            further,
            r"further, cannot be called: missing a required argument: 'when'; it is given the state, the event, a",
        ),
        (lambda state: 0, r"cannot be called: too many positional arguments; it is given the state, the event"),
        (None, r"aggregate 'a': its evolve, None, is no function"),
        (later, r"later, is async; it is called and not awaited, so make it a plain function"),
        (Later(), r"is async; it is called and not awaited"),
        (partial(later, 1), r"is async; it is called and not awaited"),
    ],
)
def test_what_cannot_be_called_is_refused_at_load(function: Any, says: str) -> None:
    with pytest.raises(TopologyError, match=says) as raised:
        Aggregate("a", int, int, 0, decide, function)
    assert "aggregate 'a': its evolve" in str(raised.value)


COPY = Replica("rates", SOURCE, 0, evolve)


def test_the_context_comes_behind_the_copies() -> None:
    def takes_its_place(command: int, state: int, context: CommandContext, rates: Any) -> list[int]:
        return []

    asks = Aggregate("a", int, int, 0, lambda command, state, rates, context: [context.version], evolve, reads=COPY)
    assert asks.decide_in_context
    given(asks, 1, 2).when(5).then(2)
    with pytest.raises(
        TopologyError, match="'context' annotated CommandContext, but it stands where a copy of 'rates'"
    ):
        Aggregate("a", int, int, 0, takes_its_place, evolve, reads=COPY)
    named_so = Aggregate("a", int, int, 0, lambda command, state, context: [context.get("k") or 9], evolve, reads=COPY)
    assert not named_so.decide_in_context
    given(named_so).with_copy(COPY, {"k": 3}).when(5).then(3)


def test_messages_of_a_routed_projection_have_none() -> None:
    with pytest.raises(
        TopologyError, match=r"projection 'p': its evolve, .*evolve_with, has a parameter .*let `route`"
    ):
        Projection("p", [SOURCE], 0, evolve_with, by_key=int, route=route_with)


@pytest.mark.parametrize(
    ("make", "where"),
    [
        (lambda f: Reaction("r", SOURCE, f), "reaction 'r': its react"),
        (lambda f: Replica("c", SOURCE, 0, f), "replica 'c': its evolve"),
        (lambda f: Projection("p", [SOURCE], 0, evolve, by_key=int, route=f), "projection 'p': its route"),
        (lambda f: Saga("s", int, {}, 0, f, lambda s: (), lambda s: s), "saga 's': its evolve"),
    ],
)
def test_all_kinds_of_functions_are_checked(make: Callable[[Any], Any], where: str) -> None:
    with pytest.raises(TopologyError, match=where):
        make(ctx)


# --- what participants and sagas pass on ------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Ask:
    transaction: str


def test_what_a_participant_guards_may_ask_for_it() -> None:
    part = Participant(Ask, Ask, Ask, ledger=lambda state: state)
    aggregate = Aggregate("a", int, int, 0, part.guards(logged(decide_with)), evolve)
    assert aggregate.decide_in_context
    given(aggregate, 1, 2, 3).when(5).then(3)
    assert part.guards(decide) == part.guards(decide)


def begun_with(buy: Buy, context: EventContext) -> Sale:
    return Sale(f"{context.key}/{context.version}/{context.time_ms}/{context.event_id}", buy.tea, buy.pot)


def test_a_saga_begins_in_its_context() -> None:
    saga = linear_saga(
        "sale",
        state=Sale(),
        begin=Buy,
        begun=begun_with,
        asks={"goods": object},
        versions={1: [Step("hold", held, released)]},
    )
    assert saga.aggregate.decide_in_context
    assert saga.aggregate.evolve_in_context
    begins = given_saga(saga, key="s1", time_ms=50).when(Buy("", 1, 2))
    assert begins.after().state.order == "s1/2/50/sale.event/s1/2"  # the first event is Started
    assert begins.after().version == 2
    assert [ask.command.transaction for ask in begins.asks] == ["s1/2/50/sale.event/s1/2"] * 2


def test_two_phase_begins_in_its_context() -> None:
    state = Sale()
    saga = two_phase_saga("move", state=state, begin=Buy, begun=begun_with, asks={}, works=lambda state, n: [])
    assert saga.evolve_in_context
    with pytest.raises(TopologyError, match=r"saga 'move': its begun, .*cannot be called: missing a required argument"):
        two_phase_saga("move", state=state, begin=Buy, begun=evolve, asks={}, works=lambda state, n: [])
