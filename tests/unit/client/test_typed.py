"""Rows, events and commands as clients return them: instances of the classes of what they were asked for."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline import Aggregate, Projection, Row, Service, Source, Token
from pipeline.adapters.json.reading import read_back
from pipeline.adapters.json.writing import json_text, to_json
from pipeline.client import Due, Instance, PastEvent, Standing
from pipeline.client.owner_request import Answer, Blocking, HttpCall, Items, Open, Read
from pipeline.client.requests import Requests
from pipeline.client.typed.subjects import subject, taker
from pipeline.errors import BadRequest, InvalidCommand, UnfitValue, UnknownTable
from pipeline.model import Transaction
from pipeline.topology import Topology
from tests.helpers.market import GOODS, MARKET, MOVE, Goods, Held, Hold, Moving, Restock
from tests.helpers.values import BRANCHES, COMMANDS
from tests.typed import accounts, trees
from tests.unit.adapters.test_values import ALLS, EVENTS, slowly, strict
from topologies import inventory, orders, reports, users

# --- value -> JSON -> value -------------------------------------------------------------------------------------------

VALUES = st.one_of(
    COMMANDS,
    COMMANDS.map(lambda command: accounts.Holder(*accounts.values(command))),
    COMMANDS.map(lambda command: accounts.Account(accounts.Opened(*accounts.values(command)), command.balance)),
    BRANCHES,
    BRANCHES.map(lambda branch: trees.Tree(branch.name, branch.grown, branch, trees.Tree("", newest=branch))),
    ALLS,
    EVENTS,
)


@slowly
@given(VALUES, st.booleans())
def test_a_value_of_every_type_is_read_back(value: Any, tagged: bool) -> None:
    told = strict(json_text(to_json(value, tagged=tagged)))
    assert read_back(type(value), told, "value", tagged=tagged) == value


@slowly
@given(EVENTS | COMMANDS)
def test_a_member_of_a_union_is_read_back(value: Any) -> None:
    union = type(value) | Restock | Hold
    assert read_back(union, strict(json_text(to_json(value, tagged=True))), "event", tagged=True) == value


@dataclass(frozen=True)
class Sensor:
    """Its JSON looks like that of a record with its name around it."""

    type: str
    value: dict[str, str]


def test_a_row_that_looks_like_a_name_and_a_value_is_what_it_is() -> None:
    row = Sensor("Sensor", {"type": "a", "value": "b"})
    assert read_back(Sensor, to_json(row), "row") == row
    assert read_back(Sensor, to_json(row, tagged=True), "row", tagged=True) == row


def test_what_newer_code_has_added_is_left_out_and_what_it_lacks_has_its_default() -> None:
    told = {"name": "Anna", "country": "France", "age": 5}
    assert read_back(users.User, told, "row") == users.User("Anna", "France")


@pytest.mark.parametrize(
    ("told", "says"),
    [
        ({"country": "France"}, "the row lacks the field 'name'; it was written by other code than this"),
        ({"name": 5, "country": "France"}, "the row.name must be str, not int 5"),
        ([], "the row must be an object with the fields of User"),
    ],
)
def test_a_row_that_does_not_fit_its_class_is_named(told: Any, says: str) -> None:
    with pytest.raises(UnfitValue, match=says):
        read_back(users.User, told, "the row")


# --- what a client returns --------------------------------------------------------------------------------------------

AT = "goods.command/0@7"
GOODS_ROW = {"key": "tea", "row": to_json(Goods(3)), "version": 2, "time_ms": 1000, "pending": ["t/1"]}


def requests(topology: Topology = MARKET) -> Requests:
    router: Any = SimpleNamespace(
        topology=topology,
        knows=lambda table: True,
        partition=lambda table, key: 0,
        holder=lambda table, partition: "http://w",
        workers=lambda service: ["http://w"],
        forget=lambda table: None,
    )
    return Requests(router, 0.0, eventual=False)


def run(steps: Generator[Any, Any, Any], body: Any, chunks: Iterable[bytes] = ()) -> Any:
    """What the steps return, or the list of what they yield, if each request has this answer."""
    found: list[Any] = []
    sent: Any = None
    reads = iter(chunks)
    try:
        while True:
            step = steps.send(sent)
            sent = None
            match step:
                case Blocking(function):
                    sent = function()
                case HttpCall():
                    sent = Answer(200, body, {"x-pipeline-position": AT})
                case Open():
                    sent = Answer(200, None, {})
                case Read():
                    sent = next(reads, b"")
                    if not sent:
                        return found
                case Items(items):
                    found += items
    except StopIteration as done:
        return found if done.value is None else done.value


def test_a_row_is_an_instance_with_its_version_position_and_age() -> None:
    row = run(requests().get(GOODS, "tea"), {**GOODS_ROW, "age_s": 0.5})
    assert row == Row("tea", Goods(3), Token(AT), 2, 1000, 0.5, ("t/1",))
    assert row.time == datetime(1970, 1, 1, 0, 0, 1, tzinfo=UTC)
    assert run(requests().get("goods", "tea"), GOODS_ROW) == {**GOODS_ROW, "position": AT}


def test_a_projection_has_no_version() -> None:
    topology = shop()
    told = {"key": "a", "row": to_json(reports.customers.initial)}
    row = run(requests(topology).get(reports.customers, "a"), told)
    assert row == Row("a", reports.customers.initial, Token(AT))
    assert (row.version, row.age, row.time) == (None, None, None)


def test_several_rows_have_the_position_of_all() -> None:
    page = {"rows": [GOODS_ROW, None], "next": None, "age_s": 2.0}
    row = Row("tea", Goods(3), Token(AT), 2, 1000, 2.0, ("t/1",))
    assert run(requests().get_many(GOODS, ["tea", "pot"]), page) == [row, None]
    assert run(requests().scan(GOODS), {**page, "rows": [GOODS_ROW]}) == [row]
    assert run(requests().get_many("goods", ["tea", "pot"]), page) == page["rows"]
    assert run(requests().scan("goods"), {**page, "rows": [GOODS_ROW]}) == [GOODS_ROW]


def test_rows_that_are_read_together_are_each_of_their_class() -> None:
    moving = Moving("m", 1, ("tea",))
    told = {"key": "m", "row": to_json(moving), "version": 1, "time_ms": 5, "table": "move"}
    steps = requests().read_together([(GOODS, "tea"), (MOVE, "m"), ("goods", "tea"), (GOODS, "pot")])
    one, other, name, none = run(steps, {"rows": [GOODS_ROW, told, GOODS_ROW, None]})
    assert (one.row, other.row, name["row"], none) == (Goods(3), moving, GOODS_ROW["row"], None)
    assert other.position == AT


def test_a_watch_yields_rows_and_none_for_one_that_is_deleted() -> None:
    def event(row: Any) -> bytes:
        told = {"key": "tea", "row": row, "version": 1, "time_ms": 5, "position": AT}
        return f"id: {AT}\ndata: {json_text(told)}\n\n".encode()

    found = run(requests().watch(GOODS, "tea"), None, [event(to_json(Goods(3))) + event(None)])
    assert found == [Row("tea", Goods(3), Token(AT), 1, 5), Row("tea", None, Token(AT), 1, 5)]


def test_history_state_and_deadlines_are_instances() -> None:
    event = {"version": 1, "time_ms": 5, "command_id": "c", "correlation_id": "d"}
    page = {"events": [{**event, "event": to_json(Held("t", 1), tagged=True)}, {**event, "event": None}], "next": None}
    held, gone = run(requests().history(GOODS, "tea"), page)
    assert held == PastEvent(1, 5, "c", "d", Held("t", 1))
    assert gone.event is None

    state = {"key": "tea", "row": to_json(Goods(3)), "version": 0, "time_ms": None, "last": 3}
    assert run(requests().state_as_of(GOODS, "tea", 0), state) == Row("tea", Goods(3), version=0)

    due = {"kind": "scheduled", "name": "x", "due_ms": 7, "command_id": "c", "correlation_id": "d"}
    told = {"deadlines": [{**due, "command": to_json(Restock(3), tagged=True)}]}
    assert run(requests().deadlines(GOODS, "tea"), told) == [Due("scheduled", "x", 7, "c", "d", Restock(3))]


def test_a_saga_is_an_instance_with_its_state() -> None:
    stands = {"saga": "move", "key": "m", "status": "running", "step": "vote", "attempt": 1, "waits_for": ["goods"]}
    stands |= {"reason": "", "blocks": [], "since": "2009-12-01T10:00:00.000Z"}
    since = datetime(2009, 12, 1, 10, tzinfo=UTC)
    (standing,) = run(requests().sagas(MOVE), {"sagas": [stands], "next": None})
    assert standing == Standing("move", "m", "running", "vote", 1, ("goods",), "", (), since)
    moving = Moving("m", 1, ("tea",), Transaction())
    instance = run(requests().saga(MOVE, "m"), {**stands, "version": 3, "state": to_json(moving)})
    assert isinstance(instance, Instance)
    assert (instance.version, instance.state, instance.since) == (3, moving, since)


# --- what names a table -----------------------------------------------------------------------------------------------


def shop(*more: Projection[Any, Any]) -> Topology:
    services = {each.name: each for each in (users.service, inventory.service, orders.service, reports.service)}
    if more:
        services["reports"] = replace(reports.service, projections=[*reports.service.projections, *more])
    return Topology("shop", services, Path("schemas"))


def test_a_declaration_and_a_module_with_one_table_name_it() -> None:
    assert subject(shop(), users.users).name == "users"
    assert subject(shop(), orders.customer_countries).name == "customer_countries"
    assert subject(shop(), users) == ("users", users.users)
    assert subject(shop(), "users") == ("users", None)


def test_a_version_of_a_projection_means_that_version() -> None:
    second = replace(reports.revenue, version=2)
    both = shop(second)
    assert subject(both, reports.revenue).name == "revenue_v1"
    assert subject(both, second).name == "revenue_v2"
    assert subject(shop(), reports.revenue).name == "revenue"


@pytest.mark.parametrize(
    ("table", "error", "says"),
    [
        (orders, BadRequest, "topologies.orders does not say which one is meant of orders, customer_countries"),
        (pytest, BadRequest, "the module pytest declares no service"),
        (5, BadRequest, "5 names no table; give a Projection"),
        (GOODS, UnknownTable, "no table 'goods' in shop; it has"),
    ],
)
def test_what_names_no_table_is_refused(table: Any, error: type[Exception], says: str) -> None:
    with pytest.raises(error, match=says):
        run(requests(shop()).get(table, "a"), {})


def test_a_command_goes_to_the_aggregate_that_takes_it() -> None:
    assert taker(users, users.ChangeName) == "users"
    assert taker(users.users, users.ChangeName) == taker(users, None) == taker("users", None) == "users"
    assert taker(MOVE, None) == "move"


def module(service: Service) -> ModuleType:
    found = ModuleType("shared")
    vars(found)["service"] = service
    return found


def decided(command: users.ChangeName, state: users.User) -> list[Any]:
    return []


def same(name: str) -> Aggregate[Any, Any, Any]:
    evolve: Callable[[Any, Any], Any] = lambda state, event: state  # noqa: E731
    return Aggregate(name, users.ChangeName, users.NameChanged, users.NOBODY, decided, evolve)


@pytest.mark.parametrize(
    ("given", "command", "says"),
    [
        (users, inventory.ReceiveStock, "the service 'users' cannot be sent ReceiveStock: it takes ChangeCountry, Ch"),
        (reports, users.ChangeName, "the service 'reports' cannot be sent ChangeName: it takes no commands"),
        (module(Service("two", [same("a"), same("b")])), users.ChangeName, "several of its aggregates take it, a, b"),
        (module(Service("two", [same("a"), same("b")])), None, "shared does not say which one is meant of a, b"),
        (Source("users.event", users.NameChanged), users.ChangeName, "takes no commands; give an Aggregate"),
    ],
)
def test_what_takes_no_such_command_is_refused(given: Any, command: Any, says: str) -> None:
    with pytest.raises(InvalidCommand, match=says):
        taker(given, command)
