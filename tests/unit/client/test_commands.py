"""Commands before they are sent: from JSON, checked against their schema; and outcomes as they are told."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import partial
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline import Client, QueryClient
from pipeline.adapters.json.reading import from_json, parsed
from pipeline.adapters.json.writing import to_json
from pipeline.client import Accepted
from pipeline.client.commands import ID_BYTES_MAX, Commands, outcome_json
from pipeline.errors import EncodeError, InvalidCommand, TopologyError, UnknownAggregate
from pipeline.model import Rejected, Token
from pipeline.model.records.keys import KEY_BYTES_MAX
from pipeline.topology import load
from topologies import orders, users

COMMANDS = Commands(load("topologies"))
ORDER = {"customer": "u1", "country": "France", "at": "2009-12-01T10:00:00"}


@pytest.mark.parametrize(
    ("aggregate", "name", "fields", "says"),
    [
        ("users", "RegisterUser", {"name": "Anna"}, "RegisterUser lacks the field 'country'"),
        ("users", "RegisterUser", {"name": 5, "country": "x"}, "RegisterUser.name must be str, not int 5"),
        ("users", "ChangeName", {"name": "x", "age": 5}, "ChangeName has no field 'age'; it has name"),
        ("users", "ChangeName", [], "ChangeName must be an object with the fields of ChangeName, not list []"),
        ("users", "Rename", {}, "'users' takes no command 'Rename'; it takes RegisterUser, ChangeName, ChangeCountry"),
        ("inventory", "ReceiveStock", {"quantity": True}, "ReceiveStock.quantity must be int, not bool True"),
        ("inventory", "ReceiveStock", {"quantity": 1.5}, "ReceiveStock.quantity must be int, not float 1.5"),
        ("orders", "PlaceOrder", {**ORDER, "lines": {}}, "PlaceOrder.lines must be a list, not dict {}"),
        (
            "orders",
            "PlaceOrder",
            {**ORDER, "lines": [{"code": "a", "quantity": 1, "price": 2}, {"code": None, "quantity": 1, "price": 2}]},
            "PlaceOrder.lines[1].code must be str, not NoneType None",
        ),
    ],
)
def test_what_does_not_fit_is_named(aggregate: str, name: str, fields: Any, says: str) -> None:
    with pytest.raises(InvalidCommand) as caught:
        COMMANDS.from_json(aggregate, name, fields)
    assert says in str(caught.value)


def test_an_unknown_aggregate_is_said_with_those_there_are() -> None:
    with pytest.raises(
        UnknownAggregate,
        match="no aggregate 'customers'; there are checkout_2pc, checkout_saga, inventory, orders, payments, users",
    ):
        COMMANDS.from_json("customers", "RegisterUser", {})


@pytest.mark.parametrize("text", ["NaN", '{"a": Infinity}', "{", b"\xff\xfe", b'"\xc3\x28"', "[" * 100_000])
def test_what_is_not_json_is_refused(text: str | bytes) -> None:
    with pytest.raises(InvalidCommand, match="not JSON"):
        parsed(text)


@pytest.mark.parametrize(
    ("command", "says"),
    [
        (users.ChangeName("\ud800"), "ChangeName.name must be text that UTF-8 can hold"),
        (users.ChangeName(5), "ChangeName.name must be str, not int 5"),  # type: ignore[arg-type]
        (
            "ChangeName",
            "CommandMessage.body must be RegisterUser or ChangeName or ChangeCountry or ChangeEmail, not str",
        ),
    ],
)
def test_a_command_that_does_not_fit_its_schema_is_not_written(command: Any, says: str) -> None:
    with pytest.raises(EncodeError, match=says):
        COMMANDS.write("users", "anna", command)


def test_a_class_of_the_same_file_under_another_name_is_said_so() -> None:
    by_path = Commands(load("topologies/users.py"))
    with pytest.raises(
        InvalidCommand, match=r"takes the class users\.ChangeName, not one of that name in topologies\.us"
    ):
        by_path.write("users", "anna", users.ChangeName("Anna"))


@pytest.mark.parametrize("client", [Client, QueryClient])
def test_what_is_no_topology_is_refused(client: Any) -> None:
    with pytest.raises(TopologyError, match=r"'topologies' is no topology; give what load_topology\(…\) returns"):
        client("localhost:1", "topologies")
    topology: Any = load("topologies")
    with pytest.raises(TopologyError, match="does not name a topology; give a package"):
        load(topology)


def test_a_number_out_of_range_is_named() -> None:
    order = orders.PlaceOrder("u", "France", "now", (orders.Line("a", 1, 1), orders.Line("b", 2**63, 1)))
    with pytest.raises(EncodeError, match=r"PlaceOrder.lines\[1\].quantity must fit 64 bits"):
        COMMANDS.write("orders", "o1", order)
    with pytest.raises(EncodeError, match=r"CommandMessage.expected_version must fit 64 bits"):
        COMMANDS.write("users", "anna", users.ChangeName("x"), expected_version=2**70)


@pytest.mark.parametrize("key", ["", "k" * (KEY_BYTES_MAX + 1), "é" * (KEY_BYTES_MAX // 2 + 1), "\udfff", 5, None])
def test_keys_and_ids_have_bounds(key: Any) -> None:
    with pytest.raises(InvalidCommand, match="the key"):
        COMMANDS.write("users", key, users.ChangeName("x"))
    if key:
        with pytest.raises(InvalidCommand, match="the command's id"):
            COMMANDS.write("users", "anna", users.ChangeName("x"), command_id=key if key != 5 else "i" * 300)


def test_the_longest_key_and_id_are_taken() -> None:
    ready = COMMANDS.write("users", "k" * KEY_BYTES_MAX, users.ChangeName("x"), command_id="i" * ID_BYTES_MAX)
    assert len(ready.key) == KEY_BYTES_MAX


@dataclass(frozen=True)
class Leaf:
    a: int
    b: bytes = b""


@dataclass(frozen=True)
class Twig:
    leaves: tuple[Leaf, ...]
    weights: dict[str, float]
    one: Leaf | None
    either: Leaf | int


leaves = st.builds(Leaf, st.integers(-(2**63), 2**63 - 1), st.binary())
twigs = st.builds(
    Twig,
    st.lists(leaves, max_size=3).map(tuple),
    st.dictionaries(st.text(), st.floats(allow_nan=False, allow_infinity=False), max_size=3),
    st.none() | leaves,
    leaves | st.integers(),
)


@given(twigs)
def test_a_message_comes_back_from_its_json(twig: Twig) -> None:
    assert from_json(Twig, parsed(json.dumps(to_json(twig))), "twig") == twig


outcomes = st.builds(Rejected, st.text(), st.dictionaries(st.text(), st.text(), max_size=3)) | st.builds(
    Accepted,
    st.integers(0, 2**63 - 1),
    st.lists(st.builds(users.UserRegistered, st.text(), st.text()) | st.builds(users.NameChanged, st.text())).map(
        tuple
    ),
    st.text(),
    st.booleans(),
)


@given(outcomes)
def test_an_outcome_comes_back_from_its_json(outcome: Any) -> None:
    assert COMMANDS.outcome_from_json("users", outcome_json(outcome)) == outcome


def test_what_newer_code_has_caused_is_told_as_far_as_it_is_known() -> None:
    known = {"type": "NameChanged", "name": "Anna", "since": "1843"}
    told = {"outcome": "accepted", "version": 2, "position": "", "complete": True}
    read = partial(COMMANDS.outcome_from_json, "users")
    assert read({**told, "events": [known]}) == Accepted(2, (users.NameChanged("Anna"),), Token())
    renamed = {"type": "Rechristened", "name": "Anna"}
    assert read({**told, "events": [known, renamed]}) == Accepted(2, (users.NameChanged("Anna"),), Token(), False)


anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters()) | st.binary(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=10,
)
fields = st.fixed_dictionaries(
    {}, optional={"name": anything, "country": anything, "quantity": anything, "x": anything}
)


@given(
    st.sampled_from(["users", "inventory"]), st.sampled_from(["RegisterUser", "ReceiveStock", "x"]), fields, anything
)
def test_whatever_comes_it_is_written_or_refused(aggregate: str, name: str, values: Any, key: Any) -> None:
    try:
        command = COMMANDS.from_json(aggregate, name, values)
        ready = COMMANDS.write(aggregate, key, command, command_id="c")
    except (InvalidCommand, EncodeError):
        pass
    else:
        assert 0 < len(ready.key) <= KEY_BYTES_MAX
