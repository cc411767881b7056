"""Loads a topology: the services that a package, module or file declares, each as a module-level `service`.

A module-level `invariants` lists what must be true of several of them together.
"""

from __future__ import annotations

import importlib
import importlib.util
import inspect
import pkgutil
import sys
import sysconfig
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import ModuleType
from typing import Any

from pipeline.errors import NoDeadlines, NoHistory, PipelineError, TopologyError, UnknownTable
from pipeline.model import Aggregate, Invariant, Saga, Service
from pipeline.model.ownership import check_followers, check_ownership
from pipeline.model.projection.versions import versioned_name
from pipeline.model.projection_versions import ProjectionVersions, split_versions, versions_of


@dataclass(frozen=True, slots=True)
class Topology:
    """Services by name, and the directory of the schemas that they share.

    `names`: names of topics and consumer groups on this cluster that differ from the declared ones, such as
    `{"accounts.command": "bank.accounts.in", "accounts": "bank-group"}`. Schemas keep the declared names. `invariants`:
    what must be true of their tables together. Raises TopologyError if one needs a table that no service keeps. `docs`:
    what the modules of the services say of them.

    A later version of a projection is among the services as one of its own; see model.projection_versions.
    """

    name: str
    services: dict[str, Service]
    schemas: Path
    names: Mapping[str, str] = field(default_factory=dict)
    invariants: tuple[Invariant, ...] = ()
    docs: Mapping[str, str] = field(default_factory=dict)
    versions: ProjectionVersions = field(init=False, repr=False)  # projections that have later versions than the first
    _tables: Mapping[str, str] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "services", split_versions(self.services))
        check_ownership(self.services.values())
        check_followers(self.services.values())
        object.__setattr__(self, "versions", versions_of(self.services.values()))
        called = {name: versions[min(versions)] for name, versions in self.versions.items()}
        called |= {versioned_name(name, 1): versions[1] for name, versions in self.versions.items() if 1 in versions}
        object.__setattr__(self, "_tables", called)
        kept = {table for service in self.services.values() for table in service.tables()}
        for invariant in self.invariants:
            if unknown := [table for table in invariant.tables if table not in kept]:
                raise TopologyError(
                    f"the invariant {invariant.name!r} needs the table {unknown[0]!r}, which is no aggregate, saga or "
                    f"projection of {self.name}; it has {', '.join(sorted(kept))}"
                )

    def chosen(self, names: tuple[str, ...]) -> list[Service]:
        """Return the services of those names, with later versions of their projections; all if none is named.

        Raises TopologyError for an unknown name.
        """
        known = {*self.services, *(service.part_of for service in self.services.values())}
        if unknown := [name for name in names if name not in known]:
            raise TopologyError(f"no service {unknown[0]!r} in {self.name}; it has {', '.join(sorted(self.services))}")
        chosen = {name for name, s in self.services.items() if not names or name in names or s.part_of in names}
        return [self.services[name] for name in sorted(chosen)]

    def table(self, name: str) -> str:
        """Return the table that `name` means: `x_v1` is the first version of x, and x the oldest version declared."""
        return self._tables.get(name, name)

    def is_fixed(self, name: str) -> bool:
        """Return whether `name` always means the same table, whichever version readers get."""
        return name not in self._tables

    def versioned_name(self, table: str) -> str:
        """Return the name that reads exactly that table, whichever version readers get."""
        return versioned_name(table, 1) if 1 in self.versions.get(table, ()) else table

    def only(self, *names: str) -> Topology:
        """Return a topology of only these services, with the invariants over their tables. Raises TopologyError."""
        services = {service.name: service for service in self.chosen(names)}
        kept = {table for service in services.values() for table in service.tables()}
        fitting = tuple(invariant for invariant in self.invariants if kept.issuperset(invariant.tables))
        return replace(self, services=services, invariants=fitting)

    def service_of(self, table: str) -> Service:
        """Return the service that keeps `table`. Raises UnknownTable."""
        table = self.table(table)
        known = []
        for service in self.services.values():
            tables = [*service.tables(), *(replica.name for replica in service.replicas)]
            if table in tables:
                return service
            known += tables
        raise UnknownTable(f"no table {table!r} in {self.name}; it has {', '.join(sorted(known))}")

    def indexes(self, table: str) -> Mapping[str, Callable[[Any], str | None]]:
        """Return the indexes of a table, by name. Raises UnknownTable."""
        projections = {projection.name: projection for projection in self.service_of(table).projections}
        table = self.table(table)
        return projections[table].indexes if table in projections else {}

    @property
    def sagas(self) -> dict[str, Saga[Any]]:
        """All sagas, by name."""
        return {saga.name: saga for service in self.services.values() for saga in service.sagas}

    def saga(self, name: str) -> Saga[Any]:
        """Return the saga of that name. Raises UnknownTable."""
        if name not in self.sagas:
            raise UnknownTable(f"no saga {name!r} in {self.name}; it has {', '.join(sorted(self.sagas)) or 'none'}")
        return self.sagas[name]

    def with_history(self, name: str) -> Aggregate[Any, Any, Any]:
        """Return the aggregate of that name if it keeps its history. Raises UnknownTable, NoHistory."""
        return self._declared(name, "history", NoHistory)

    def with_deadlines(self, name: str) -> Aggregate[Any, Any, Any]:
        """Return the aggregate of that name if it takes deadlines. Raises UnknownTable, NoDeadlines."""
        return self._declared(name, "deadlines", NoDeadlines)

    def _declared(self, name: str, what: str, error: type[PipelineError]) -> Aggregate[Any, Any, Any]:
        aggregate = next((each for each in self.service_of(name).owned if each.name == name), None)
        if aggregate is None:
            raise error(f"{name!r} is no aggregate, so it has no {what} of its own; its sources may have")
        if not getattr(aggregate, what):
            raise error(f"the aggregate {name!r} has no {what}; declare it with {what}=True")
        return aggregate


