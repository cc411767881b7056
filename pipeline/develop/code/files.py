"""The files of a project that a topology is made of: those it has loaded, and those that they import later."""

from __future__ import annotations

import ast
import os
import sys
from collections.abc import Iterator, Sequence
from importlib.util import resolve_name
from pathlib import Path

LEFT_OUT = {"__pycache__", "node_modules", "site-packages"}  # folders that are no part of a project
ENGINE = f"{Path(__file__).parents[2]}{os.sep}"


def files_of_topology(project: Sequence[str]) -> set[str]:
    """Return the files of the project that are loaded, or that a loaded one imports within a function, and so on.

    `project`: its directories.
    """
    roots = [root for root in map(os.path.realpath, sys.path) if _is_near(root, project)]
    found: set[str] = set()
    new = {os.path.realpath(file): name for name, module in list(sys.modules.items()) if (file := _file(module))}
    while new := {file: name for file, name in new.items() if file not in found and _is_in(file, project)}:
        found |= new.keys()
        new = {
            later: name
            for file, of in new.items()
            if is_authors(file, project)
            for later, name in _imports(Path(file), of, roots)
        }
    return found


def is_authors(file: str, project: Sequence[str]) -> bool:
    """Return whether a file is in the project, and not of this package: one may develop that, too."""
    return _is_in(file, project) and not file.startswith(ENGINE)


def _imports(path: Path, name: str, roots: Sequence[str]) -> Iterator[tuple[str, str]]:
    """Return the modules that the code of a module imports anywhere: file and name of each that is below a root."""
    try:
        tree = ast.parse(path.read_bytes())
    except (OSError, SyntaxError, ValueError):  # it has been saved anew meanwhile
        return
    package = name if path.name == "__init__.py" else name.rpartition(".")[0]
    names: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and (base := _base(node, package)):
            names |= {base, *(f"{base}.{alias.name}" for alias in node.names)}
    for each in sorted(names):
        for place in (Path(root, *each.split(".")) for root in roots):
            for file in (place.with_name(f"{place.name}.py"), place / "__init__.py"):
                if file.is_file():
                    yield os.path.realpath(file), each


def _base(node: ast.ImportFrom, package: str) -> str | None:
    """Return the module that `from … import` names; None if there is no package that it could be relative to."""
    try:
        return resolve_name("." * node.level + (node.module or ""), package)
    except ImportError:
        return None


def _is_near(root: str, project: Sequence[str]) -> bool:
    """Return whether modules below a root of imports may be in the project."""
    return _is_in(f"{root}/", project) or any(f"{folder}/".startswith(f"{root}/") for folder in project)


def _is_in(file: str, project: Sequence[str]) -> bool:
    """Return whether a file is in the project, and in no environment there."""
    inside = next((file[len(folder) :] for folder in project if file.startswith(f"{folder}/")), None)
    return inside is not None and not any(part.startswith(".") or part in LEFT_OUT for part in Path(inside).parts)


def _file(module: object) -> str | None:
    file = getattr(module, "__file__", None)
    return file if isinstance(file, str) else None
