"""The ownership rules that only a whole topology can break; see also source.check_followed."""

from __future__ import annotations

from collections.abc import Iterable

from pipeline.errors import TopologyError
from pipeline.model.records.topics import TopicKind
from pipeline.model.reservation import decide_reservation
from pipeline.model.service import Service


def check_ownership(services: Iterable[Service]) -> None:
    """Raise TopologyError if two services own the same data, or one follows another's private topic."""
    services = list(services)
    owners: dict[str, str] = {}
    private: dict[str, str] = {}
    for service in services:
        for aggregate in service.owned:
            for name in {aggregate.name, aggregate.kept_as}:
                if (other := owners.setdefault(name, service.name)) != service.name:
                    raise TopologyError(
                        f"the services {other!r} and {service.name!r} both have an aggregate {name!r}; data has one "
                        "owner, so rename one"
                    )
            if aggregate.decide is decide_reservation:
                private[TopicKind.EVENT.topic(aggregate.name)] = service.name
        for projection in service.projections:
            if (other := owners.setdefault(projection.name, service.name)) != service.name:
                raise TopologyError(
                    f"the services {other!r} and {service.name!r} both have a table {projection.name!r}; their topics "
                    "would be the same, so rename one"
                )
    for service in services:
        for source in service.sources():
            if source.topic in private:
                raise TopologyError(
                    f"service {service.name!r} follows {source.topic!r}, which says what values are reserved and is "
                    f"private to {private[source.topic]!r}; follow that service's own events, or ask its API"
                )
