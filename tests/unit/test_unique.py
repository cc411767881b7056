"""Unique values: how they are declared, what is reserved under which key, who gets it."""

from dataclasses import replace

import pytest

from pipeline import Rejected, Service, Unique
from pipeline.errors import TopologyError
from pipeline.model.reservation import Release, Released, Reserve, Reserved, reservations
from pipeline.model.unique import reservation_key
from pipeline.testing import given
from topologies.users import users

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
    assert (
        key == "61922b6852e144f325803d981d7e24e5f12443e97db303ae98eb9f9ff29dd892"
    )
    assert key == reservation_key(b"secret", "anna@shop.fr")
    assert len({key, reservation_key(b"secret", "bob@shop.fr"), reservation_key(b"other", "anna@shop.fr")}) == 3
