"""A project on disk: where its package, tests and schemas are, and what its services declare."""

from __future__ import annotations

import importlib
import linecache
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType
from typing import Any

from pipeline.adapters.avro.registry import Registry
from pipeline.adapters.avro.schemas.compatibility import breaks
from pipeline.adapters.avro.schemas.files import schema_files
from pipeline.errors import ScaffoldError
from pipeline.model import Aggregate, Service
from pipeline.model.reservation import decide_reservation
from pipeline.topology import Topology, is_path, load

Aggregated = Aggregate[Any, Any, Any]


@dataclass(frozen=True, slots=True)
class Project:
    """`root`: where its pipeline.toml is; `package`: the package of its services; `schemas`: their directory."""

    root: Path
    package: str
    schemas: Path

    @property
    def folder(self) -> Path:
        """Where the modules of the package are. Raises ScaffoldError if it is no package."""
        if is_path(self.package):
            raise ScaffoldError(
                f"the topology {self.package!r} is a path; give the name of a package in {self.root}, as pipeline new "
                "makes it: its modules have to import each other"
            )
        module = self._module(self.package)
        if not hasattr(module, "__path__"):
            raise ScaffoldError(
                f"the topology {self.package!r} is a single module; make it a package: move it to a folder "
                f"{self.package} with an __init__.py"
            )
        return Path(next(iter(module.__path__))).resolve()

    def loaded(self) -> Topology:
        """Load the topology anew, as it is on disk now. Raises TopologyError."""
        self.forget()
        return load(self.package, self.schemas, (self.root,))

    def forget(self) -> None:
        """Have its modules imported anew the next time, from what is on disk then."""
        top = self.package.partition(".")[0]
        for name in [each for each in sys.modules if each == top or each.startswith(f"{top}.")]:
            del sys.modules[name]
        importlib.invalidate_caches()
        linecache.clearcache()

    def modules(self) -> dict[str, ModuleType]:
        """Return the module of each service by the service's name, once the topology is loaded."""
        found = {}
        for name, module in list(sys.modules.items()):
            service = getattr(module, "service", None) if name.rpartition(".")[0] == self.package else None
            if isinstance(service, Service):
                found[service.name] = module
        return found

    def _module(self, name: str) -> ModuleType:
        return sys.modules.get(name) or importlib.import_module(name)


def aggregates_of(service: Service) -> dict[str, Aggregated]:
    """Return the aggregates that a service declares, by name; those of reservations are not its author's."""
    return {each.name: each for each in service.aggregates if each.decide is not decide_reservation}


def make_schemas(project: Project, topology: Topology) -> list[str]:
    """Write the schemas of a topology from its classes, and register them. Return what was done, a line each."""
    said = []
    for each in schema_files(topology.services.values(), topology.schemas):
        if each.differs:
            each.path.parent.mkdir(parents=True, exist_ok=True)
            each.path.write_text(each.text)
            said.append(f"wrote      {shown(each.path, project.root)}")
    topology.schemas.mkdir(exist_ok=True)
    registry = Registry(topology.schemas)
    if any(registry.is_changed(each.topic) for each in breaks(registry)):
        see = f"pipeline schemas check {project.package}"
        said.append(f"schemas    not registered: earlier records could not be read; see: {see}")
    elif registry.register():
        said.append(f"registered {shown(topology.schemas / 'manifest.json', project.root)}")
    return said


def shown(path: Path, root: Path) -> str:
    """Return a path as one in the project's folder would type it."""
    return str(path.relative_to(root)) if path.is_relative_to(root) else str(path)


def write_all(files: Mapping[Path, str]) -> None:
    """Write files; the folders that they need are made."""
    for path, text in files.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8", newline="")


SORTED = ("check", "--select", "I")


def ruff() -> list[str] | None:
    """Return the command that formats a project's code; None if there is none."""
    if find_spec("ruff") is not None:
        return [sys.executable, "-m", "ruff"]
    found = shutil.which("ruff")
    return [found] if found else None


def is_formatted(path: Path) -> bool:
    """Return whether ruff would change nothing in a file; False if there is no ruff."""
    tool = ruff()
    if tool is None:
        return False
    return all(_run([*tool, *words], [path]) for words in (("format", "--check"), SORTED))


def format_files(paths: Sequence[Path]) -> None:
    """Format files and sort their imports, if ruff is there: long names may have made lines too long."""
    tool = ruff()
    if tool is not None and paths:
        _run([*tool, *SORTED, "--fix"], paths)
        _run([*tool, "format"], paths)


def _run(words: Sequence[str], paths: Sequence[Path]) -> bool:
    command = [*words, "--quiet", "--no-cache", *map(str, paths)]
    done = subprocess.run(command, cwd=paths[0].parent, capture_output=True, timeout=60, check=False)
    return done.returncode == 0
