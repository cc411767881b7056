"""Projections of which there are several versions: each after the first is a service of its own.

So it has a group of its own, and is folded from the beginning of its sources beside all others, by the same engine.
Which version readers get is said elsewhere.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace

from pipeline.errors import TopologyError
from pipeline.model.projection.versions import declared_name, versioned_name
from pipeline.model.service import Service

# projection -> version -> table; those that have more than the first
ProjectionVersions = Mapping[str, Mapping[int, str]]


def split_versions(services: Mapping[str, Service]) -> dict[str, Service]:
    """The services, and one more for each later version of a projection. Those that are apart already stay as they are.

    Raises TopologyError if names collide.
    """
    found: dict[str, Service] = {}
    for name, service in services.items():
        later = [] if service.part_of else [p for p in service.projections if p.version > 1]
        first = replace(service, projections=[p for p in service.projections if p not in later]) if later else service
        if not later or first.source_topics() or first.replicas:  # else nothing is left to it but what is apart
            found[name] = first
        for projection in later:
            own = f"{name}_{projection.name}"
            if own in services:
                raise TopologyError(f"a service is named {own!r}, like a version of a projection; rename it")
            found[own] = Service(
                own,
                projections=[projection],
                transient=service.transient,
                raising_share=service.raising_share,
                raising_at_least=service.raising_at_least,
                part_of=name,
            )
    tables = {table for service in found.values() for table in service.tables()}
    for name in versions_of(found.values()):
        if versioned_name(name, 1) in tables:
            raise TopologyError(
                f"the table {versioned_name(name, 1)!r} is named like the first version of {name!r}; rename it"
            )
    return found


def versions_of(services: Iterable[Service]) -> dict[str, dict[int, str]]:
    """The projections that have later versions than the first, each with all that are declared, oldest first."""
    found: dict[str, dict[int, str]] = {}
    for service in services:
        for projection in service.projections:
            found.setdefault(declared_name(projection), {})[projection.version] = projection.name
    return {name: dict(sorted(versions.items())) for name, versions in found.items() if max(versions) > 1}
