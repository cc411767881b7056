"""Edits of a service's module: what is added, and that all else stays as it was."""

from __future__ import annotations

import difflib

import pytest

from pipeline.errors import ScaffoldError
from pipeline.scaffold.editing import Module, NotEditable

HEAD = "from dataclasses import dataclass\n\nfrom pipeline import Aggregate, Service  # ours\n\nnäme = 'ü'\n"


def module(source: str) -> Module:
    return Module(source, "shop/rooms.py")


def added(before: str, after: str) -> list[str]:
    """The lines that differ: + and -."""
    lines = difflib.ndiff(before.splitlines(), after.splitlines())
    return [line for line in lines if line.startswith(("+", "-"))]


@pytest.mark.parametrize(
    ("declared", "edited"),
    [
        ('Service("a", projections=[x])', 'Service("a", projections=[x, new])'),
        ('Service("a", projections=[x,])', 'Service("a", projections=[x, new,])'),
        ('Service("a", projections=(x,))', 'Service("a", projections=(x, new,))'),
        ('Service("a", projections=[])', 'Service("a", projections=[new])'),
        ('Service("a", projections=())', 'Service("a", projections=[new])'),
        ('Service("a")', 'Service("a", projections=[new])'),
        ('Service("ä", aggregates=[ü])', 'Service("ä", aggregates=[ü], projections=[new])'),
        (
            'pipeline.Service("a",\n  aggregates=[b],  # c\n)',
            'pipeline.Service("a",\n  aggregates=[b], projections=[new],  # c\n)',
        ),
    ],
)
def test_a_part_is_added_to_the_list(declared: str, edited: str) -> None:
    assert (
        module(f"{HEAD}service = {declared}\n").with_part("projections", "new").source == f"{HEAD}service = {edited}\n"
    )


@pytest.mark.parametrize(
    "statement",
    [
        "service = make()",
        "service = Service('a', projections=ALL)",
        "service = Service('a', projections=[*ALL] + more)",
        "service = Service('a', **parts)",
        "service = Service('a', [b])",
        "if True:\n    service = Service('a')",
        "service = Service('a')\nservice = Service('b')",
        "other = 1",
    ],
)
def test_what_cannot_be_edited_safely_is_refused_with_the_line_to_add(statement: str) -> None:
    with pytest.raises(NotEditable, match=r"shop/rooms\.py cannot be edited safely") as refused:
        module(f"{statement}\n").with_part("projections", "new")
    assert refused.value.line in ("projections=[new]", "projections=[..., new]")


def test_a_block_goes_before_the_comment_above_the_service() -> None:
    source = f"{HEAD}\n# --- service ---\n\nservice = Service('a')\n"
    assert (
        module(source).with_block("NEW = 1\n\n").source
        == f"{HEAD}\nNEW = 1\n\n# --- service ---\n\nservice = Service('a')\n"
    )


def test_imports_are_merged_into_the_line_that_is_there() -> None:
    source = "from pipeline import Rejected, linear_saga\nservice = Service('a')\n"
    found = module(source).importing("pipeline", ["Aggregate", "Rejected"]).source
    assert added(source, found) == [
        "- from pipeline import Rejected, linear_saga",
        "+ from pipeline import Aggregate, Rejected, linear_saga",
    ]
    assert module(found).importing("pipeline", ["Aggregate"]).source == found


@pytest.mark.parametrize(
    "source",
    ["import os\nx = 1\n", '"""Doc."""\nx = 1\n', "x = 1\n", "from pipeline import (  # why\n    A,\n)\nx = 1\n"],
)
def test_an_import_is_added_where_none_can_be_merged_and_nothing_else_changes(source: str) -> None:
    found = module(source).importing("pipeline", ["Send"]).source
    assert [line for line in added(source, found) if line != "+ "] == ["+ from pipeline import Send"]
    assert "Send" in module(found).names()


def test_line_ends_stay() -> None:
    found = module("from pipeline import A\r\nservice = Service('a')\r\n").with_block("x = 1\ny = 2\n")
    assert found.source == "from pipeline import A\r\nx = 1\r\ny = 2\r\nservice = Service('a')\r\n"


def test_a_module_that_is_no_python_says_where() -> None:
    with pytest.raises(ScaffoldError, match=r"shop/rooms\.py line 2: .*; correct it first"):
        module("x = 1\ndef (\n").with_part("projections", "new")
