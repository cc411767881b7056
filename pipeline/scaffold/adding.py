"""`pipeline add`: one more part of a project, with its test, wired into its service."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType

from pipeline.errors import PipelineError, ScaffoldError
from pipeline.model import Service
from pipeline.scaffold.editing import Module
from pipeline.scaffold.names import check_part
from pipeline.scaffold.parts import service_module
from pipeline.scaffold.project import Project, format_files, is_formatted, make_schemas, shown, write_all


@dataclass(frozen=True, slots=True)
class Part:
    """What is added to a service. `lists`: which list of the service has it, under which name.

    `imports`: what its block needs of `pipeline`; `others`: of other modules.
    """

    block: str
    imports: tuple[str, ...]
    lists: tuple[str, str]
    test: str
    others: Mapping[str, Collection[str]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Added:
    """What was written, a line each, and the service that has it."""

    lines: tuple[str, ...]
    service: str
    test: str


@dataclass
class Adding:
    """One addition: what is known of the project before it, and the files that it writes."""

    project: Project
    services: dict[str, Service] = field(init=False)
    modules: dict[str, ModuleType] = field(init=False)
    folder: Path = field(init=False)

    def __post_init__(self) -> None:
        topology = self.project.loaded()
        self.services, self.folder = topology.services, self.project.folder
        self.modules = self.project.modules()
        self._tables = {name: each.name for each in self.services.values() for name in _named(each)}

    def check_name(self, kind: str, name: str) -> None:
        """Raise ScaffoldError if a part cannot be named so, or is there already."""
        check_part(kind, name)
        if name in self._tables:
            raise ScaffoldError(
                f"{name!r} is there already, in the service {self._tables[name]!r}; choose another name; nothing was "
                "written"
            )

    def service(self, name: str) -> Service:
        """Return a service of the project. Raises ScaffoldError."""
        if name not in self.services:
            raise ScaffoldError(
                f"there is no service {name!r}; there are {', '.join(sorted(self.services))}; add it with: "
                f"pipeline add service {name}"
            )
        return self.services[name]

    def module(self, service: str) -> tuple[str, Module]:
        """Return the last part of the name of a service's module, and its source. Raises ScaffoldError."""
        module = self.modules[service]
        path = Path(module.__file__ or "")
        if path.name == "__init__.py":
            raise ScaffoldError(f"the service {service!r} is a package, {path.parent}; add to it by hand")
        return module.__name__.rpartition(".")[2], Module(path.read_bytes().decode(), shown(path, self.project.root))

    def new_file(self, name: str) -> Path:
        """Return the path of a new module of the package. Raises ScaffoldError if it is there."""
        return self._new(self.folder / f"{name}.py")

    def new_test(self, name: str) -> Path:
        """Return the path of a new file of tests. Raises ScaffoldError if it is there."""
        return self._new(self.project.root / "tests" / f"test_{name}.py")

    def _new(self, path: Path) -> Path:
        if path.exists():
            where = shown(path, self.project.root)
            raise ScaffoldError(f"{where} is there already; choose another name, or move it; nothing was written")
        return path

    def into(self, service: str, name: str, part: Part) -> Added:
        """Add a part to a service: to its module, or to a new one if there is no such service."""
        files = {self.new_test(name): part.test}
        if service in self.services:
            _, module = self.module(service)
            self._check_free(module, part)
            edited = module.with_block(part.block).with_part(*part.lists)
            edited = edited.importing("dataclasses", ["dataclass"]).importing("pipeline", part.imports)
            path = Path(self.modules[service].__file__ or "")
        else:
            check_part("service", service)
            imports = sorted({*part.imports, "Service"})
            lists = f"{part.lists[0]}=[{part.lists[1]}]"
            path = self.new_file(service)
            edited = Module(service_module(service, f"The {service} service.", part.block, imports, lists), path.name)
        for module_of, names in part.others.items():
            edited = edited.importing(module_of, names)
        files[path] = edited.source
        return self.write(files, service)

    def _check_free(self, module: Module, part: Part) -> None:
        new = Module(part.block, "block").names()
        if taken := sorted(new & module.names()):
            raise ScaffoldError(
                f"{module.where} has a name {taken[0]} already, and the new part would have it, too; choose another "
                "name, or put it into a service of its own with --service NEW; nothing was written"
            )

    def write(self, files: Mapping[Path, str], service: str) -> Added:
        """Write files, format them, make the schemas. If the project does not load then, all is as it was before."""
        before = {path: path.read_bytes() if path.exists() else None for path in files}
        tidy = [path for path in files if path.suffix == ".py" and (not path.exists() or is_formatted(path))]
        kept = _contents(self.project.schemas)
        try:
            write_all(files)
            format_files(tidy)
            said = make_schemas(self.project, self.project.loaded())
        except BaseException as error:
            _restore({**dict.fromkeys(_contents(self.project.schemas)), **kept, **before})
            if isinstance(error, PipelineError):
                raise ScaffoldError(f"{error}; so nothing was written") from error
            raise
        root = self.project.root
        lines = [f"{'wrote     ' if before[path] is None else 'changed   '} {shown(path, root)}" for path in files]
        test = next(shown(path, root) for path in files if path.name.startswith("test_"))
        return Added((*sorted(lines, reverse=True), *said), service, test)


def _named(service: Service) -> Sequence[str]:
    """Return the names that a service has taken: its own, and those of its tables and reactions."""
    return [
        service.name,
        *service.tables(),
        *(each.name for each in service.replicas),
        *(each.name for each in service.reactions),
    ]


def _contents(folder: Path) -> dict[Path, bytes | None]:
    return {path: path.read_bytes() for path in folder.glob("*") if path.is_file()}


def _restore(before: Mapping[Path, bytes | None]) -> None:
    for path, data in before.items():
        if data is None:
            path.unlink(missing_ok=True)
        else:
            path.write_bytes(data)
