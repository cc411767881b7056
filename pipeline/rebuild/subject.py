"""One version of a projection that is built: its service, its plan, its topics."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from confluent_kafka.admin import AdminClient

from pipeline.adapters.avro.codec import CodecFactory, served_codecs
from pipeline.adapters.kafka import ANSWER_S
from pipeline.adapters.kafka.topics import check_topics, create_topics
from pipeline.engine.plan import ServicePlan
from pipeline.errors import TopicError, TopologyError, UnknownTable
from pipeline.model import Projection, Service, TopicKind
from pipeline.model.projection.versions import declared_name
from pipeline.topology import Topology


@dataclass(frozen=True, slots=True)
class Subject:
    """A declared version of a projection."""

    name: str
    version: int
    table: str
    service: Service
    projection: Projection[Any, Any]
    plan: ServicePlan
    make: CodecFactory  # of its codecs

    def hops(self) -> list[list[str]]:
        """Return the topics that it is folded from, hop by hop, by their declared names."""
        first = list(dict.fromkeys(source.topic for source in self.projection.sources))
        return [first] if self.projection.route is None else [first, [TopicKind.BY_KEY.topic(self.table)]]


def subject(topology: Topology, name: str, version: int | None = None) -> Subject:
    """Return a version of the projection `name`, by default the newest. Raises TopologyError, UnknownTable."""
    if topology.names:
        raise TopologyError(f"{topology.name} uses other topic names than declared; versions need the declared names")
    declared = topology.versions.get(name)
    if declared is None:
        names = {declared_name(p) for service in topology.services.values() for p in service.projections}
        if name not in names:
            raise UnknownTable(f"no projection {name!r} in {topology.name}; it has {', '.join(sorted(names))}")
        raise TopologyError(
            f"only version 1 of {name!r} is declared. Declare the next one beside it, as another Projection of "
            f"the same name with version=2, and its schemas, {name}_v2.row.avsc and, if it has a route, "
            f"{name}_v2.by_key.avsc; docs/rebuild.md has an example"
        )
    chosen = max(declared) if version is None else version
    if chosen not in declared:
        raise TopologyError(f"version {chosen} of {name!r} is not declared; there is {', '.join(map(str, declared))}")
    table = declared[chosen]
    service = topology.service_of(topology.versioned_name(table))
    projection = next(p for p in service.projections if p.name == table)
    make = served_codecs(topology.schemas, registers=True)
    return Subject(name, chosen, table, service, projection, ServicePlan(service, make), make)


def prepare(client: AdminClient, subject: Subject, topology: str) -> list[str]:
    """Create its missing topics, with as many partitions and replicas as its first source has. Raises TopicError."""
    source = subject.projection.sources[0].topic
    found = client.list_topics(timeout=ANSWER_S).topics.get(source)
    if found is None or not found.partitions:
        raise TopicError(f"the topic {source} does not exist; create it with: pipeline topics create {topology}")
    copies = len(found.partitions[0].replicas)
    created = create_topics(client, [subject.plan], len(found.partitions), copies)
    check_topics(client, subject.plan, topology)
    return created
