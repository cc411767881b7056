"""What a shell has at hand has a name that can be typed, and its examples are code."""

from __future__ import annotations

import ast
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from enum import Enum
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import pytest

from pipeline import Aggregate, Precision, Service
from pipeline.client.commands import Commands
from pipeline.develop.examples import example_command, first_calls
from pipeline.develop.namespace import STANDARD, banner, code_of, parts
from pipeline.develop.place import place_of
from pipeline.errors import TopologyError
from pipeline.topology import Topology
from tests.bank.traffic import BANK


class Colour(Enum):
    RED = "RED"


class Coin(NamedTuple):
    value: int
    mint: str = ""


@dataclass(frozen=True, slots=True)
class Paint:
    colour: Colour
    price: Annotated[Decimal, Precision(9, 2)]
    at: datetime
    coins: tuple[Coin, ...]
    names: dict[str, int]
    note: str | None
    of: Coin
    wet: bool = True


@dataclass(frozen=True, slots=True)
class Never:
    amount: int

    def __post_init__(self) -> None:
        raise ValueError("no amount is right")


def aggregate(name: str, command: Any = Coin) -> Aggregate[Any, Any, Any]:
    return Aggregate(name, command=command, event=Coin, initial=Coin(0), decide=lambda c, s: [], evolve=lambda s, e: s)


def topology_of(*services: Service) -> Topology:
    return Topology("t", {service.name: service for service in services}, Path("nowhere"))


def test_a_name_that_python_or_the_shell_has_already_gets_a_line_below() -> None:
    names = ("class", "list", "client", "query", "topology", "match", "users")
    topology = topology_of(Service("own", aggregates=[aggregate(name) for name in names]))
    found = {part.name for part in parts(topology) if part.what == "aggregate"}
    assert found == {"class_", "list_", "client_", "query_", "topology_", "match_", "users"}


def test_a_shop_has_its_parts_modules_and_commands(shop_topology: Topology) -> None:
    found = {part.name: part for part in parts(shop_topology)}
    assert found["users"].what == "aggregate"
    assert found["users_service"].value.__name__ == "topologies.users"
    assert found["reports"].value.__name__ == "topologies.reports"
    assert found["customers"].what == "projection"
    assert found["customer_countries"].what == "replica"
    assert found["checkout_saga"].what == "saga"
    assert found["RegisterUser"].value(name="a", country="b").name == "a"
    assert found["Stock"].what == "class"
    assert "UserRegistered" not in found, "two services have a class of that name"
    assert found["user_emails"].example == "", "the engine alone sends its commands"


@pytest.mark.parametrize("topology", ["shop", "bank"])
def test_each_example_is_code_that_makes_what_can_be_sent(topology: str, shop_topology: Topology) -> None:
    loaded = {"shop": shop_topology, "bank": BANK}[topology]
    found = parts(loaded)
    names = {**STANDARD, **{part.name: part.value for part in found}}
    commands = Commands(loaded)
    sent = 0
    for part in found:
        if part.example:
            call = ast.parse(part.example, mode="eval").body
            assert isinstance(call, ast.Call)
            assert eval(compile(ast.Expression(call.args[0]), "example", "eval"), dict(names)) is part.value
        if part.example.startswith("client.send("):
            command = eval(compile(ast.Expression(call.args[2]), "example", "eval"), dict(names))
            assert commands.write(part.value.name, "anna", command).value
            sent += 1
    assert sent >= 2


def test_an_example_has_a_value_for_each_type_and_no_class_is_in_its_way() -> None:
    command = example_command(aggregate("paints", Never | Paint))
    assert (command.colour, command.names, command.of) == (Colour.RED, {}, Coin(1))
    assert eval(code_of(command, {}), {**STANDARD, "Paint": Paint, "Colour": Colour, "Coin": Coin}) == command
    assert example_command(aggregate("nevers", Never)) is None
    assert first_calls(topology_of(Service("own", aggregates=[aggregate("nevers", Never)]))) == []


def test_the_first_calls_can_be_pasted() -> None:
    send, query = first_calls(topology_of(Service("own", aggregates=[aggregate("coins")])))
    assert send == """pipeline send coins anna Coin '{"value": 1}'"""
    assert query == "pipeline query coins anna"


def test_the_banner_fits_and_names_all(shop_topology: Topology) -> None:
    found = parts(shop_topology)
    text = banner(shop_topology, found, "127.0.0.1:9092")
    for part in found:
        assert part.name in text or part.what == "class"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "shop" / "deep").mkdir(parents=True)
    (tmp_path / "shop" / "deep" / "users.py").write_text("raise SystemExit('it is not to be imported')")
    (tmp_path / "json.py").write_text("")
    return tmp_path


def test_a_place_is_found_without_an_import(folder: Path) -> None:
    for name, place in (
        ("shop", "shop"),
        ("shop.deep.users", "shop/deep/users.py"),
        ("shop/deep", "shop/deep"),
        ("shop/deep/users.py", "shop/deep/users.py"),
        ("json", "json.py"),
    ):
        assert place_of(name).resolve() == folder / place
    assert place_of("deep", [folder / "shop"]) == folder / "shop" / "deep"
    assert place_of("pipeline.demo.shop").name == "shop.py"
    for name in ("shop.users", "nowhere", "no/where.py", "a b", ""):
        with pytest.raises(TopologyError, match="is here; give a package"):
            place_of(name)
