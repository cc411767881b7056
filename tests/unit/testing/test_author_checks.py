"""What an author may get wrong unseen: `given` and the driver say it, with function, class and cure."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import pytest

from pipeline import Aggregate, Rejected
from pipeline.model import Projection
from pipeline.testing import AuthorError, TestDriver, given
from pipeline.testing.author_checks import checked_table
from pipeline.topology import Topology
from tests.simulation.worlds import tills as t


@dataclass(frozen=True, slots=True)
class Put:
    item: str


@dataclass(frozen=True, slots=True)
class Other:
    item: str


@dataclass(frozen=True, slots=True)
class Added:
    item: str


@dataclass(slots=True)
class Cart:
    items: list[str] = field(default_factory=list)


def decide_cart(command: Put, state: Cart) -> list[Added] | Rejected:
    return [Added(command.item)]


def evolve_cart(state: Cart, event: Added) -> Cart:
    return Cart([*state.items, event.item])


def cart(decide: Callable[..., Any] = decide_cart, evolve: Callable[..., Any] = evolve_cart) -> Any:
    return Aggregate("carts", Put, Added, Cart(), decide, evolve)


def evolve_in_place(state: Cart, event: Added) -> Cart:
    state.items.append(event.item)
    return state


def decide_in_place(command: Put, state: Cart) -> list[Added]:
    state.items.append(command.item)
    return []


def decides(answer: object) -> Callable[..., Any]:
    def decide_badly(command: Put, state: Cart) -> Any:
        return answer

    return decide_badly


def test_what_is_right_goes_through() -> None:
    given(cart(), Added("a")).when(Put("b")).then(Added("b")).has(Cart(["a", "b"]))
    given(cart(decides(Rejected("full")))).when(Put("b")).then(Rejected("full"))
    given(cart(decides(()))).when(Put("b")).then()


@pytest.mark.parametrize(
    ("aggregate", "says"),
    [
        (cart(evolve=evolve_in_place), r"evolve_in_place changed its state in place, a Cart: .*return a new one"),
        (cart(decide_in_place), r"decide_in_place changed its state in place, a Cart"),
        (cart(decides(None)), r"decide_badly, decide of 'carts', on a Put, returned None: is a case missing\?"),
        (cart(decides(Added("b"))), r"on a Put, returned a Added: return a list of events, or a Rejected"),
        (cart(decides("added")), r"on a Put, returned a str: return a list of events"),
        (cart(decides([Other("b")])), r"on a Put, returned a Other, which is no event of it: it declares Added"),
        (
            cart(evolve=lambda state, event: None),
            r"on a Added, returned None: is a case missing\? Return the next Cart",
        ),
        (cart(evolve=lambda state, event: event), r"on a Added, returned a Added: is a case missing\?"),
    ],
)
def test_what_is_wrong_is_said_with_function_and_class(aggregate: Any, says: str) -> None:
    with pytest.raises(AuthorError, match=says):
        given(aggregate).when(Put("b")).after()


def test_a_command_of_another_class_is_said() -> None:
    with pytest.raises(AuthorError, match="a Other is no command of 'carts': it declares Put"):
        given(cart()).when(Other("b"))


@pytest.mark.parametrize(
    ("evolve", "says"),
    [
        (evolve_in_place, "evolve_in_place changed its row in place, a Cart"),
        (
            lambda row, message: message,
            "evolve of 'carts', on a Added, returned a Added: return the next Cart, or None",
        ),
    ],
)
def test_a_projection_is_held_to_it_too(evolve: Callable[..., Any], says: str) -> None:
    table = checked_table(Projection("carts", (), Cart(), evolve))
    with pytest.raises(AuthorError, match=says):
        table.evolve(Cart(), Added("b"))
    assert checked_table(Projection("carts", (), Cart(), lambda row, _: None)).evolve(Cart(), Added("b")) is None


# --- the driver -------------------------------------------------------------------------------------------------------


def with_decide(decide: Callable[..., Any]) -> Topology:
    """The world of tills, in which they decide otherwise."""
    service = t.TOPOLOGY.services["tills"]
    aggregates = [replace(each, decide=decide) if each.name == "tills" else each for each in service.aggregates]
    services = {**t.TOPOLOGY.services, "tills": replace(service, aggregates=aggregates)}
    return Topology("tills", services, t.TOPOLOGY.schemas)


def test_the_driver_says_what_a_function_does_wrong() -> None:
    topology = with_decide(decides(None))
    with TestDriver(topology) as driver, pytest.raises(Exception, match="on a Take, returned None: is a case missing"):
        driver.send("tills", "till-1", t.Take(1))


def test_the_driver_says_that_nobody_takes_a_command() -> None:
    with TestDriver(t.TOPOLOGY) as driver, pytest.raises(AuthorError, match="a Put is no command of 'tills'"):
        driver.send("tills", "till-1", Put("b"))
