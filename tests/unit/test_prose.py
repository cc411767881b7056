"""Docstrings say what they are about by themselves: in help() and in a pop-up nothing stands above them."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
TREES = ("pipeline", "topologies", "tests", "benchmarks", "examples")
DOCUMENTED = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
POINTING = re.compile(r"(The same|Ditto|Likewise|See above)\b")


def docstrings(path: Path, kinds: tuple[type[ast.AST], ...] = DOCUMENTED) -> Iterator[tuple[str, str]]:
    """The docstrings of a file, each with where it stands."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, kinds) and (text := ast.get_docstring(node)):
            yield f"{path.relative_to(ROOT)}:{getattr(node, 'lineno', 1)}", text


@pytest.mark.parametrize("tree", TREES)
def test_no_docstring_begins_with_what_stands_elsewhere(tree: str) -> None:
    found = [each for path in sorted((ROOT / tree).glob("**/*.py")) for each in docstrings(path)]
    assert [f"{where}: {text}" for where, text in found if POINTING.match(text)] == []


CONDITION = re.compile(r"\b(None|Raises \w+|\w+Error) where\b")
SAYS_NO_ONE = re.compile(r"\b(nobody|somebody|whoever|wholly|to be had|put aside|but for)\b")
DOING = re.compile(r"[A-Z][a-z]*[^\Ws]s\b")  # "Reads"; "Pass" and "Address" end with two
PLURAL = {"Records", "Versions"}  # begin the help of groups of commands


def said(kinds: tuple[type[ast.AST], ...] = DOCUMENTED) -> list[tuple[str, str]]:
    """The docstrings in pipeline/, each with where it stands."""
    return [each for path in sorted((ROOT / "pipeline").glob("**/*.py")) for each in docstrings(path, kinds)]


def test_a_condition_begins_with_if() -> None:
    assert [f"{where}: {text}" for where, text in said() if CONDITION.search(text)] == []


def test_a_subject_has_a_name() -> None:
    assert [f"{where}: {text}" for where, text in said() if SAYS_NO_ONE.search(text)] == []


def test_a_function_is_told_what_to_do() -> None:
    """Its docstring begins with "Read", not with "Reads"."""
    functions = said((ast.FunctionDef, ast.AsyncFunctionDef))
    found = [(where, text, first[0]) for where, text in functions if (first := DOING.match(text))]
    assert [f"{where}: {text}" for where, text, word in found if word not in PLURAL] == []
