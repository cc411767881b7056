"""What callers name a table, an aggregate or a saga by: its declaration, the module of a service, or a name."""

from __future__ import annotations

from collections.abc import Mapping
from types import ModuleType
from typing import Any, NamedTuple, TypeVar

from pipeline.client.typed.rows import (
    Due,
    Instance,
    PastEvent,
    Row,
    Standing,
    due_of,
    event_of,
    instance_of,
    row_of,
    standing_of,
)
from pipeline.errors import BadRequest, InvalidCommand, PipelineError
from pipeline.model import Aggregate, Projection, Replica, Saga, Service
from pipeline.model.projection.versions import declared_name, table_of
from pipeline.topology import Topology

R = TypeVar("R")
Owned = Aggregate[Any, Any, R] | Saga[R]
Table = Owned[R] | Projection[Any, R] | Replica[Any, R]
AnyTable = str | ModuleType | Table[Any]
AnyOwned = str | ModuleType | Owned[Any]

Json = dict[str, Any]


class Subject(NamedTuple):
    """A table as a caller has named it. `declared`: by what, if not by its name; then its rows become instances."""

    name: str
    declared: Table[Any] | None

    def row(self, told: Json, answer: Mapping[str, Any]) -> Json | Row[Any]:
        """Return a row of an answer. `answer`: what that says of all its rows."""
        return told if self.declared is None else row_of(self.name, type(self.declared.initial), {**told, **answer})

    def event(self, told: Json) -> Json | PastEvent[Any]:
        """Return an event of an aggregate's history."""
        return told if self.declared is None else event_of(self.name, self._aggregate.event, told)

    def due(self, told: Json) -> Json | Due[Any]:
        """Return a command that is still to come for an aggregate."""
        return told if self.declared is None else due_of(self.name, self._aggregate.command, told)

    def standing(self, told: Json) -> Json | Standing:
        """Return where an instance of a saga stands."""
        return told if self.declared is None else standing_of(told)

    def instance(self, told: Json) -> Json | Instance[Any]:
        """Return an instance of a saga."""
        return told if self.declared is None else instance_of(type(self.declared.initial), told)

    @property
    def _aggregate(self) -> Aggregate[Any, Any, Any]:
        declared: Any = self.declared
        return declared.aggregate if isinstance(declared, Saga) else declared


def subject(topology: Topology, given: AnyTable) -> Subject:
    """Return what a caller has named, in this topology. Raises BadRequest, UnknownTable.

    A declaration of one version of a projection means that version, whichever readers of its name get: the rows of
    another may be of another class.
    """
    if isinstance(given, str):
        return Subject(given, None)
    declared = (
        _only(given, _tables(_service(given, BadRequest)), BadRequest) if isinstance(given, ModuleType) else given
    )
    if isinstance(declared, Projection):
        name = topology.versioned_name(table_of(declared_name(declared), declared.version))
    elif isinstance(declared, Aggregate | Saga | Replica):
        name = declared.name
    else:
        raise BadRequest(
            f"{given!r:.100} names no table; give a Projection, Aggregate, Saga or Replica, the module of a service "
            "with one table, or a name"
        )
    topology.service_of(name)
    return Subject(name, declared)


def taker(given: AnyOwned, command: type | None) -> str:
    """Return the name of the aggregate that a caller has named. Raises InvalidCommand.

    `command`: the class of the command for it, which says whose it is if a module is given; None if there is none.
    """
    if isinstance(given, str):
        return given
    if isinstance(given, ModuleType):
        service = _service(given, InvalidCommand)
        if command is None:
            found: Aggregate[Any, Any, Any] = _only(given, service.addressed, InvalidCommand)
            return found.name
        names = service.takers.get(command, [])
        if len(names) != 1:
            known = ", ".join(sorted(cls.__name__ for cls in service.takers)) or "no commands"
            cure = f"several of its aggregates take it, {', '.join(names)}: give one" if names else f"it takes {known}"
            raise InvalidCommand(f"the service {service.name!r} cannot be sent {command.__name__}: {cure}")
        return names[0]
    if isinstance(given, Aggregate | Saga):
        return given.name
    raise InvalidCommand(
        f"{given!r:.100} takes no commands; give an Aggregate, a Saga, the module of a service, or a name"
    )


def _service(module: ModuleType, error: type[PipelineError]) -> Service:
    service = getattr(module, "service", None)
    if not isinstance(service, Service):
        raise error(f"the module {module.__name__} declares no service; give one with: service = Service(...)")
    return service


def _tables(service: Service) -> list[Table[Any]]:
    sagas = {saga.name: saga for saga in service.sagas}
    owned: list[Table[Any]] = [sagas.get(each.name, each) for each in service.addressed]
    return [*owned, *service.projections, *service.replicas]


def _only(module: object, found: list[Any], error: type[PipelineError]) -> Any:
    if len(found) == 1:
        return found[0]
    name = getattr(module, "__name__", "")
    known = ", ".join(each.name for each in found) or "none"
    raise error(f"the module {name} does not say which one is meant of {known}; give the declaration, or a name")
