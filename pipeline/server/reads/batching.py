"""Combines concurrent requests to the broker, and wakes readers that wait for a position."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection, Hashable, Mapping
from typing import Generic, TypeVar

from pipeline.errors import Overloaded, PipelineError

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")
WAITING_MAX = 50_000


class Batched(Generic[K, V]):
    """Combines requests for keys: one is in flight, and keys requested meanwhile are in the next one.

    So every answer is to a request made after the caller asked. For one event loop. `ask(keys)` returns what it can;
    `missing(key)`: the error for callers whose key is absent from its answer.
    """

    def __init__(
        self, ask: Callable[[Collection[K]], Awaitable[Mapping[K, V]]], missing: Callable[[K], PipelineError]
    ) -> None:
        self._ask, self._missing = ask, missing
        self._waiting: dict[K, asyncio.Future[V]] = {}
        self._running: asyncio.Task[None] | None = None

    async def get(self, key: K) -> V:
        """Return the answer for one key."""
        if key not in self._waiting:
            self._waiting[key] = asyncio.get_running_loop().create_future()
        future = self._waiting[key]
        if self._running is None or self._running.done():
            self._running = asyncio.create_task(self._run())
        return await asyncio.shield(future)  # other callers wait for it, too

    async def _run(self) -> None:
        while self._waiting:
            asked, self._waiting = self._waiting, {}
            try:
                answers = await self._ask(asked.keys())
            except BaseException as error:
                for future in asked.values():
                    future.set_exception(error if isinstance(error, Exception) else asyncio.CancelledError())
                    future.exception()  # mark it as retrieved, in case no caller waits any more
                if not isinstance(error, Exception):
                    raise
                continue
            for key, future in asked.items():
                if key in answers:
                    future.set_result(answers[key])
                else:
                    future.set_exception(self._missing(key))
                    future.exception()


class Waiting(Generic[K]):
    """Readers that wait until a key's offset has passed some value.

    `reached(key)`: the present offset; the readers of a key get what it raises.
    """

    def __init__(self, reached: Callable[[K], int]) -> None:
        self._reached = reached
        self._open: dict[K, dict[asyncio.Future[None], int]] = {}
        self._ended: Callable[[], PipelineError] | None = None

    @property
    def keys(self) -> list[K]:
        """The keys that readers wait for."""
        return list(self._open)

    async def past(self, key: K, offset: int, until_s: float) -> bool:
        """Wait until `key` is past `offset`. False if it is not by `until_s` of the event loop's clock."""
        if self._reached(key) > offset:
            return True
        if self._ended is not None:
            raise self._ended()
        if sum(map(len, self._open.values())) >= WAITING_MAX:
            raise Overloaded(f"{WAITING_MAX} readers wait already; ask again later")
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._open.setdefault(key, {})[future] = offset
        try:
            async with asyncio.timeout_at(until_s):
                await future
            return True
        except TimeoutError:
            return self._reached(key) > offset
        finally:
            left = self._open.get(key, {})
            left.pop(future, None)
            if not left:
                self._open.pop(key, None)

    def end(self, why: Callable[[], PipelineError]) -> None:
        """End all waits, now and later, with the error `why()`."""
        self._ended = why
        for waiters in self._open.values():
            for future in waiters:
                if not future.done():
                    future.set_exception(why())

    def moved(self) -> None:
        """Look up each key's offset once, and wake the readers whose wait is over."""
        for key, waiters in list(self._open.items()):
            try:
                reached = self._reached(key)
            except Exception as error:  # for the readers: the caller is a lane
                for future in waiters:
                    if not future.done():
                        future.set_exception(error)
                continue
            for future, offset in waiters.items():
                if offset < reached and not future.done():
                    future.set_result(None)
