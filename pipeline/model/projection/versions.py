"""Versions of a projection, and what each is called. Each after the first is a table of its own."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from pipeline.errors import TopologyError
from pipeline.model.projection.projection import Projection

VERSIONS_GROUP = "pipeline-versions"  # the group of consumers that follow which version readers get


def table_of(projection: str, version: int) -> str:
    """The table of a version, by which its topics and its service are named, too."""
    return projection if version == 1 else versioned_name(projection, version)


def versioned_name(projection: str, version: int) -> str:
    """What readers call a version that they mean and no other."""
    return f"{projection}_v{version}"


def declared_name(projection: Projection[Any, Any]) -> str:
    """What the projection is called, whatever its version."""
    return projection.name if projection.version == 1 else projection.name.removesuffix(f"_v{projection.version}")


def with_table(projection: Projection[Any, Any]) -> Projection[Any, Any]:
    """The projection under the name of its table. Raises TopologyError if there can be no such version."""
    version, name = projection.version, declared_name(projection)
    if version < 1:
        raise TopologyError(f"projection {name!r} has version {version}; versions are counted from 1")
    return replace(projection, name=table_of(name, version))
