"""What an author may get wrong unseen: `given` and the driver say it, with function, class and cure."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import pytest

from pipeline import Aggregate, Rejected, Send
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


@pytest.mark.parametrize("answer", [{Added("b")}, {"b": Added("b")}, frozenset([Added("b")])])
def test_what_has_no_order_is_no_list(answer: object) -> None:
    with pytest.raises(AuthorError, match=r"on a Put, returned a (set|dict|frozenset): return a list of events"):
        given(cart(decides(answer))).when(Put("b"))


def test_a_list_inside_a_list_that_is_changed_is_found() -> None:
    def nested(state: Cart, event: Added) -> Cart:
        state.items[0].append(event.item)  # type: ignore[attr-defined]
        return Cart(list(state.items))

    aggregate = Aggregate("carts", Put, Added, Cart([["a"]]), decide_cart, nested)  # type: ignore[list-item]
    with pytest.raises(AuthorError, match="nested changed its state in place, a Cart: it was"):
        given(aggregate, Added("b"))


def books(**functions: Any) -> Topology:
    """The world of tills, whose followers do otherwise."""
    service = t.TOPOLOGY.services["books"]
    if "react" in functions:
        service = replace(service, reactions=[replace(service.reactions[0], **functions)])
    else:
        service = replace(service, projections=[replace(service.projections[0], **functions)])
    return Topology("tills", {**t.TOPOLOGY.services, "books": service}, t.TOPOLOGY.schemas)


@pytest.mark.parametrize(
    ("functions", "says"),
    [
        ({"react": decides(None)}, "decide_badly, react of 'entries', on a Taken, returned None: is a case missing"),
        ({"react": decides(Send("k", t.Enter("a", 1)))}, "on a Taken, returned a Send: return a list of Sends"),
        ({"react": decides([t.Enter("a", 1)])}, "on a Taken, gave a Enter: give Sends only"),
        ({"react": decides([Send("k", Put("a"))])}, "on a Taken, sends a Put, which no aggregate takes: they take Ent"),
        ({"route": decides(None)}, "decide_badly, route of 'sums', on a Taken, returned None: is a case missing"),
        ({"route": decides(("k", t.Part(1)))}, "on a Taken, gave 'k': give pairs of row key and message"),
        ({"route": decides([("k", t.Part(1), 2)])}, r"on a Taken, gave \('k', Part\(amount=1\), 2\): give pairs"),
        ({"route": decides([("k", t.Taken(1))])}, "gave a Taken, which is no message of it: by_key declares Part"),
    ],
)
def test_followers_are_held_to_it_too(functions: Any, says: str) -> None:
    with TestDriver(books(**functions)) as driver, pytest.raises(Exception, match=says):
        driver.send("tills", "till-1", t.Take(1))
