"""How upcasters are declared, and what is refused before anything runs."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from pipeline import Aggregate, Projection, Service, Source
from pipeline.errors import TopologyError
from pipeline.topology import Topology
from tests.helpers import accounts_split as a


@dataclass(frozen=True, slots=True)
class V1:
    text: str


@dataclass(frozen=True, slots=True)
class V2:
    text: str


@dataclass(frozen=True, slots=True)
class Other:
    text: str


def to_v1(old: V2) -> V1:
    return V1(old.text)


def to_v2(old: V1) -> V2:
    return V2(old.text)


def to_today(old: V2) -> a.Withdrawn:
    return a.Withdrawn(len(old.text))


def to_several(old: V1) -> Iterable[a.Withdrawn | V2]:
    return [a.Withdrawn(1), V2(old.text)]


def to_nothing(old: V1) -> a.Withdrawn | None:
    return None


def to_other(old: V1) -> list[Other]:
    return [Other(old.text)]


def with_upcasts(upcasts: Any) -> Aggregate[Any, Any, Any]:
    return replace(a.NOW, upcasts=upcasts)


def test_the_events_of_an_aggregate_carry_its_upcasters() -> None:
    assert a.NOW.events == Source("accounts.event", a.Withdrawn | a.Charged, a.UPCASTS)
    assert hash(a.NOW.events)


class Base:
    pass


@dataclass(frozen=True)
class Derived(Base):
    text: str = ""


def to_base(old: V1) -> Base:
    return Derived(old.text)


def test_an_annotation_may_name_what_its_events_have_in_common() -> None:
    assert Source("t.event", Derived, {V1: to_base}).upcasts == {V1: to_base}


def followed(source: Source) -> Topology:
    counting = Projection("counted", [source], a.Sum(), a.add)
    services = {
        "accounts": Service("accounts", aggregates=[a.NOW]),
        "counts": Service("counts", projections=[counting]),
    }
    return Topology("split", services, Path())


def test_a_follower_that_would_skip_old_records_of_what_it_follows_is_refused() -> None:
    with pytest.raises(TopologyError, match=r"'counts' follows Withdrawn of .* which are Transferred;"):
        followed(Source("accounts.event", a.Withdrawn))
    chained = replace(a.NOW, upcasts={**a.UPCASTS, V1: lambda old: 1, V2: to_transferred})
    services = followed(a.NOW.events).services | {"accounts": Service("accounts", aggregates=[chained])}
    with pytest.raises(TopologyError, match=r"'counts' follows Charged and Withdrawn .* which are V2"):
        Topology("split", services, Path())
    followed(a.NOW.events)
    followed(Source("accounts.event", V1))  # of which nothing has become


def to_transferred(old: V2) -> a.Transferred:
    return a.Transferred(1, 1)


def test_a_chain_is_taken() -> None:
    with_upcasts({V1: to_v2, V2: to_today})
    with_upcasts({V2: to_today, V1: to_several})
    with_upcasts({V1: lambda old: to_v2(old), V2: to_today})


@pytest.mark.parametrize(
    ("upcasts", "why"),
    [
        ({V1: to_v2, V2: to_v1}, "go round in a circle: V1 → V2 → V1"),
        ({V1: lambda old: old, a.Charged: to_today}, "Charged is among its events and among its upcasts"),
        ({V1: to_other}, "the upcaster of V1 may return Other, which is neither one of its events nor an old one"),
        ({V1: to_v2}, "the upcaster of V1 may return V2"),
        ({V1: to_nothing}, r"may return NoneType, which is no event; to drop the old one, return \(\)"),
        ({"V1": to_v2}, "upcasts has 'V1'; give the class"),
        ({V1: "to_v2"}, "is no function"),
        ({V1: lambda: None}, "cannot be called"),
        ({V1: lambda old, context: None}, "what it is given carries none"),
    ],
)
def test_what_cannot_become_an_event_of_today_is_refused(upcasts: Any, why: str) -> None:
    with pytest.raises(TopologyError, match=f"aggregate 'accounts'.*{why}"):
        with_upcasts(upcasts)
    with pytest.raises(TopologyError, match=f"source 'accounts.event'.*{why}"):
        Source("accounts.event", a.Withdrawn | a.Charged, upcasts)
