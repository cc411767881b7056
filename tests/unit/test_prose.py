"""Docstrings say what they are about by themselves: in help() and in a pop-up nothing stands above them."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
TREES = ("pipeline", "topologies", "tests", "benchmarks")
DOCUMENTED = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
POINTING = re.compile(r"(The same|Ditto|Likewise|See above)\b")


def docstrings(path: Path) -> Iterator[tuple[str, str]]:
    """The docstrings of a file, each with where it stands."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, DOCUMENTED) and (text := ast.get_docstring(node)):
            yield f"{path.relative_to(ROOT)}:{getattr(node, 'lineno', 1)}", text


@pytest.mark.parametrize("tree", TREES)
def test_no_docstring_begins_with_what_stands_elsewhere(tree: str) -> None:
    said = [each for path in sorted((ROOT / tree).glob("**/*.py")) for each in docstrings(path)]
    assert [f"{where}: {text}" for where, text in said if POINTING.match(text)] == []


# Not yet held to it: folders whose prose is still to be gone through.
LATER = ("verify",)
CONDITION = re.compile(r"\b(None|Raises \w+|\w+Error) where\b")


def test_a_condition_begins_with_if() -> None:
    files = [
        path for path in ROOT.glob("pipeline/**/*.py") if path.relative_to(ROOT / "pipeline").parts[0] not in LATER
    ]
    said = [each for path in sorted(files) for each in docstrings(path)]
    assert [f"{where}: {text}" for where, text in said if CONDITION.search(text)] == []
