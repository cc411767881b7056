"""The context that functions are given: the same in the lane, in a replay, and in a test of an author."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any

import pytest

from pipeline import Aggregate, CommandContext, EventContext, Projection, Reaction, Replica, Send, Service
from pipeline.flow import command_to_event, event_to_command, event_to_row, event_to_state, events_to_state
from pipeline.model import CommandMessage, EventMessage, StateMessage
from pipeline.testing import TestDriver, given
from pipeline.topology import Topology
from tests.simulation.worlds import tills as t

EVENT = EventMessage(8, "c1", "corr", 1234, "added")
CONTEXT = EventContext("k", 8, 1234, "a.event/k/8", "c1", "corr")


def seen(*given: Any, context: Any) -> Any:
    return [context]


INITIAL: list[Any] = []


def test_what_a_command_and_an_event_tell_of_themselves() -> None:
    aggregate = Aggregate("a", str, str, None, seen, seen)
    command = CommandMessage("c1", "corr", "cause", 77, "add", due_ms=1000)
    decision = command_to_event(aggregate, b"k", StateMessage(7, 5, None), command, 1234)
    assert isinstance(decision, tuple)
    assert decision[0][0].body == CommandContext("k", 7, 1234, "c1", "corr", "cause", 77)
    assert event_to_state(aggregate, b"k", None, EVENT).body == [CONTEXT]
    assert event_to_row(Projection("p", [aggregate.events], None, seen), b"k", None, EVENT) == [CONTEXT]
    assert event_to_row(Replica("r", aggregate.events, None, seen), b"k", None, EVENT) == [CONTEXT]


def test_a_reaction_knows_the_id_that_its_commands_name_as_their_cause() -> None:
    reaction = Reaction(
        "r", Aggregate("a", str, str, None, seen, seen).events, lambda k, e, context: [Send(k, context)]
    )
    ((send, command),) = event_to_command(reaction, "k", EVENT)
    assert send.command == CONTEXT
    assert command.causation_id == CONTEXT.event_id


def test_given_has_settings_for_it() -> None:
    aggregate = Aggregate("a", str, CommandContext, INITIAL, seen, seen)
    past = given(aggregate, "added", "added", key="k", time_ms=9)
    past.has([EventContext("k", 2, 9, "a.event/k/2", "id", "id")])
    past.when("add").then(CommandContext("k", 2, 9, "id", "id", None, 9))
    later = past.with_context(
        version=40, time_ms=50, command_id="c", correlation_id="r", causation_id="x", issued_ms=49
    )
    later.when("add").then(CommandContext("k", 40, 50, "c", "r", "x", 49)).has(
        [EventContext("k", 41, 50, "a.event/k/41", "c", "r")]
    )
    given(aggregate).with_context(version=3).when("add").then(CommandContext("key", 3, 0, "id", "id", None, 0))


# --- a whole topology, of which every function asks -------------------------------------------------------------------


def number(context: EventContext | CommandContext) -> int:
    """A number that shows the key, version, time and ids."""
    ids = context.event_id if isinstance(context, EventContext) else context.command_id
    return sum(map(ord, context.key + ids + context.correlation_id)) + context.version + context.time_ms % 100_000


def decide(command: Any, till: t.Till, context: CommandContext) -> list[Any]:
    return [t.Taken(number(context)), t.Taken(2)] if isinstance(command, t.Take) else [t.Closed()]


def evolve(till: t.Till, event: Any, context: EventContext) -> t.Till:
    return t.Till(till.total + number(context), context.version)


def evolve_open(row: t.OpenTill, event: Any, *, context: EventContext) -> t.OpenTill | None:
    return t.OpenTill(number(context), row.taken + 1) if isinstance(event, t.Taken) else None


def react(key: str, event: Any, context: EventContext) -> Iterable[Send]:
    assert key == context.key
    return [Send("book", t.Enter(context.event_id, number(context)))]


def route(key: str, event: Any, context: EventContext) -> Iterable[tuple[str, t.Part]]:
    return [("all", t.Part(number(context)))]


@dataclass
class Skewed:
    """An `evolve` of the wall clock's kind: its state differs from fold to fold."""

    calls: int = 0

    def __call__(self, till: t.Till, event: Any, context: EventContext) -> t.Till:
        self.calls += 1
        return t.Till(till.total + self.calls, context.version)


def asking(evolve: Any = evolve) -> Topology:
    tills, books = t.TOPOLOGY.services["tills"], t.TOPOLOGY.services["books"]
    owned = replace(tills.aggregates[0], decide=decide, evolve=evolve)
    rows = replace(tills.projections[0], sources=[owned.events], evolve=evolve_open)
    entries = replace(books.reactions[0], react=react)
    sums = replace(books.projections[0], route=route)
    copy = replace(books.replicas[0], evolve=lambda row, event, context: t.Seen(number(context)))
    services = {
        "tills": Service("tills", [owned], projections=[rows]),
        "books": Service("books", books.aggregates, [entries], [sums], [copy]),
    }
    return Topology("tills", services, t.SCHEMAS)


def test_a_replay_gives_what_the_lane_gave() -> None:
    with TestDriver(asking()) as driver:
        for key in ("till-1", "till-é", "till-3"):
            driver.send("tills", key, t.Take(1), t.Take(2))
            driver.advance(3)
        driver.send("tills", "till-3", t.Close())
        assert driver._oracle.judge(driver._world) == []
        state = driver.row("tills", "till-1")
        assert state.version == state.body.closed == 4
        assert driver.row("open_tills", "till-3") is None
        assert {entry.till for entry in driver.events("books", "book")} >= {
            "tills.event/till-1/1",
            "tills.event/till-3/5",
        }


def test_what_is_no_function_of_its_context_is_a_finding() -> None:
    with TestDriver(asking(Skewed())) as driver:
        driver.send("tills", "till-1", t.Take(1))
        assert [found for found in driver._oracle.judge(driver._world) if "state" in found]


@pytest.mark.parametrize("version", [1, 2, 3, 4])
def test_states_of_the_past_have_the_context_of_their_events(version: int) -> None:
    topology = asking()
    with TestDriver(topology) as driver:
        driver.send("tills", "till-1", t.Take(1), t.Take(2))
        now = driver.row("tills", "till-1")
        messages = [event for key, event in driver.records("tills.event") if key == "till-1"]
    past = events_to_state(topology.services["tills"].aggregates[0], b"till-1", None, messages[:version])
    due = [
        EventContext("till-1", n, event.time_ms, f"tills.event/till-1/{n}", event.command_id, event.correlation_id)
        for n, event in enumerate(messages[:version], 1)
    ]
    assert past is not None
    assert past.body == t.Till(sum(map(number, due)), version)
    assert version < 4 or past == now