def check_topology(given: object) -> None:
    """Raise TopologyError for what is not a topology, such as its name."""
    if not isinstance(given, Topology):
        raise TopologyError(f"{given!r:.100} is no topology; give what load_topology(…) returns")


def load(name: str, schemas: Path | None = None, roots: Sequence[Path] = ()) -> Topology:
    """Load the topology `name`: an importable package or module, or a path to a .py file or a directory of them.

    `schemas`: default is the directory `schemas` beside the package, or beside a single module's package. `roots`:
    where a package or module is looked for before all other places; default is the current directory.
    """
    modules, home = _modules(name, roots)
    services: dict[str, Service] = {}
    invariants: list[Invariant] = []
    docs: dict[str, str] = {}
    for module in modules:
        invariants += _invariants(module)
        service = getattr(module, "service", None)
        if service is None:
            continue
        if not isinstance(service, Service):
            raise TopologyError(
                f"{module.__name__}.service is {type(service).__name__}, not a pipeline.Service; correct it"
            )
        if service.name in services:
            raise TopologyError(f"two modules of {name} declare a service named {service.name!r}; rename one")
        services[service.name] = service
        docs[service.name] = inspect.cleandoc(module.__doc__ or "")
    if not services:
        raise TopologyError(f"{name} declares no service; a module does so with: service = Service(...)")
    return Topology(name, services, schemas or home / "schemas", invariants=tuple(invariants), docs=docs)


def _invariants(module: ModuleType) -> Sequence[Invariant]:
    declared: Any = getattr(module, "invariants", ())
    if not (isinstance(declared, Sequence) and all(isinstance(each, Invariant) for each in declared)):
        raise TopologyError(f"{module.__name__}.invariants is no list of pipeline.Invariant; correct it")
    return declared


