"""Whatever an author's code raises or returns ends as a parked record with a sentence; nothing is lost or silent."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import pytest

from pipeline.engine.parking.parking_log import TRACEBACK_CHARACTERS_MAX, describe_error
from pipeline.errors import Ending, LaneFatal, StateDirectoryError, TableUnavailable
from pipeline.flow import Copies
from pipeline.flow.functions import raised
from pipeline.flow.functions.raised import is_topologys
from pipeline.model import Send
from pipeline.process.signals import Ended
from pipeline.testing import TestDriver
from pipeline.testing.simulation.judge import oracle
from pipeline.topology import Topology
from tests.simulation.worlds import tills as t


@pytest.fixture(autouse=True)
def as_a_worker(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the driver call the functions as a worker does, without the checks for authors."""
    monkeypatch.setattr(oracle, "checked", lambda service: service)


class Stop(BaseException):
    pass


class Mute(Exception):
    def __str__(self) -> str:
        raise SystemExit("in its text")


class NoText(Exception):
    def __str__(self) -> str:
        return 5  # type: ignore[return-value]


class NotPickled(Exception):
    def __reduce__(self) -> Any:
        raise RuntimeError("no")


def raises(error: BaseException) -> Callable[..., Any]:
    def decide(command: Any, state: Any) -> Any:
        raise error

    return decide


def gives(value: Any) -> Callable[..., Any]:
    return lambda command, state: value


def deep(command: Any, state: Any) -> Any:
    return deep(command, state)


def greedy(command: Any, state: Any) -> Any:
    return [0] * 10**15


def breaks_off(command: Any, state: Any) -> Any:
    yield t.Taken(1)
    raise ValueError("half way")


@dataclass(frozen=True, slots=True)
class Foreign:
    amount: int = 1


LISTS = "on a Take: return a list of events, or a Rejected"
DECISIONS = [
    (gives(None), "decide of 'tills' returned None on a Take: is a case missing?"),
    (gives(t.Taken(1)), f"decide of 'tills' returned a Taken {LISTS}"),
    (gives("taken"), f"decide of 'tills' returned a str {LISTS}"),
    (gives({t.Taken(1)}), f"decide of 'tills' returned a set {LISTS}"),
    (gives({"a": t.Taken(1)}), f"decide of 'tills' returned a dict {LISTS}"),
    (gives(Send("k", t.Taken(1))), f"decide of 'tills' returned a Send {LISTS}"),
    (gives([Foreign()]), "tills.event: EventMessage.body must be Taken or Closed or Scribbled, not Foreign"),
    (gives([t.Taken]), "tills.event: EventMessage.body must be Taken or Closed or Scribbled, not type"),
    (gives([None]), "tills.event: EventMessage.body must be Taken or Closed or Scribbled, not NoneType"),
    (gives([t.Taken(2**70)]), "tills.event: Taken.amount must fit 64 bits"),
    (breaks_off, "ValueError: half way"),
    (raises(SystemExit(3)), "SystemExit: 3"),
    (raises(KeyboardInterrupt()), "KeyboardInterrupt: "),
    (raises(GeneratorExit()), "GeneratorExit: "),
    (raises(asyncio.CancelledError()), "CancelledError: "),
    (raises(BaseExceptionGroup("several", [KeyboardInterrupt()])), "BaseExceptionGroup: several"),
    (raises(Stop("now")), "Stop: now"),
    (raises(StopIteration(5)), "StopIteration: 5"),
    (raises(Mute()), "Mute: <its text raises SystemExit>"),
    (raises(NoText()), "NoText: <its text raises TypeError>"),
    (raises(NotPickled("a")), "NotPickled: a"),
    (raises(ValueError("y" * 10_000_000)), "ValueError: yyy"),
    (raises(TableUnavailable("of a client")), "TableUnavailable: of a client"),
    (raises(LaneFatal("of nobody")), "LaneFatal: of nobody"),
    (raises(StateDirectoryError("of nobody")), "StateDirectoryError: of nobody"),
    (deep, "RecursionError: "),
    (greedy, "MemoryError: "),
]


def with_functions(**functions: Any) -> Topology:
    """The tills, of which those functions see what has the amount 3; the others see the rest."""
    service, books = t.TOPOLOGY.services["tills"], t.TOPOLOGY.services["books"]
    decide, evolve = functions.get("decide", t.decide_till), functions.get("evolve", t.evolve_till)

    def decided(command: Any, state: Any) -> Any:
        return decide(command, state) if command.amount == 3 else t.decide_till(command, state)

    def evolved(state: Any, event: Any) -> Any:
        return evolve(state, event) if getattr(event, "amount", 0) == 3 else t.evolve_till(state, event)

    owned = replace(service.aggregates[0], decide=decided, evolve=evolved)
    changes = {name: functions[name] for name in ("react", "route") if name in functions}
    books = replace(
        books,
        reactions=[replace(books.reactions[0], **({"react": changes["react"]} if "react" in changes else {}))],
        projections=[replace(books.projections[0], **({"route": changes["route"]} if "route" in changes else {}))],
    )
    return Topology("tills", {"tills": replace(service, aggregates=[owned]), "books": books}, t.SCHEMAS)


