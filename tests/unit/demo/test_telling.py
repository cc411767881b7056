"""What the demo says, on a terminal and off it; an order that cannot be; commands that work as they are printed."""

from __future__ import annotations

import io
import os
import shlex
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import click
import pytest
from rich.console import Console
from rich.text import Text

from pipeline.adapters.avro.registry import Registry
from pipeline.adapters.json.writing import to_json
from pipeline.cli import demo, main
from pipeline.client import Accepted
from pipeline.demo import checkouts
from pipeline.demo.checkouts import Shown
from pipeline.demo.telling.happened import followers_of, show_happened
from pipeline.demo.telling.next_steps import Place, after_end, after_keep, program, show_next
from pipeline.demo.telling.refusal import NUMBER, TooMany, is_undone, place, too_many
from pipeline.demo.telling.voice import INDENT, LINE_S, Voice
from pipeline.errors import PipelineError, UnknownKey
from pipeline.explain.run import tell
from pipeline.explain.show import show_brief
from pipeline.model import Rejected
from pipeline.testing import TestDriver
from pipeline.testing.simulation.judge.history import SimulatedHistory
from pipeline.topology import Topology
from topologies import inventory, users

NOBODY: dict[str, Any] = {}


def console(width: int = 80, *, is_terminal: bool = False) -> Console:
    return Console(file=io.StringIO(), width=width, force_terminal=is_terminal)


def shown_on(console: Console) -> str:
    return console.file.getvalue()  # type: ignore[attr-defined]


# --- the voice --------------------------------------------------------------------------------------------------------


def test_without_a_terminal_there_is_a_line_now_and_then() -> None:
    now = [0.0]
    voice = Voice(out := console(), lambda: now[0])
    with voice.progress("records folded") as move:
        for second in range(21):
            now[0] = float(second)
            move("orders", min(second, 12) * 1_000, 12_000)
            move("users", 500, 1_000)
        now[0] = 100.0  # nothing has moved since
        move("orders", 12_000, 12_000)
    assert shown_on(out).splitlines() == [
        f"{INDENT}{LINE_S:.0f},500 of 13,000 records folded",
        f"{INDENT}10,500 of 13,000 records folded",
        f"{INDENT}12,500 of 13,000 records folded",
    ]


def test_with_a_terminal_bars_come_and_go() -> None:
    voice = Voice(out := console(is_terminal=True))
    with voice.progress("records folded") as move:
        move("orders", 1, 2)
        move("orders", 2, 2)
    text = shown_on(out)
    assert "orders" in text
    assert "records folded" not in text
    assert text.endswith("\x1b[2K") or text.rstrip().endswith("\x1b[?25h") or "\x1b[?25h" in text


def test_a_terminal_that_can_do_nothing_gets_plain_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "dumb")
    voice = Voice(out := console(is_terminal=True))
    with voice.waiting("starting a local Kafka …"), voice.progress("commands sent") as move:
        move("commands", 1, 2)
    assert "\x1b[?25" not in shown_on(out)


@pytest.mark.parametrize("width", [30, 80, 200])
def test_a_step_fits_its_console(width: int) -> None:
    voice = Voice(out := console(width))
    voice.step("A worker starts 7 services: " + ", ".join(["checkout_saga"] * 7), "Each could run alone. " * 6)
    lines = shown_on(out).splitlines()
    assert lines[0].startswith("1/6  A worker starts")
    assert max(map(len, lines)) <= min(width, 80)
    assert all(line.startswith(INDENT) for line in lines[1:])


# --- who decided, and who follows -------------------------------------------------------------------------------------


def test_who_follows_whom_is_as_declared(shop_topology: Topology) -> None:
    assert list(followers_of(shop_topology, "users.event")) == ["orders (its own copy)", "reports"]
    assert set(followers_of(shop_topology, "orders.event")) == {
        *("checkout_2pc", "checkout_saga", "inventory", "payments", "reports")
    }
    out = console(60)
    show_happened(out, shop_topology, Counter({"users.command": 1_234, "users.event": 1_233, "orders.command": 5}))
    text = shown_on(out)
    assert "1,234" in text
    assert "1,233" in text
    assert "payments" in text  # follows orders; has decided nothing itself
    assert len([line for line in text.splitlines() if line.startswith("│ payments")]) == 0
    assert max(map(len, text.splitlines())) <= 60