OURS = f"{Path(__file__).parent}/"
INSTALLED = tuple(f"{sysconfig.get_path(name)}/" for name in ("stdlib", "platstdlib", "purelib", "platlib"))
GIVE = "give a package, a module, or the path of a .py file or of a directory of them"


def is_path(name: str) -> bool:
    """Return whether a topology is named by its path, rather than as a package or module."""
    return name.endswith(".py") or "/" in name or name in (".", "..")


def _modules(name: str, roots: Sequence[Path]) -> tuple[list[ModuleType], Path]:
    """Return the modules of a topology, and the directory in which its schemas are expected."""
    if not isinstance(name, str):
        raise TopologyError(f"{name!r:.100} does not name a topology; {GIVE}")
    path = Path(name)
    with _loaded(name):
        if is_path(name):
            if not path.exists():
                raise TopologyError(f"no topology at {name}; {GIVE}")
            if path.is_dir():
                files = sorted(file for file in path.glob("*.py") if file.name != "__init__.py")
                return [_import_file(file) for file in files], path.resolve().parent
            beside = path.resolve().parent
            above = (beside.parent / "schemas").is_dir() and not (beside / "schemas").is_dir()
            return [_import_file(path)], beside.parent if above else beside
        if name.partition(".")[0] != __package__:
            _look_in([str(root) for root in roots or (Path.cwd(),)], first=bool(roots))
        return _import(name)


def _look_in(places: Sequence[str], *, first: bool) -> None:
    """Have modules found in these directories, as `python -m` does for the current one, so that the user's are.

    `first`: even if Python knows of them already, they come before the others.
    """
    for place in reversed(places):
        if first and place in sys.path:
            sys.path.remove(place)
        if place not in sys.path:
            sys.path.insert(0, place)


def _import(name: str) -> tuple[list[ModuleType], Path]:
    missing = (
        f"no topology {name!r} can be imported from here; {GIVE} (the shop of the demo is pipeline.demo.topologies)"
    )
    if not all(part.isidentifier() for part in name.split(".")):
        raise TopologyError(missing)
    try:
        module = importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name is None or not (name == error.name or name.startswith(error.name + ".")):
            raise  # found, but something that it imports is missing
        raise TopologyError(missing) from None
    if not hasattr(module, "__path__"):
        file = Path(getattr(module, "__file__", None) or "").resolve()
        return [module], file.parent.parent if (file.parent / "__init__.py").exists() else file.parent
    folder = Path(next(iter(module.__path__))).resolve()  # a package need not have an __init__.py
    names = [f"{name}.{info.name}" for info in pkgutil.iter_modules(module.__path__)]
    return [importlib.import_module(inner) for inner in sorted(names)], folder.parent


def _import_file(path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(path.stem, path)
    if spec is None or spec.loader is None:
        raise TopologyError(f"{path} is no Python file, whose name ends with .py; {GIVE}")
    module = importlib.util.module_from_spec(spec)
    sys.modules[path.stem] = module  # dataclasses look up their module while they are made
    spec.loader.exec_module(module)
    return module


@contextmanager
def _loaded(name: str) -> Iterator[None]:
    """Raise TopologyError, in a line with the place, for whatever an author's module raises as it is imported."""
    try:
        yield
    except PipelineError:
        raise
    except (Exception, SystemExit) as error:
        frames = traceback.extract_tb(error.__traceback__)
        own = [frame for frame in frames if not frame.filename.startswith((OURS, "<frozen"))]
        own = [
            frame for frame in own if not frame.filename.startswith(INSTALLED)
        ] or own  # a class body calls dataclasses
        at = f"{own[-1].filename} line {own[-1].lineno}" if own else name
        what = f"{type(error).__name__}: {error}"
        if isinstance(error, SyntaxError):
            what, at = f"{type(error).__name__}: {error.msg}", f"{error.filename or name} line {error.lineno or 1}"
        raise TopologyError(f"the topology {name!r} cannot be loaded: {what}, at {at}; correct it") from error
