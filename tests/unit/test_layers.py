"""Imports go down the layers, never up and never round; and each client library has its folders."""

from __future__ import annotations

import ast
from functools import cache
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
# Each layer may import those below it. What stands in one line does not know the others there.
LAYERS = (
    ("contrib",),
    ("cli",),
    ("demo", "develop", "scaffold", "backup"),
    ("testing", "rebuild", "export", "explain", "tail", "doctor"),
    ("worker",),
    ("server", "verify"),
    ("client", "broker", "describe"),
    ("adapters",),
    ("process",),
    ("engine",),
    ("flow",),
    ("topology",),
    ("model",),
    ("errors", "drive"),
)
# (importer, imported): why it may, although it goes up or round.
EXCEPTIONS = {
    ("pipeline.errors", "pipeline.model.records.token"): "an error names the type of what it carries",
    ("pipeline.adapters.avro.codec", "pipeline.adapters.avro.schemas.own"): "who follows without a file generates it",
}
LIBRARIES = {
    "confluent_kafka": {
        "adapters",
        "adapters.kafka",
        "adapters.kafka.access",
        "adapters.kafka.exact",
        "adapters.kafka.inspection",
        "adapters.kafka.lag",
        "adapters.kafka.schemas",
        "backup",
        "client",
        "demo",
        "doctor",
        "export",
        "rebuild",
        "tail",
        "verify.sources",
    },
    "faust": {"worker"},
    "rocksdict": {"adapters.rocksdb"},
    "fsspec": {"adapters"},
    "sqlalchemy": {"adapters.sql"},
    "aiohttp": {"client", "server", "server.access", "server.owner", "worker"},
    "httpx": {"client"},
    "opentelemetry": {"adapters.tracing"},
}


def module(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


FILES = {module(path): path for path in sorted(ROOT.glob("pipeline/**/*.py"))}


@cache
def imported(path: Path, *, annotations: bool = True) -> set[str]:
    """What a file imports; `annotations`: for these alone, too. They may name a whole of which the file is a part."""
    found = set()
    tree = ast.parse(path.read_text())
    for node in () if annotations else ast.walk(tree):
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            node.body = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            inner = {f"{node.module}.{alias.name}" for alias in node.names}
            found |= inner & FILES.keys() or {node.module}
    return found


def folder(name: str) -> str:
    """Where a module lies, as far as circles go: one that lies in a layer itself stands for itself."""
    parent = name if FILES[name].name == "__init__.py" else name.rpartition(".")[0]
    return parent if parent.count(".") > 1 else name


def edges(*, annotations: bool) -> set[tuple[str, str]]:
    found = {(name, other) for name, path in FILES.items() for other in imported(path, annotations=annotations)}
    return {(a, b) for a, b in found - EXCEPTIONS.keys() if b in FILES and a.count(".") and b.count(".") and a != b}


RANK = {part: len(LAYERS) - n for n, parts in enumerate(LAYERS) for part in parts}


def circle(found: set[tuple[str, str]]) -> list[str]:
    graph: dict[str, set[str]] = {}
    for importer, other in found:
        if importer != other:
            graph.setdefault(importer, set()).add(other)
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        return list(error.args[1])
    return []


def test_an_import_goes_down() -> None:
    for importer, other in sorted(edges(annotations=True)):
        above, below = importer.split(".")[1], other.split(".")[1]
        assert above in {below, "__main__"} or RANK[above] > RANK[below], f"{importer} imports {other}"


def test_no_import_goes_round() -> None:
    found = edges(annotations=False)
    assert circle(found) == []
    assert circle({(folder(a), folder(b)) for a, b in found}) == []


@pytest.mark.parametrize("library", LIBRARIES)
def test_a_client_library_is_imported_in_its_folders_alone(library: str) -> None:
    users = {name for name, path in FILES.items() if library in {other.split(".")[0] for other in imported(path)}}
    assert {name.removeprefix("pipeline.").rpartition(".")[0] for name in users} == LIBRARIES[library]


def test_no_folder_is_a_heap() -> None:
    for path in {path.parent for path in FILES.values()}:
        assert len([file for file in path.glob("*.py") if file.name != "__init__.py"]) <= 13, path
