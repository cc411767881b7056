"""The subjects of endpoints in a topology: each has one operation in the OpenAPI document."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

from pipeline.model import Aggregate
from pipeline.model.saga.participant import participants
from pipeline.server.schemas.tables import Table
from pipeline.topology import Topology


class Subject(NamedTuple):
    """`name`: for summaries and operation ids. `parts`: of the path. `it`: the object from which schemas are made."""

    name: str
    parts: dict[str, str]
    it: Any


def alone(_: Topology) -> Iterator[Subject]:
    """Yield the subject of an endpoint that has none in the topology."""
    yield Subject("", {}, None)


def tables(topology: Topology) -> Iterator[Subject]:
    """Yield each table."""
    for service in topology.services.values():
        found = [_of(aggregate) for aggregate in service.owned]
        found += [Table(each.name, type(each.initial), sorted(each.indexes)) for each in service.projections]
        found += [Table(each.name, type(each.initial), can_be_watched=False) for each in service.replicas]
        yield from (Subject(table.name, {"table": table.name}, table) for table in found)


def watchable(topology: Topology) -> Iterator[Subject]:
    """Return each table that is not a replica."""
    return (subject for subject in tables(topology) if subject.it.can_be_watched)


def states(topology: Topology) -> Iterator[Subject]:
    """Return the table of each aggregate."""
    return (subject for subject in tables(topology) if not subject.it.is_derived)


def snapshots(topology: Topology) -> Iterator[Subject]:
    """Yield the names of all aggregates as one subject."""
    yield Subject("", {}, [subject.name for subject in states(topology)])


def addressed(topology: Topology) -> Iterator[Subject]:
    """Return each aggregate that takes commands from outside."""
    return (_aggregate(each) for service in topology.services.values() for each in service.addressed)


def with_history(topology: Topology) -> Iterator[Subject]:
    """Return each aggregate that keeps its history."""
    return (_aggregate(each) for service in topology.services.values() for each in service.owned if each.history)


def with_deadlines(topology: Topology) -> Iterator[Subject]:
    """Return each aggregate that takes deadlines."""
    return (_aggregate(each) for service in topology.services.values() for each in service.owned if each.deadlines)


def any_saga(topology: Topology) -> Iterator[Subject]:
    """Yield all sagas as one subject, if there are any."""
    if topology.sagas:
        yield Subject("all sagas", {}, None)


def sagas(topology: Topology) -> Iterator[Subject]:
    """Return each saga."""
    return (Subject(name, {"saga": name}, saga) for name, saga in topology.sagas.items())


def knowing(action: str) -> Callable[[Topology], Iterator[Subject]]:
    """Return a function that lists the sagas with this action."""
    return lambda topology: (subject for subject in sagas(topology) if action in subject.it.actions)


def services(topology: Topology) -> Iterator[Subject]:
    """Return each service."""
    return (Subject(name, {"service": name}, None) for name in topology.services)


def sources(topology: Topology) -> Iterator[Subject]:
    """Yield each source topic of each service."""
    for service in topology.services.values():
        for topic in service.source_topics():
            yield Subject(f"{service.name}_{topic}", {"service": service.name, "topic": topic}, None)


def _aggregate(aggregate: Aggregate[Any, Any, Any]) -> Subject:
    return Subject(aggregate.name, {"aggregate": aggregate.name}, aggregate)


def _of(aggregate: Aggregate[Any, Any, Any]) -> Table:
    can_hold = any(participants(aggregate))
    return Table(aggregate.name, type(aggregate.initial), is_derived=False, can_hold=can_hold)
