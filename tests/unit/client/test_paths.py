"""Keys in the paths of requests: whatever a key is, it is one part of the path, and both HTTP libraries leave it so."""

from __future__ import annotations

from typing import Any
from urllib.parse import unquote

import httpx
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from yarl import URL

from pipeline.adapters.kafka.owners import Router
from pipeline.client.requests import Requests
from pipeline.client.wire.paths import path_part
from pipeline.errors import BadRequest
from pipeline.topology import load

KEYS = st.text(st.characters(exclude_categories=["Cs"]), min_size=1)


@given(KEYS)
@example(".")
@example("..")
@example("../orders")
@example("%2e%2e")
@example("a\nb")
@example("anna/…?x=1#y")
def test_a_key_stays_one_part_of_its_path_and_comes_back(key: str) -> None:
    url = f"http://worker/v1/tables/users/{path_part(key)}/watch"
    for path in (httpx.URL(url).raw_path.decode(), URL(url, encoded=True).raw_path):
        head, part, tail = path.rsplit("/", 2)
        assert (head, tail) == ("/v1/tables/users", "watch")
        assert unquote(part) == key


@pytest.mark.parametrize("key", [".", ".."])
def test_no_part_is_a_folder(key: str) -> None:
    assert path_part(key) not in (".", "..")


ODD: list[Any] = ["", "\ud800", "\udcff", 5, None, b"a"]


@pytest.mark.parametrize("key", ODD)
def test_a_key_that_no_row_can_have_is_refused_in_words(key: Any) -> None:
    router = Router(None, load("topologies"))  # type: ignore[arg-type]  # nobody is asked
    router._partitions["users.command"] = 2
    requests = Requests(router, 0.0, eventual=False)
    asking: list[Any] = [
        requests.get("users", key),
        requests.get_many("users", ["a", key]),
        requests.read_together([("users", "a"), ("users", key)]),
        requests.history("users", key),
        requests.state_as_of("users", key, 1),
        requests.deadlines("users", key),
    ]
    if key != "":
        asking += [
            requests.scan("users", prefix=key),
            requests.scan("users", start=key),
            requests.scan("users", to=key),
        ]
        asking.append(requests.scan("users", index="country", value=key))
    for steps in asking:
        with pytest.raises(BadRequest, match=r"the key is empty|must be text"):
            next(steps)