# --- an order that cannot be ------------------------------------------------------------------------------------------


def stock(**units: int) -> dict[str, Any]:
    return {code: {"on_hand": n, "registered": True} for code, n in units.items()}


BOUGHT = {"1": {"customer": "anna", "country": "France"}}


@pytest.mark.parametrize(
    ("have", "expected"),
    [
        (stock(A=0, B=3, C=7), TooMany("anna", "France", "B", "A", 1)),
        (stock(A=5, B=3), TooMany("anna", "France", "A", "B", 4)),
        (stock(A=0, B=0), TooMany("anna", "France", None, "A", 1)),
        (stock(A=2), TooMany("anna", "France", None, "A", 3)),
        ({}, None),
    ],
)
def test_the_order_wants_one_more_than_there_is(have: dict[str, Any], expected: TooMany | None) -> None:
    assert too_many(Shown(BOUGHT, have, {}, Counter())) == expected
    assert too_many(Shown({}, have, {}, Counter())) is None


class World:
    """What a client and a query client answer, from a simulated world."""

    def __init__(self, driver: TestDriver) -> None:
        self.driver = driver

    def send(self, aggregate: str, key: str, command: object, wait: float) -> object:
        self.driver.send_unseen(aggregate, key, command)
        return Accepted(1, (), None)  # type: ignore[arg-type]

    def get(self, table: str, key: str) -> dict[str, Any]:
        row = self.driver.row(table, key)
        if row is None:
            raise UnknownKey(key)
        return {"row": to_json(row.body)}

    def scan(self, table: str) -> list[dict[str, Any]]:
        return [{"key": key, "row": to_json(row.body)} for key, row in self.driver.rows(table).items()]


@pytest.mark.parametrize("way", ["saga", "2pc"])
def test_the_order_is_refused_and_undone_and_its_records_tell_it(shop_topology: Topology, way: str) -> None:
    with TestDriver(shop_topology) as driver:
        for code, units in (("LAMP", 10), ("TEA", 1)):
            driver.send("inventory", code, inventory.RegisterProduct(code), inventory.ReceiveStock(units))
        driver.send("users", "anna", users.RegisterUser("Anna", "France"))
        world: Any = World(driver)
        order = too_many(checkouts.Shown(BOUGHT, {r["key"]: r["row"] for r in world.scan("inventory")}, {}, Counter()))
        assert order == TooMany("anna", "France", "LAMP", "TEA", 2)
        assert not is_undone(world, order)
        place(world, order, way)
        driver.advance(10)
        assert is_undone(world, order)
        assert driver.row("inventory", "LAMP").body.reserved == 0
        story = tell(SimulatedHistory(driver._world), shop_topology, Registry(shop_topology.schemas), "orders", NUMBER)
    out = console(80)
    show_brief(out, story)
    lines = [" ".join(line.split()) for line in shown_on(out).splitlines()]
    assert any("inventory ReserveStock TEA REFUSED: out_of_stock" in line for line in lines)
    assert any("inventory ReleaseStock LAMP (an undoing) StockReleased" in line for line in lines)
    assert any("orders RefuseOrder too-many (an undoing) OrderRefused" in line for line in lines)
    assert max(map(len, shown_on(out).splitlines())) <= 80


@pytest.mark.parametrize(
    ("status", "held_in", "done"),
    [("refused", None, True), ("placed", None, False), ("refused", "LAMP", False), ("refused", NUMBER, False)],
)
def test_an_order_is_undone_once_nothing_is_held_for_it(status: str, held_in: str | None, *, done: bool) -> None:
    class Rows:
        def get(self, _: str, key: str) -> dict[str, Any]:
            return {"row": {"status": status, "ledger": {"holds": [{}] if key == held_in else []}}}

    rows: Any = Rows()
    assert is_undone(rows, TooMany("anna", "France", "LAMP", "TEA", 1)) is done


def test_an_order_that_is_not_taken_down_is_an_error() -> None:
    class Refuses:
        def send(self, *_: Any, **__: Any) -> Rejected:
            return Rejected("already_entered")

    client: Any = Refuses()
    with pytest.raises(PipelineError, match=r"the order too-many was not taken down: .*already_entered"):
        place(client, TooMany("anna", "France", None, "A", 1), "saga")


