"""What a function is: told from its code and from the project's code that it calls, however it is laid out."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pipeline.develop.code.functions import digest

FOLD = '''
import math
from functools import partial
import counting
from counting import Money, RATE

STEP = 1
LIMITS = {"a": (1, {2, 3})}


def more(row, by):
    return row + by * STEP


def fold(row, event):
    """Count."""
    total = more(row, event)
    if total in {5, 6, 7}:
        return None
    extra = [each + counting.extra(each) for each in range(total)]
    return total + sum(extra) + RATE + Money(total).cents() + LIMITS["a"][0] + math.floor(1.5)


def over(limit):
    def inner(row, event):
        return row + min(limit, event)
    return inner


limited, again = over(3), partial(more, by=2)
short = lambda row, event: row + event
'''
COUNTING = """
from dataclasses import dataclass

RATE = 7


@dataclass(frozen=True)
class Money:
    amount: int = 0

    def cents(self):
        return self.amount * 100


def extra(each):
    return deeper(each)


def deeper(each):
    return each // 2
"""
NAMES = ("fold", "limited", "again", "short")


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.syspath_prepend(str(tmp_path))
    yield tmp_path
    for name in ("folding", "counting"):
        sys.modules.pop(name, None)


def digests(project: Path, fold: str = FOLD, counting: str = COUNTING) -> dict[str, str]:
    """Save both, and tell the functions."""
    for name, text in (("folding", fold), ("counting", counting)):
        (project / f"{name}.py").write_text(text)
        sys.modules.pop(name, None)
    importlib.invalidate_caches()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "dont_write_bytecode", True)
        module: Any = importlib.import_module("folding")
    return {name: digest([str(project.resolve())], getattr(module, name)) for name in NAMES}


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("import math\n", "# more lines\n\n\nimport math\n"),
        ('"""Count."""', '"""Count all of them, one by one."""'),
        ('    """Count."""\n', ""),
        ("total = more(row, event)", "total = more(row, event)  # of all"),
        ("total", "whole"),
        ("def over(limit)", "def unused():\n    return 1\n\n\ndef over(limit)"),
        ("{5, 6, 7}", "{7, 5, 6}"),
    ],
)
def test_what_makes_no_difference(project: Path, before: str, after: str) -> None:
    assert before in FOLD
    assert digests(project, FOLD.replace(before, after)) == digests(project)


@pytest.mark.parametrize(
    ("before", "after", "differ"),
    [
        ("range(total)", "range(total + 1)", {"fold"}),
        ("by * STEP", "by * STEP * 2", {"fold", "again"}),
        ("STEP = 1", "STEP = 2", {"fold", "again"}),
        ("(1, {2, 3})", "(1, {2, 4})", {"fold"}),
        ("over(3)", "over(4)", {"limited"}),
        ("by=2", "by=3", {"again"}),
        ("row, event: row + event", "row, event: row - event", {"short"}),
        ("min(limit", "max(limit", {"limited"}),
        ("math.floor", "math.ceil", {"fold"}),
        ("if total in", "if total not in", {"fold"}),
    ],
)
def test_what_makes_one(project: Path, before: str, after: str, differ: set[str]) -> None:
    assert before in FOLD
    first, second = digests(project), digests(project, FOLD.replace(before, after))
    assert {name for name in NAMES if first[name] != second[name]} == differ


@pytest.mark.parametrize(
    ("before", "after", "makes_one"),
    [
        ("each // 2", "each // 3", True),
        ("RATE = 7", "RATE = 8", True),
        ("self.amount * 100", "self.amount * 10", True),
        ("amount: int = 0", "amount: int = 0\n    currency: str = ''", False),  # schemas are held against fields
        ("RATE = 7", "RATE = 7\nOTHER = 8", False),
    ],
)
def test_what_it_calls_elsewhere_counts(project: Path, before: str, after: str, makes_one: bool) -> None:
    assert before in COUNTING
    first, second = digests(project), digests(project, counting=COUNTING.replace(before, after))
    assert (first["fold"] != second["fold"]) == makes_one
    assert all(first[name] == second[name] for name in NAMES if name != "fold")


def test_a_function_that_calls_itself_has_an_end(project: Path) -> None:
    text = FOLD.replace("row + by * STEP", "more(row, by - 1) if by else row")
    assert digests(project, text)["again"] == digests(project, text)["again"]
