"""Tokens as text, and what they come to hop by hop."""

from __future__ import annotations

from collections.abc import Coroutine, Mapping, Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline import Aggregate, Projection, Reaction, Replica, Service, Source, Token
from pipeline.errors import ForeignToken, InvalidToken
from pipeline.flow import Folder, Lineage, token_to_token
from pipeline.model import BARRIER, is_barrier
from pipeline.model.records.token import marked, marks
from pipeline.topology import Topology

PLACES = st.tuples(st.from_regex(r"[a-z][a-z0-9_]{0,8}\.(command|event|by_key)", fullmatch=True), st.integers(0, 99))
TOKENS = st.dictionaries(PLACES, st.integers(0, 2**63 - 1), max_size=6).map(Token.of)


@given(TOKENS)
def test_a_token_is_its_text(token: Token) -> None:
    assert Token.of(Token(str(token)).positions) == token
    assert not set(token) - set("abcdefghijklmnopqrstuvwxyz0123456789_./@,")


@given(TOKENS, TOKENS, TOKENS)
def test_combined_tokens_are_past_each(one: Token, two: Token, three: Token) -> None:
    assert one | two == two | one
    assert (one | two) | three == one | (two | three)
    assert one | one == one | Token() == one
    for token in (one, two):
        assert all((one | two).positions[place] >= offset for place, offset in token.positions.items())
    assert (one | two).positions.keys() == one.positions.keys() | two.positions.keys()


@pytest.mark.parametrize("text", ["users", "a/b@1", "a.event/1", "a.event/1@-1", "a.event/1@1,", "ä.event/0@1",
                                  f"a.event/0@{2**63}", "2:a.event/0@1", " a.event/0@1", "a.event/٣@1"])  # fmt: skip
def test_what_is_no_token_is_refused(text: str) -> None:
    with pytest.raises(InvalidToken):
        _ = Token(text).positions


def test_a_barrier_is_told_from_a_deletion() -> None:
    assert is_barrier(None, [("a", b"b"), BARRIER])
    assert not is_barrier(b"", [BARRIER])
    assert not is_barrier(None, None)


# --- hop by hop -------------------------------------------------------------------------------------------------------


class Logs:
    """An `OffsetSource` on a world that stands still: ends of logs, and what is waited for."""

    def __init__(self, ends: Mapping[tuple[str, int], int], partitions: int = 4) -> None:
        self._ends, self._partitions = ends, partitions
        self.waited: list[tuple[Folder, int]] = []

    async def partitions(self, topic: str) -> int:
        return self._partitions

    async def passed(self, wanted: Mapping[Folder, int]) -> None:
        self.waited += sorted(wanted.items())

    async def ends(self, partitions: Sequence[tuple[str, int]]) -> Mapping[tuple[str, int], int]:
        return {place: self._ends.get(place, 0) for place in partitions}


def done(coroutine: Coroutine[Any, Any, Any]) -> Any:
    """What it comes to, as it waits for nobody."""
    with pytest.raises(StopIteration) as stopped:
        coroutine.send(None)
    return stopped.value.value


def resolved(lineage: Lineage, token: str, table: str, partition: int, logs: Logs) -> Any:
    return done(token_to_token(lineage, Token(token).positions, lineage.home(table), frozenset({partition}), logs))


@pytest.fixture
def shop(shop_topology: Topology) -> Lineage:
    return Lineage(shop_topology.services.values())


def test_a_command_of_another_service_comes_over_events_and_a_repartition(shop: Lineage) -> None:
    logs = Logs({("users.event", 3): 40, ("customers.by_key", 1): 70, ("customers.by_key", 2): 9})
    assert resolved(shop, "users.command/3@7", "customers", 1, logs) == {1: 69}
    assert logs.waited == [(Folder("users", "users.command", 3), 7), (Folder("reports", "users.event", 3), 39)]


def test_a_reaction_brings_commands_to_any_partition(shop: Lineage) -> None:
    logs = Logs({("orders.event", 0): 5, ("inventory.command", 2): 8})
    assert resolved(shop, "orders.command/0@4", "inventory", 2, logs) == {2: 7}
    assert logs.waited == [(Folder("orders", "orders.command", 0), 4), (Folder("inventory", "orders.event", 0), 4)]


def test_a_table_itself_and_what_cannot_get_to_it(shop: Lineage) -> None:
    logs = Logs({})
    assert resolved(shop, "users.command/3@7", "users", 3, logs) == {3: 7}
    assert resolved(shop, "users.command/3@7", "users", 1, logs) == {}
    assert resolved(shop, "users.event/3@7", "customer_countries", 3, logs) == {3: 7}
    # A replica keeps the partitions of its source: the others need not be waited for.
    assert resolved(shop, "users.command/2@7", "customer_countries", 3, logs) == {}
    assert logs.waited == []
    assert resolved(shop, "users.command/3@7,orders.command/0@1", "users", 3, logs) == {3: 7}
    for token in ("orders.command/0@1", "nobody.command/0@1", "users.command/4@1", "users.command/3@7,x.event/0@1"):
        with pytest.raises(ForeignToken):
            resolved(shop, token, "users", 3, logs)


def test_nothing_written_is_nothing_to_wait_for(shop: Lineage) -> None:
    assert resolved(shop, "users.command/3@7", "customers", 1, Logs({})) == {}


def circle() -> Lineage:
    """Two services that react to each other's events, and a third that follows one of them and copies it."""

    def aggregate(name: str) -> Aggregate[Any, Any, Any]:
        return Aggregate(name, int, int, 0, lambda command, state: [], lambda state, event: 0)

    left, right = aggregate("left"), aggregate("right")
    events = {name: Source(f"{name}.event", int) for name in ("left", "right")}
    return Lineage(
        [
            Service("left", aggregates=[left], reactions=[Reaction("back", events["right"], lambda key, event: ())]),
            Service("right", aggregates=[right], reactions=[Reaction("forth", events["left"], lambda key, event: ())]),
            Service(
                "third",
                projections=[Projection("sums", [events["right"]], 0, lambda row, event: 0)],
                replicas=[Replica("lefts", events["left"], 0, lambda row, event: 0)],
            ),
        ]
    )


def test_a_circle_ends() -> None:
    lineage = circle()
    ends = {(topic, 0): 10 for topic in lineage.topics}
    logs = Logs(ends, partitions=1)
    assert resolved(lineage, "left.command/0@3", "sums", 0, logs) == {0: 9}
    path = [folder.topic for folder, _ in logs.waited]
    assert path[:3] == ["left.command", "left.event", "right.command"]
    assert len(path) <= 5, "it goes round and round"
    # A table of the circle is not waited for a second round.
    logs = Logs(ends, partitions=1)
    assert resolved(lineage, "left.command/0@3", "left", 0, logs) == {0: 3}
    assert logs.waited == []
    assert resolved(lineage, "right.command/0@3", "left", 0, logs) == {0: 9}
    assert [folder.topic for folder, _ in logs.waited] == ["right.command", "right.event"]


def test_a_token_of_a_restored_cluster_says_so_through_any_combination() -> None:
    token = marked({("a.command", 0): 5}, "c0ffee")
    assert token == "a.command/0@5,pipeline.restored.c0ffee/0@0"
    assert marks(token.positions) == {"c0ffee"}
    assert marks((token | "b.command/1@2").positions) == {"c0ffee"}
    assert marks((token | marked({("a.command", 0): 5}, "beef")).positions) == {"c0ffee", "beef"}
    assert marked({}, "c0ffee") == ""
    assert marked({("a.command", 0): 5}, "") == "a.command/0@5"
