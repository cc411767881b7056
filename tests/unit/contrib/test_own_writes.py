"""What a browser has written: how it travels, and what a read makes of it."""

from __future__ import annotations

from typing import Any
from urllib.parse import unquote

import pytest

from pipeline.adapters.kafka.owners import Router
from pipeline.contrib.own_writes import logs
from pipeline.contrib.own_writes.logs import Logs
from pipeline.contrib.own_writes.positions import COOKIE_BYTES_MAX, HEADER, OwnWrites, set_cookie
from pipeline.contrib.own_writes.request import OwnRequest
from pipeline.engine.ports import TP
from pipeline.errors import BrokerUnreachable, ForeignToken, InvalidToken
from pipeline.server.owner.forward import POSITION
from pipeline.topology import load

SHOP = load("topologies")


class Cluster:
    """A cluster with four partitions of each topic. `ends`: where they end; None while it does not say."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.ends: dict[TP, int] | None = {}
        self.asked = 0
        monkeypatch.setattr(logs, "end_offsets", self._told)
        monkeypatch.setattr(Router, "count", lambda *_: 4)
        self.logs = Logs("localhost:1", SHOP)

    def _told(self, _: Any, partitions: list[TP]) -> dict[TP, int]:
        self.asked += 1
        if self.ends is None:
            raise BrokerUnreachable("it is away")
        return {tp: self.ends.get(tp, 0) for tp in partitions}


@pytest.fixture
def cluster(monkeypatch: pytest.MonkeyPatch) -> Cluster:
    return Cluster(monkeypatch)


def test_a_cookie_comes_back_as_it_went_out() -> None:
    writes = OwnWrites()
    writes.note("users.command/3@77")
    writes.note("orders.command/0@5,users.command/3@9")
    cookie = writes.cookie
    assert cookie is not None
    assert unquote(cookie) == "orders.command/0@5,users.command/3@77"  # an older position takes nothing back
    assert OwnWrites([cookie]).written == writes.written
    assert OwnWrites([cookie]).cookie is None  # nothing to set: nothing was written
    assert OwnWrites([cookie]).token == writes.token == "orders.command/0@5,users.command/3@77"


@pytest.mark.parametrize(
    "spoilt", ["", "nonsense", "users.command/3", "users.command/3@-1", "%", "7:later", "\u2603", "x" * 5_000, "\x00;"]
)
def test_a_spoilt_cookie_is_replaced(spoilt: str) -> None:
    writes = OwnWrites([spoilt])
    assert writes.token == ""
    assert writes.cookie == ("" if spoilt else None)
    writes.note("users.command/0@1")
    assert writes.cookie == "users.command%2F0%401"


def test_a_spoilt_header_is_an_error() -> None:
    with pytest.raises(InvalidToken):
        OwnWrites([], "nonsense")


def test_two_cookies_of_one_name_are_combined() -> None:
    assert OwnWrites(["users.command%2F0%401", "users.command%2F0%403,orders.command%2F1%402"]).token == (
        "orders.command/1@2,users.command/0@3"
    )


def test_a_cookie_and_a_header_keep_their_size_and_the_latest_writes() -> None:
    writes = OwnWrites()
    for n in range(1_000):
        writes.note(f"an_aggregate_with_a_long_name_{n % 500}.command/{n % 7}@{n}")
    cookie = writes.cookie
    assert cookie is not None
    assert len(cookie) <= COOKIE_BYTES_MAX
    kept = OwnWrites([cookie]).written
    assert 20 < len(kept) < 100
    assert set(kept.values()) == set(range(1_000 - len(kept), 1_000))
    assert len(writes.token) <= COOKIE_BYTES_MAX


def test_a_cookie_is_for_the_application_alone_and_not_for_scripts() -> None:
    text = set_cookie("pipeline_position", "x", path="/shop/", secure=True)
    assert text == "pipeline_position=x; Path=/shop; Max-Age=3600; HttpOnly; SameSite=Lax; Secure"
    assert set_cookie("p", "", path="", secure=False) == "p=; Path=/; Max-Age=0; HttpOnly; SameSite=Lax"
    assert "; Domain" not in set_cookie("p", "", path="/a; Domain=b", secure=False)


def test_the_header_is_called_as_workers_call_it() -> None:
    assert HEADER == POSITION


def test_a_read_is_given_what_can_get_into_its_table(cluster: Cluster) -> None:
    writes = OwnWrites()
    for token in ("users.command/3@77", "inventory.command/0@5"):
        cluster.logs.note(writes, token)
    assert cluster.logs.are_known(writes)
    assert cluster.logs.at_least("users", writes) == "users.command/3@77"
    assert cluster.logs.at_least("customers", writes) == "users.command/3@77"  # of another service
    assert cluster.logs.at_least("products", writes) == "inventory.command/0@5"
    assert cluster.logs.at_least("payments", writes) == ""
    assert cluster.logs.at_least("no_such_table", writes) == ""
    assert cluster.asked == 0  # this process has written all of it


def test_positions_that_this_cluster_does_not_have_are_dropped(cluster: Cluster) -> None:
    cluster.ends = {TP("users.command", 3): 78}
    writes = OwnWrites(["users.command/3@77,users.command/2@900,users.command/9@1,others.command/0@3"])
    assert not cluster.logs.are_known(writes)
    assert cluster.logs.at_least("users", writes) == "users.command/3@77"
    assert writes.cookie == "users.command%2F3%4077"
    assert cluster.logs.are_known(writes)
    cluster.logs.at_least("customers", writes)
    assert cluster.asked == 1


def test_a_header_with_such_a_position_is_an_error(cluster: Cluster) -> None:
    cluster.ends = {TP("users.command", 3): 77}
    with pytest.raises(ForeignToken, match=r"no record users\.command/3@77;"):
        cluster.logs.at_least("users", OwnWrites([], "users.command/3@77"))


def test_while_the_broker_is_away_positions_are_believed(cluster: Cluster) -> None:
    cluster.ends = None
    writes = OwnWrites(["users.command/3@77"])
    assert cluster.logs.at_least("users", writes) == "users.command/3@77"
    assert writes.cookie is None


def test_a_requests_commands_have_ids_of_their_own(cluster: Cluster) -> None:
    request = OwnRequest(cluster.logs, OwnWrites(), '"signup-17"', "1700000000000")
    assert request.sending({}) == {"command_id": "signup-17", "issued_ms": 1700000000000}
    assert request.sending({"expected_version": 3}) == {
        "command_id": "signup-17/2",
        "issued_ms": 1700000000000,
        "expected_version": 3,
    }
    assert request.sending({"command_id": "mine"}) == {"command_id": "mine"}
    assert request.sending({}) == {"command_id": "signup-17/3", "issued_ms": 1700000000000}
    assert OwnRequest(cluster.logs, OwnWrites()).sending({"after": 3}) == {"after": 3}


def test_a_read_that_says_what_it_wants_is_left_alone(cluster: Cluster) -> None:
    request = OwnRequest(cluster.logs, OwnWrites(["users.command/3@77"]))
    assert request.reads_own_writes({"consistency": "fresh", "wait": 3})
    for options in ({"consistency": "eventual"}, {"at_least": ""}, {"max_age": 3}):
        assert not request.reads_own_writes(options)
    assert not OwnRequest(cluster.logs, OwnWrites()).reads_own_writes({})
