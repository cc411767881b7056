"""Tables whose functions have changed are told, once, if they hold something and keep their version."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest

from pipeline.develop.code.kept import FILE, Folded, Kept, kept_tables
from pipeline.topology import load
from tests.helpers.till import TILL, write_till

TURNOVER = """
from pipeline import Projection


@dataclass(frozen=True, slots=True)
class Turnover:
    amount: int = 0


def add(row, event):
    return Turnover(row.amount + event.amount)


turnover = Projection("turnover", [tills.events], Turnover(), add, version=1)
service = Service("tills", aggregates=[tills], projections=[turnover])
"""
Tables = Callable[..., list[Kept]]


@pytest.fixture
def tables(tmp_path: Path) -> Iterator[Tables]:
    """Save the topology with texts replaced, and return its tables."""
    file = write_till(tmp_path / "project")

    def saved(*changes: tuple[str, str]) -> list[Kept]:
        text = TILL + TURNOVER
        for before, after in changes:
            assert before in text
            text = text.replace(before, after)
        file.write_text(text)
        sys.modules.pop("tills", None)
        importlib.invalidate_caches()
        return kept_tables(load(str(file)), [str((tmp_path / "project").resolve())])

    yield saved
    sys.modules.pop("tills", None)


def full(topics: Sequence[str]) -> dict[str, bool]:
    return dict.fromkeys(topics, True)


def named(found: Sequence[Kept]) -> list[tuple[str, str, int]]:
    return [(each.kind, each.name, each.number) for each in found]


ROW = ("row.amount + event.amount", "row.amount - event.amount")
STATE = ("till.holds + event.amount", "till.holds - event.amount")
RULE = ("amount <= till.holds", "amount < till.holds")
INITIAL = ("Turnover()", "Turnover(5)")


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ([], []),
        ([RULE], []),
        ([ROW], [("projection", "turnover", 1)]),
        ([INITIAL], [("projection", "turnover", 1)]),
        ([STATE], [("aggregate", "tills", 1)]),
        ([ROW, ("version=1", "version=2")], []),
        ([STATE, ("evolve=evolve", "evolve=evolve, revision=2")], []),
        ([ROW, STATE], [("aggregate", "tills", 1), ("projection", "turnover", 1)]),
    ],
)
def test_what_is_told_of_a_change(
    tables: Tables, tmp_path: Path, changes: list[tuple[str, str]], told: list[tuple[str, str, int]]
) -> None:
    Folded(tmp_path, "local").note(tables())
    now = tables(*changes)
    assert named(Folded(tmp_path, "local").changed(now, full)) == told
    Folded(tmp_path, "local").note(now)
    assert Folded(tmp_path, "local").changed(now, full) == []


def test_a_table_that_holds_nothing_is_not_told(tables: Tables, tmp_path: Path) -> None:
    Folded(tmp_path, "local").note(tables())
    asked: list[str] = []

    def empty(topics: Sequence[str]) -> dict[str, bool]:
        asked.extend(topics)
        return dict.fromkeys(topics, False)

    assert Folded(tmp_path, "local").changed(tables(ROW, STATE), empty) == []
    assert asked == ["tills.state", "turnover.row"]


def test_another_kafka_or_a_file_that_is_none_says_nothing(tables: Tables, tmp_path: Path) -> None:
    Folded(tmp_path, "local").note(tables())
    assert Folded(tmp_path, "other:9092").changed(tables(ROW), full) == []
    for text in ("{", "[]", "{}", '{"of": 1}'):
        (tmp_path / FILE).write_text(text)
        assert Folded(tmp_path, "local").changed(tables(ROW), full) == []