# --- what to type next ------------------------------------------------------------------------------------------------


RESULT = {"units_sold": {"A B": 9, "LAMP": 5}, "stock": {"A B": 1, "LAMP": 2, "TEA": 3}}


def test_a_program_that_the_shell_finds_is_typed_by_its_name_and_any_other_by_its_path(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ours, other = tmp_path / "my venv" / "bin", tmp_path / "other"
    for folder in (ours, other):
        folder.mkdir(parents=True)
        (folder / "pipeline").write_text("#!/bin/sh\n")
        (folder / "pipeline").chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(ours / "python"))
    monkeypatch.setenv("PATH", f"{ours}{os.pathsep}{other}")
    assert program() == "pipeline"
    monkeypatch.setenv("PATH", f"{other}{os.pathsep}{ours}")
    assert shlex.split(program()) == [f"{ours}/pipeline"]
    monkeypatch.chdir(tmp_path)
    assert program() == "'my venv/bin/pipeline'"
    (ours / "pipeline").unlink()
    monkeypatch.setenv("PATH", "")
    assert shlex.split(program()) == ["my venv/bin/python", "-m", "pipeline"]


def parsed(line: str) -> list[str]:
    """The words behind `pipeline`, once its parser has taken them; what is not so is an error."""
    words = shlex.split(line)
    words = words[words.index(next(word for word in words if Path(word).name == "pipeline")) + 1 :]
    found, rest = main.get_command(click.Context(main), words[0]), words[1:]
    while isinstance(found, click.Group):
        found = found.get_command(click.Context(found), rest.pop(0))
    assert found is not None
    found.make_context(words[0], rest)
    return words


@pytest.mark.parametrize("bootstrap", [None, "localhost:9092"])
@pytest.mark.parametrize("kept", [True, False])
def test_three_commands_come_next_each_on_a_line_of_its_own(bootstrap: str | None, *, kept: bool) -> None:
    given = " --input 'my invoices.csv' --stock-ratio 0.7" + (f" --bootstrap {bootstrap}" if bootstrap else "")
    spot = Place(Path.cwd() / ".pipeline" / "demo", bootstrap, "env -u PIPELINE_TOPOLOGY ", given)
    steps = after_keep(spot, RESULT, NUMBER) if kept else after_end(spot, NUMBER, explained=False)
    out = console(20, is_terminal=True)
    show_next(out, steps, spot, kept=kept)
    lines = Text.from_ansi(shown_on(out)).plain.splitlines()
    typed = [parsed(line) for line in lines if line.startswith("    ") and line[4] != " "]
    again = shlex.split(given)
    where = ["--bootstrap", "localhost:9092"] if bootstrap else ["--home", ".pipeline/demo"]
    if kept:
        assert typed == [
            ["query", "inventory", "LAMP", *where],  # the one that sells best and needs no quotes
            ["send", "inventory", "LAMP", "ReceiveStock", '{"quantity": 12}', *where],
            ["explain", "orders", NUMBER, *where],
            ["demo", "--stop", "--home", ".pipeline/demo"],
        ]
    elif bootstrap:
        assert typed == [
            ["explain", "orders", NUMBER, *where],
            ["demo", "--keep", *again, "--fresh"],
            ["new", "my-shop"],
        ]
    else:
        assert typed == [["demo", "--explain", *again], ["demo", "--keep", *again], ["new", "my-shop"]]
        last = [parsed(step.command) for step in after_end(spot, NUMBER, explained=True)]
        assert last == [*typed[1:], ["docs", "graph", "topologies"]]


def test_the_next_demo_has_the_options_of_this_one() -> None:
    words = [
        "--input",
        "a b.csv",
        "--stock-ratio",
        ".7",
        "--credit-limit",
        "2000.005",
        "--keep",
        "--json",
        "--processes",
        "2",
    ]
    context = demo.command.make_context("demo", [*words, "--feed-first", "--explain"])
    assert shlex.split(demo._given(context)) == [
        *(
            "--input",
            "a b.csv",
            "--stock-ratio",
            "0.7",
            "--credit-limit",
            "2000.005",
            "--processes",
            "2",
            "--feed-first",
        )
    ]
