"""The topics that a name means: of a topic, an aggregate, a projection or a service."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping

from pipeline.errors import TopicError
from pipeline.model import TopicKind
from pipeline.topology import Topology


def meant(topology: Topology | None) -> Mapping[str, tuple[str, ...]]:
    """Return the topics that each name of a topology stands for, by their names on the cluster.

    An aggregate or saga stands for its commands and events, a projection for its rows, a service for all of these and
    for what it has parked.
    """
    found: dict[str, tuple[str, ...]] = {}
    for service in () if topology is None else topology.services.values():
        parts: dict[str, tuple[str, ...]] = {p.name: (TopicKind.ROW.topic(p.name),) for p in service.projections}
        parts |= {a.name: (TopicKind.COMMAND.topic(a.name), TopicKind.EVENT.topic(a.name)) for a in service.owned}
        whole = [topic for topics in parts.values() for topic in topics]
        found.setdefault(service.name, (*whole, TopicKind.PARKED.topic(service.name)))
        found |= parts
    called = {} if topology is None else topology.names
    return {name: tuple(called.get(topic, topic) for topic in topics) for name, topics in found.items()}


def chosen(names: Iterable[str], topology: Topology | None, there: Collection[str]) -> list[str]:
    """Return the topics that these names mean, of those that the broker has. Raises TopicError if one means none."""
    by_name = meant(topology)
    found: dict[str, None] = {}
    for name in names:
        topics = (name,) if name in there else by_name.get(name, ())
        if not topics:
            known = ", ".join(sorted(by_name)) or "no topology was found"
            raise TopicError(
                f"the broker has no topic {name!r}, and no aggregate, projection or service has that name "
                f"({known}); correct the name"
            )
        if not (here := [topic for topic in topics if topic in there]):
            raise TopicError(
                f"the broker does not have {', '.join(topics)} yet; create it with: pipeline topics create TOPOLOGY"
            )
        found |= dict.fromkeys(here)
    return list(found)