def causes(driver: TestDriver, service: str) -> list[str]:
    logs = driver._world.kafka.topics[f"{service}.parked"].logs
    return [dict(record.headers())["parked-cause"].decode() for log in logs for record in log.archive]


@pytest.mark.parametrize(("decide", "says"), DECISIONS)
def test_what_a_decision_does_parks_its_command(decide: Callable[..., Any], says: str) -> None:
    with TestDriver(with_functions(decide=decide), park=True) as driver:
        driver.send("tills", "till-1", t.Take(1), t.Take(3), t.Take(2))
        driver.send("tills", "till-2", t.Take(2))
        assert driver.parked() == [("tills.command", "till-1", 1)]
        (cause,) = causes(driver, "tills")
        assert says in cause
        assert driver.events("tills", "till-1") == [t.Taken(1)]  # the one behind it waits
        assert driver.events("tills", "till-2") == [t.Taken(2)]
        driver.discard()
        driver.redrive()
        assert driver.events("tills", "till-1") == [t.Taken(1), t.Taken(2)]


@pytest.mark.parametrize(
    ("evolve", "says"),
    [
        (gives(None), "evolve of 'tills' returned None on a Taken: is a case missing?"),
        (gives(Foreign()), "tills.state: StateMessage.body must be Till, not Foreign"),
        (gives(t.Till(2**70)), "tills.state: Till.total must fit 64 bits"),
        (raises(KeyboardInterrupt()), "KeyboardInterrupt: "),
    ],
)
def test_what_an_evolve_does_parks_its_command(evolve: Callable[..., Any], says: str) -> None:
    with TestDriver(with_functions(evolve=evolve), park=True) as driver:
        driver.send("tills", "till-1", t.Take(3))
        (cause,) = causes(driver, "tills")
        assert says in cause


@pytest.mark.parametrize(
    ("functions", "says"),
    [
        ({"react": gives(None)}, "react of 'entries' returned None on a Taken: is a case missing? Return []"),
        ({"react": gives(5)}, "react of 'entries' returned a int on a Taken: return a list of Sends"),
        (
            {"react": gives(Send("book-a", t.Enter("x", 1)))},
            "react of 'entries' returned a Send on a Taken: return a list of Sends",
        ),
        (
            {"react": gives([t.Enter("x", 1)])},
            "react of 'entries' gave Enter(till='x', amount=1) on a Taken: give Sends only",
        ),
        ({"react": raises(Stop())}, "Stop: "),
        ({"route": gives(None)}, "route of 'sums' returned None on a Taken: is a case missing? Return []"),
        ({"route": gives(("odd", t.Part(1)))}, "route of 'sums' gave 'odd' on a Taken: give pairs of row key"),
        ({"route": gives({"odd": t.Part(1)})}, "route of 'sums' returned a dict on a Taken: return a list of pairs"),
        ({"route": gives([("odd", t.Closed())])}, "sums.by_key"),
    ],
)
def test_what_a_follower_does_parks_its_event(functions: Any, says: str) -> None:
    with TestDriver(with_functions(**functions), park=True) as driver:
        driver.send("tills", "till-1", t.Take(1))
        (cause,) = causes(driver, "books")
        assert says in cause


def test_ten_thousand_events_are_one_decision() -> None:
    topology = with_functions(decide=gives([t.Taken(1)] * 10_000), react=gives([]), route=gives([]))
    with TestDriver(topology) as driver:
        driver.send("tills", "till-1", t.Take(3))
        assert driver.row("tills", "till-1").version == 10_000


def test_long_text_leaves_the_frames_in_the_traceback() -> None:
    with pytest.raises(ValueError, match="y") as error:
        raises(ValueError("y" * 10_000_000))(None, None)
    cause, trace = describe_error(error.value)
    assert len(cause) == 2000
    assert len(trace) <= TRACEBACK_CHARACTERS_MAX
    assert "in decide" in trace


def test_the_end_of_a_process_and_the_engines_own_errors_are_no_records_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    assert not is_topologys(Ended(15))
    assert issubclass(Ended, Ending)
    assert not is_topologys(TableUnavailable("x"))
    assert is_topologys(MemoryError())
    monkeypatch.setattr(raised, "ROOM_BYTES", 10**15)  # as if there were no memory
    assert not is_topologys(MemoryError())


def test_what_a_copy_raises_while_a_function_reads_it_is_the_engines() -> None:
    names: dict[str, Any] = {"__name__": "pipeline.engine.copies.away", "TableUnavailable": TableUnavailable}
    exec("def find(key):\n    raise TableUnavailable(key)", names)
    copies = Copies([("users.event", names["find"])])
    with pytest.raises(TableUnavailable) as error:
        copies.decide(lambda command, state, copy: [copy.get("k")], None, None)
    assert not is_topologys(error.value)
    with pytest.raises(TableUnavailable) as own:
        Copies([]).decide(raises(TableUnavailable("own")), None, None)
    assert is_topologys(own.value)
