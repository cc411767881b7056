"""The rules for owners and followers that only a whole topology can break; see also source.check_followed."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from pipeline.errors import TopologyError
from pipeline.model.aggregate import Aggregate
from pipeline.model.changes.upcasts import classes_of, told_results
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


def check_followers(services: Iterable[Service]) -> None:
    """Raise TopologyError if a service follows a class, and would skip the old events that have become that.

    What they have become, the annotations of the owner's upcasters tell.
    """
    services = list(services)
    owners = {each.events.topic: each for service in services for each in service.owned if each.upcasts}
    for service in services:
        for source in service.sources():
            owner = owners.get(source.topic)
            followed = {cls.__name__ for cls in classes_of(source.event)}
            known = {cls.__name__ for cls in source.upcasts}
            for old in () if owner is None else owner.upcasts:
                assert owner is not None
                lost = followed & {cls.__name__ for cls in _became(owner, old)}
                if lost and old.__name__ not in known:
                    raise TopologyError(
                        f"service {service.name!r} follows {' and '.join(sorted(lost))} of {source.topic!r}, and would "
                        f"skip the old records of it, which are {old.__name__}; give that class, too, and what becomes "
                        f"of it: Source({source.topic!r}, …, upcasts={{{old.__name__}: …}})"
                    )


def _became(owner: Aggregate[Any, Any, Any], old: type) -> set[type]:
    """Return the events of today that an old one may have become."""
    found: set[type] = set()
    for result in told_results(owner.upcasts[old]):
        if result in owner.upcasts:
            found |= _became(owner, result)
        found.update(each for each in classes_of(owner.event) if result in getattr(each, "__mro__", ()))
    return found
