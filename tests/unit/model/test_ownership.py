"""A service's data is had over its API or its published topics; everything else is refused where it is declared."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from pipeline import Aggregate, Projection, Reaction, Replica, Service, Source, Unique
from pipeline.adapters.rocksdb.stores import claim_slot
from pipeline.errors import StateDirectoryError, TopologyError
from pipeline.model import TopicKind
from pipeline.topology import Topology, load

PRIVATE = [kind for kind in TopicKind if not kind.published]


@dataclass(frozen=True, slots=True)
class Thing:
    name: str = ""


def aggregate(name: str, **more: Any) -> Aggregate[Any, Any, Any]:
    return Aggregate(name, Thing, Thing, Thing(), lambda c, s: [], lambda s, e: s, **more)


def projection(source: Source, name: str = "p", **more: Any) -> Projection[Any, Any]:
    return Projection(name, [source], Thing(), lambda row, event: row, **more)


FOLLOW: dict[str, Callable[[Source], Service]] = {
    "reaction": lambda source: Service("s", reactions=[Reaction("r", source, lambda key, event: [])]),
    "projection": lambda source: Service("s", projections=[projection(source)]),
    "re-keyed": lambda source: Service(
        "s", projections=[projection(source, by_key=Thing, route=lambda key, event: [])]
    ),
    "replica": lambda source: Service("s", replicas=[Replica("r", source, Thing(), lambda row, event: row)]),
}


@pytest.mark.parametrize("way", FOLLOW)
@pytest.mark.parametrize("kind", PRIVATE)
def test_what_is_private_cannot_be_followed(way: str, kind: TopicKind) -> None:
    with pytest.raises(TopologyError, match=rf"'s' follows 'a\.{kind.value}', which is private.*follow 'a\.event'"):
        FOLLOW[way](Source(f"a.{kind.value}", Thing))


@pytest.mark.parametrize(
    ("topic", "says"), [("a.state", "carries no events"), ("a.row", "carries no"), ("a", "no event")]
)
def test_nor_what_tells_no_events(topic: str, says: str) -> None:
    with pytest.raises(TopologyError, match=says):
        FOLLOW["projection"](Source(topic, Thing))


@pytest.mark.parametrize("way", FOLLOW)
def test_events_can(way: str) -> None:
    assert FOLLOW[way](Source("a.event", Thing)).name == "s"


def test_the_events_of_reservations_are_private_too() -> None:
    owner = Service("a", aggregates=[aggregate("a", unique=[Unique("a_names", value=lambda thing: thing.name)])])
    for follow in FOLLOW.values():
        with pytest.raises(TopologyError, match=r"follows 'a_names\.event', which says what values are reserved"):
            Topology("x", {"a": owner, "s": follow(Source("a_names.event", Thing))}, Path())


@pytest.mark.parametrize(
    "second",
    [
        Service("two", aggregates=[aggregate("things")]),
        Service("two", projections=[projection(Source("a.event", Thing), "things")]),
    ],
)
def test_data_has_one_owner(second: Service) -> None:
    first = Service("one", aggregates=[aggregate("things")])
    with pytest.raises(TopologyError, match="the services 'one' and 'two' both have a"):
        Topology("x", {"one": first, "two": second}, Path())


def test_the_shop_keeps_to_it() -> None:
    shop = load("topologies")
    assert replace(shop, name="again").services == shop.services


def test_a_directory_says_whose_tables_it_has(tmp_path: Path) -> None:
    _, stores = claim_slot(tmp_path, "orders", 0)
    stores.open("orders.command-0").close()
    stores.close()
    claim_slot(tmp_path, "orders", 0)[1].close()
    (tmp_path / "reports").symlink_to(tmp_path / "orders")
    for slot in (0, None):
        with pytest.raises(
            StateDirectoryError, match="has the tables of service 'orders', which 'reports' must not use"
        ):
            claim_slot(tmp_path, "reports", slot)
    (tmp_path / "reports").unlink()
    (tmp_path / "orders").rename(tmp_path / "reports")  # or the service has been renamed
    with pytest.raises(StateDirectoryError, match="Put the directory back"):
        claim_slot(tmp_path, "reports", None)


def test_one_from_before_that_was_noted_is_ones_own(tmp_path: Path) -> None:
    (tmp_path / "orders" / "0").mkdir(parents=True)
    claim_slot(tmp_path, "orders", 0)[1].close()
    assert (tmp_path / "orders" / "0" / "service").read_text() == "orders"
