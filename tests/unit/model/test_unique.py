"""Unique values: how they are declared, what is reserved under which key, who gets it."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from pipeline import Rejected, Service, Unique
from pipeline.adapters.avro.codec import codecs
from pipeline.adapters.memory import MemoryKafka, MemoryProducer, MemoryStores
from pipeline.engine.plan import ServicePlan
from pipeline.engine.stats import LaneStats
from pipeline.errors import StateDirectoryError, TopologyError
from pipeline.model.reservation import Release, Released, Reserve, Reserved, reservations
from pipeline.model.unique import reservation_key
from pipeline.testing import TestDriver, given
from pipeline.topology import Topology
from pipeline.worker.secrets import service_secret
from topologies.users import ChangeEmail, ChangeName, RegisterUser, User, users

EMAILS = reservations(Unique("user_emails", lambda user: None))
ANNA = Reserved("anna")


def test_who_comes_first_has_it() -> None:
    reserved = given(EMAILS).when(Reserve("anna")).then(ANNA)
    reserved.when(Reserve("bob")).then(Rejected("taken"))
    reserved.when(Reserve("anna")).then()


def test_what_is_released_is_free_again() -> None:
    given(EMAILS, ANNA).when(Release("anna")).then(Released("anna")).when(Reserve("bob")).then(Reserved("bob"))


def test_only_the_owner_releases() -> None:
    given(EMAILS, ANNA).when(Release("bob")).then()
    given(EMAILS).when(Release("bob")).then()


def test_a_service_owns_the_reservations_of_its_unique_values_once() -> None:
    service = Service("users", aggregates=[users])
    assert [aggregate.name for aggregate in service.aggregates] == ["users", "user_emails"]
    assert [a.name for a in replace(service, name="people").aggregates] == ["users", "user_emails"]


def test_two_aggregates_may_not_share_reservations() -> None:
    with pytest.raises(TopologyError, match="2 tables are named 'user_emails'"):
        Service("users", aggregates=[users, replace(users, name="guests")])


def test_the_key_shows_nothing_of_the_value() -> None:
    key = reservation_key(b"secret", "anna@shop.fr")
    assert key == "61922b6852e144f325803d981d7e24e5f12443e97db303ae98eb9f9ff29dd892"
    assert key == reservation_key(b"secret", "anna@shop.fr")
    assert len({key, reservation_key(b"secret", "bob@shop.fr"), reservation_key(b"other", "anna@shop.fr")}) == 3


# --- in the engine ----------------------------------------------------------------------------------------------------


@pytest.fixture
def shop(shop_topology: Topology) -> Iterator[TestDriver]:
    topology = shop_topology.only("users")
    with TestDriver(topology) as driver:
        yield driver


def owners(shop: TestDriver) -> list[str]:
    return sorted(row.body.owner for row in shop.rows("user_emails").values() if row.body.owner is not None)


def register(shop: TestDriver, key: str, email: str | None) -> None:
    shop.send("users", key, RegisterUser(key, "France", email))


def test_the_second_with_an_address_is_rejected(shop: TestDriver) -> None:
    register(shop, "anna", "a@shop.fr")
    register(shop, "bob", "A@shop.fr")
    assert shop.row("users", "anna").body.email == "a@shop.fr"
    assert shop.row("users", "bob") is None
    assert owners(shop) == ["anna"]


def test_of_those_who_race_one_wins_and_nobody_waits_for_ever(shop: TestDriver) -> None:
    for n in range(20):
        shop.send_unseen("users", f"u{n}", RegisterUser("name", "France", "one@shop.fr"), ChangeName("later"))
    shop.advance(5)
    assert len(shop.rows("users")) == 1
    (winner,) = owners(shop)
    assert shop.row("users", winner).body == User("later", "France", "one@shop.fr")


def test_an_address_that_is_given_up_is_free_and_no_other(shop: TestDriver) -> None:
    register(shop, "anna", "a@shop.fr")
    shop.send("users", "anna", ChangeEmail("new@shop.fr"))
    register(shop, "bob", "a@shop.fr")
    register(shop, "eve", "new@shop.fr")
    assert (owners(shop), sorted(shop.rows("users"))) == (["anna", "bob"], ["anna", "bob"])
    shop.send("users", "anna", ChangeEmail(None))
    register(shop, "eve", "new@shop.fr")
    assert owners(shop) == ["bob", "eve"]


def test_back_and_forth_within_one_batch(shop: TestDriver) -> None:
    register(shop, "anna", "a@shop.fr")
    shop.send("users", "anna", *[ChangeEmail(e) for e in ("b@shop.fr", "a@shop.fr", None, "b@shop.fr", "a@shop.fr")])
    assert shop.row("users", "anna").body.email == "a@shop.fr"
    assert [event.email for event in shop.events("users", "anna")] == [
        "a@shop.fr",
        "b@shop.fr",
        "a@shop.fr",
        None,
        "b@shop.fr",
        "a@shop.fr",
    ]
    assert owners(shop) == ["anna"]


def test_what_is_rejected_reserves_nothing(shop: TestDriver) -> None:
    shop.send("users", "nobody", ChangeEmail("a@shop.fr"))
    register(shop, "anna", None)
    assert owners(shop) == []


def test_no_address_stands_in_any_key(shop: TestDriver) -> None:
    register(shop, "anna", "a@shop.fr")
    assert all(len(key) == 64 and "@" not in key for key in shop.rows("user_emails"))


# --- the secret -------------------------------------------------------------------------------------------------------


def test_a_secret_is_made_once_for_its_owner_alone(tmp_path: Path) -> None:
    made = service_secret(tmp_path / "state" / "secret", make=True)
    assert len(made) == 64
    assert service_secret(tmp_path / "state" / "secret", make=True) == made
    assert (tmp_path / "state" / "secret").stat().st_mode & 0o077 == 0
    assert [file.name for file in (tmp_path / "state").iterdir()] == ["secret"]


def test_a_secret_that_is_missing_or_short_is_told(tmp_path: Path) -> None:
    with pytest.raises(StateDirectoryError, match="--secret-file"):
        service_secret(tmp_path / "none", make=False)
    (tmp_path / "short").write_text("12345\n")
    with pytest.raises(StateDirectoryError, match="has 5 bytes"):
        service_secret(tmp_path / "short", make=False)


def test_without_a_secret_no_task_is_made(shop_topology: Topology) -> None:
    plan = ServicePlan(shop_topology.services["users"], codecs(shop_topology.schemas))
    with pytest.raises(TopologyError, match="--secret-file"):
        plan.source_topics["users.command"].steps(
            0, MemoryStores().open("s"), MemoryProducer(MemoryKafka(), "t"), LaneStats(), {}
        )
