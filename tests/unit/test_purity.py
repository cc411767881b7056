"""The pure parts stay pure: no client library, no clock, no chance, no I/O, and no service knows another's file."""

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PURE = [*ROOT.glob("pipeline/model/**/*.py"), *ROOT.glob("pipeline/flow/**/*.py"), *ROOT.glob("topologies/*.py")]
OURS = ("pipeline.model", "pipeline.flow", "pipeline.errors")
IMPURE = {"asyncio", "datetime", "io", "logging", "os", "pathlib", "random", "secrets", "socket", "subprocess"}
IMPURE |= {"threading", "time", "uuid", "sqlite3", "urllib", "http", "multiprocessing", "signal"}


def imports(source: str) -> Iterator[str]:
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield node.module or ""


def impurities(path: Path, source: str) -> list[str]:
    found = []
    for name in imports(source):
        top = name.partition(".")[0]
        own = name == "pipeline" if path.parent.name == "topologies" else name.startswith(OURS)
        if not own and (top not in sys.stdlib_module_names or top in IMPURE):
            found.append(name)
    return found


@pytest.mark.parametrize("path", PURE, ids=lambda path: f"{path.parent.name}/{path.name}")
def test_it_imports_nothing_that_touches_the_world(path: Path) -> None:
    assert impurities(path, path.read_text()) == []


@pytest.mark.parametrize(
    "line", ["import time", "from confluent_kafka import Producer", "from topologies.users import User"]
)
def test_an_impure_import_is_noticed(line: str) -> None:
    assert impurities(ROOT / "topologies" / "planted.py", line)


@pytest.mark.parametrize("line", ["from pipeline.adapters.kafka import admin", "import pipeline.engine.loop.lane"])
def test_the_model_may_not_know_what_runs_it(line: str) -> None:
    assert impurities(ROOT / "pipeline" / "model" / "planted.py", line)
