"""The near cache on real Kafka: with writers at work and workers killed, it answers with what a token names."""

from __future__ import annotations

import random
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from threading import Event
from typing import Any

import pytest

from pipeline import QueryClient, Token
from pipeline.client import Accepted, Client
from pipeline.client.near_cache.cache import NearCache
from pipeline.errors import UnknownKey
from tests.helpers.support import Shop, until
from topologies import users as u

pytestmark = pytest.mark.long


WAIT_S = 60.0
CACHE = 1 << 20
KEYS = 6


def write_then_read(shop: Shop, kill: Callable[[Callable[[], int], Event], None], turns: int) -> tuple[list[str], Any]:
    """Writers that each read what they have written, and one another's, at least at their tokens: what was older."""
    stale: list[str] = []
    stop, spent = Event(), [0]
    with (
        Client(shop.bootstrap, shop.topology, "tests") as client,
        QueryClient(shop.bootstrap, shop.topology, 60.0, cache_bytes=CACHE) as query,
    ):
        latest: dict[str, tuple[int, Token]] = {}
        for n in range(KEYS):
            sent = client.send("users", f"user-{n}", u.RegisterUser("0", "France"), wait=WAIT_S)
            assert isinstance(sent, Accepted)
            latest[f"user-{n}"] = 0, sent.position

        def read(key: str) -> None:
            name, token = latest[key]
            row = query.get("users", key, at_least=token, wait=30)
            if int(row["row"]["name"]) < name:
                stale.append(f"{key}: {row['row']['name']} and not {name}")
            assert row["position"].positions
            spent[0] += 1

        def write(n: int) -> None:
            key, rng = f"user-{n}", random.Random(n)
            for name in range(1, turns + 1):
                sent = client.send("users", key, u.ChangeName(f"{name}"), wait=WAIT_S)
                assert isinstance(sent, Accepted)
                latest[key] = name, sent.position
                for _ in range(4):
                    read(key if rng.random() < 0.5 else f"user-{rng.randrange(KEYS)}")

        with ThreadPoolExecutor(KEYS + 1) as pool:
            killing = pool.submit(kill, lambda: spent[0], stop)
            writing = [pool.submit(write, n) for n in range(KEYS)]
            try:
                for each in writing:
                    each.result()
            finally:
                stop.set()
            killing.result()
        return stale, query.cache_figures()


def test_what_was_written_is_read(shop: Shop) -> None:
    arguments = [("--service", "users", "--slot", slot) for slot in "01"]
    workers = [shop.worker(*each) for each in arguments]
    until("both serve", lambda: all(worker.addresses() for worker in workers))

    def kill(spent: Callable[[], int], stop: Event) -> None:
        for turn in range(2):
            before = spent()
            until("reads are answered", lambda before=before: spent() > before + 100 or stop.is_set())
            workers[turn].kill()
            workers[turn] = shop.worker(*arguments[turn])

    stale, figures = write_then_read(shop, kill, 25)
    assert stale == []
    assert figures.hits > 50
    assert figures.invalidated > 0

    with shop.query() as plain:
        assert plain.cache_figures() is None
    with QueryClient(shop.bootstrap, shop.topology, 30.0, cache_bytes=CACHE) as query:
        now = query.get("users", "user-1")
        found = query.get("users", "user-1", consistency="eventual", max_age=30)
        assert found.pop("age_s") < 30
        assert found == now
        query.get("users", "user-1", consistency="linearizable")
        for consistency in ("owner", "eventual"):  # nobody; in a partition that has rows, so that there is a place
            with pytest.raises(UnknownKey):
                query.get("users", "user-x", consistency=consistency)
        assert query.cache_figures().hits == 2  # type: ignore[union-attr]
        until("the age is measured", lambda: query.cache_figures().age_s < 2.0)  # type: ignore[union-attr, operator]


def test_the_same_check_sees_a_cache_that_does_not_wait(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(NearCache, "_contains", lambda *_: True)
    worker = shop.worker("--service", "users")
    until("it serves", worker.addresses)
    stale, _ = write_then_read(shop, lambda spent, stop: None, 10)
    assert stale
