"""Clients that read the tables of a running topology: one for threads, one for asyncio, with the same methods.

They look up a partition's owner in Kafka and ask it directly. The methods are documented in `requests`.
"""

from __future__ import annotations

from functools import partial

from prometheus_client import CollectorRegistry

from pipeline.adapters.kafka import admin
from pipeline.adapters.kafka.owners import Router
from pipeline.client.facade import Async, Facade, Sync, call, call_async, each, each_async
from pipeline.client.near_cache.cache import Figures
from pipeline.client.near_cache.thread import NearCacheThread
from pipeline.client.requests import Requests
from pipeline.client.wire.access import Access, Given
from pipeline.topology import Topology, check_topology


class _Opening(Facade[Requests]):
    def __init__(
        self,
        bootstrap: str,
        topology: Topology,
        patience_s: float = 5.0,
        *,
        eventual: bool = False,
        cache_bytes: int = 0,
        registry: CollectorRegistry | None = None,
        token: Given = None,
    ) -> None:
        check_topology(topology)
        access = Access(token)
        router = Router(admin(bootstrap), topology)
        make = partial(Requests, router, patience_s, eventual=eventual)
        if cache_bytes:
            thread = NearCacheThread(bootstrap, topology, cache_bytes, registry)
            self._open(make(near=thread.cache, end=thread.close), access)
        else:
            self._open(make(), access)

    def cache_figures(self) -> Figures | None:
        """Return the figures of the near cache; None if there is none."""
        return None if self._steps.near is None else self._steps.near.figures()


class QueryClient(_Opening, Sync[Requests]):
    """Reads tables of a running topology. Safe to use from several threads. Use as a context manager.

    `patience_s`: how long to retry while no worker can answer for a partition. `eventual`: by default, also read from
    standbys; each answer then says in `age_s` how old it may be.

    `cache_bytes`: size of the near cache, 0 for none. It serves `get` with `at_least` or eventual consistency if its
    row is new enough. `cache_figures` returns its figures, and `registry` receives them as metrics.

    `token`: the access token for workers that ask for one, `@` and the path of a file with it, or a function that
    returns it; by default what PIPELINE_TOKEN says. See docs/security.md.
    """

    get = call(Requests.get)
    get_many = call(Requests.get_many)
    read_together = call(Requests.read_together)
    scan = each(Requests.scan)
    watch = each(Requests.watch)
    history = each(Requests.history)
    state_as_of = call(Requests.state_as_of)
    deadlines = call(Requests.deadlines)
    sagas = each(Requests.sagas)
    saga = call(Requests.saga)
    positions = call(Requests.positions)


class AsyncQueryClient(_Opening, Async[Requests]):
    """Reads tables of a running topology, in one event loop. Use as an asynchronous context manager.

    Takes the arguments of QueryClient. `await client.get(...)`, `async for row in client.scan(...)`.
    """

    get = call_async(Requests.get)
    get_many = call_async(Requests.get_many)
    read_together = call_async(Requests.read_together)
    scan = each_async(Requests.scan)
    watch = each_async(Requests.watch)
    history = each_async(Requests.history)
    state_as_of = call_async(Requests.state_as_of)
    deadlines = call_async(Requests.deadlines)
    sagas = each_async(Requests.sagas)
    saga = call_async(Requests.saga)
    positions = call_async(Requests.positions)
