"""A topic of events that a service follows, its own or another's."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Source:
    """An event topic, seen through the classes that the follower declares for it.

    `topic`: full name, e.g. "orders.event"; its schema must be published in the schema directory.
    `event`: the classes of the events to follow, a class or a union of classes, each named like its Avro record. A
    class may leave out fields it does not need, and events without a class here are skipped: a follower depends on
    no more of its neighbour than it uses.
    """

    topic: str
    event: object
