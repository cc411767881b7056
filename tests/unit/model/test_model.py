"""A service's declaration is checked where it is made, and the message says what to change."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest

from pipeline import Aggregate, Projection, Replica, Service, Source, Unique
from pipeline.errors import TopologyError


@dataclass(frozen=True, slots=True)
class Thing:
    pass


@dataclass(frozen=True, slots=True)
class Other:
    pass


def projection(**changes: Any) -> Projection[Any, Any]:
    values: dict[str, Any] = {"name": "p", "sources": [Source("a.event", Thing)], "initial": Thing(), "evolve": max}
    return Projection(**{**values, **changes})


def aggregate(name: str, **more: Any) -> Aggregate[Any, Any, Any]:
    return Aggregate(name, Thing, Thing, Thing(), lambda c, s, *copies: [], lambda s, e: s, **more)


def replica(name: str, topic: str = "a.event") -> Replica[Any, Any]:
    return Replica(name, Source(topic, Thing), Thing(), lambda r, e: r)


@pytest.mark.parametrize(
    ("declare", "says"),
    [
        (lambda: Service("No Good"), "cannot be part of a topic name"),
        (lambda: Service("s", aggregates=[aggregate("a"), aggregate("a")]), "2 tables are named 'a'"),
        (lambda: Service("s", projections=[projection(sources=[])]), "has no source"),
        (lambda: Service("s", projections=[projection(by_key=Thing)]), "route and by_key go together"),
        (
            lambda: Service(
                "s", projections=[projection(sources=[Source("a.event", Thing), Source("b.event", Thing)])]
            ),
            "no route",
        ),
        (
            lambda: Service(
                "s", projections=[projection(), projection(name="q", sources=[Source("a.event", Thing | Other)])]
            ),
            "two different sets of event classes",
        ),
        (lambda: Service("s", replicas=[replica("r"), replica("q")]), "keeps 2 replicas of 'a.event'"),
        (
            lambda: Service("s", aggregates=[aggregate("a", reads=replica("r"))], replicas=[replica("q")]),
            "reads 'r', which is no replica of the service",
        ),
        (
            lambda: aggregate("a", reads=[replica("r")], unique=[Unique("names", value=lambda s: None)]),
            "has unique values and reads copies",
        ),
    ],
)
def test_contradictions_are_refused(declare: Callable[[], Service], says: str) -> None:
    with pytest.raises(TopologyError, match=says):
        declare()


def test_a_table_is_split_like_the_topic_that_feeds_it() -> None:
    service = Service(
        "s",
        aggregates=[aggregate("a")],
        projections=[projection(name="same_key"), projection(name="other_key", by_key=Thing, route=lambda k, e: [])],
    )
    assert service.tables() == {"a": "a.command", "same_key": "a.event", "other_key": "other_key.by_key"}
