"""Keys in the paths of requests: whatever a key is, it is one part of the path, and both HTTP libraries leave it so."""

from __future__ import annotations

from urllib.parse import unquote

import httpx
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from yarl import URL

from pipeline.client.wire.paths import path_part

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
