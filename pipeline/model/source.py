"""An event topic that a service follows, its own or another's."""

from __future__ import annotations

from dataclasses import dataclass, field

from pipeline.errors import TopologyError
from pipeline.model.changes.upcasts import Upcasts, check_upcasts
from pipeline.model.records.topics import TopicKind


@dataclass(frozen=True, slots=True)
class Source:
    """An event topic, seen through the classes that the follower declares for it.

    `topic`: full name, e.g. "orders.event"; its schema must be published in the schema directory.
    `event`: the classes of the events to follow, a class or a union of classes, each named like its Avro record. A
    class may leave out fields it does not need, and events without a class here are skipped: a follower depends on
    no more of its neighbour than it uses.
    `upcasts`: by the class of an old event, the pure function that makes events of today of it; see Aggregate. Those of
    an aggregate of the same service are in its `events`.
    """

    topic: str
    event: object
    upcasts: Upcasts = field(default_factory=dict, hash=False)

    def __post_init__(self) -> None:
        check_upcasts(f"source {self.topic!r}", self.event, self.upcasts)


def check_followed(service: str, source: Source) -> None:
    """Raise TopologyError if a service may not follow that topic: data is had by events, or asked for."""
    kind, owner = TopicKind.of(source.topic), source.topic.rpartition(".")[0]
    if kind is TopicKind.EVENT:
        return
    where = f"service {service!r} follows {source.topic!r}, which"
    cure = f"follow {TopicKind.EVENT.topic(owner)!r}, or ask the owner's API"
    if kind is None:
        raise TopologyError(
            f"{where} is no event topic; name it <aggregate>.event, and if it has another name on the cluster, "
            "say so in Topology.names"
        )
    if kind.published:
        raise TopologyError(f"{where} is published for readers and carries no events; {cure}")
    raise TopologyError(f"{where} is private to its owner; {cure}")
