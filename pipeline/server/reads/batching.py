"""One question at a time for all who ask at the same time, and wake-up calls for those who wait."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection, Hashable, Mapping
from typing import Generic, TypeVar

from pipeline.errors import Overloaded, PipelineError

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")
WAITING_MAX = 50_000


class Batched(Generic[K, V]):
    """Asks for many keys at once. Who asks while a question is under way gets the answer to the next one.

    So every answer is to a question that was put after the caller asked. For one event loop. `ask(keys)` answers what
    it can; `missing(key)` is what those get to hear whose key it leaves out.
    """

    def __init__(
        self,
        ask: Callable[[Collection[K]], Awaitable[Mapping[K, V]]],
        missing: Callable[[K], PipelineError],
    ) -> None:
        self._ask, self._missing = ask, missing
        self._waiting: dict[K, asyncio.Future[V]] = {}
        self._running: asyncio.Task[None] | None = None

    async def get(self, key: K) -> V:
        """The answer for one key."""
        if key not in self._waiting:
            self._waiting[key] = asyncio.get_running_loop().create_future()
        future = self._waiting[key]
        if self._running is None or self._running.done():
            self._running = asyncio.create_task(self._run())
        return await asyncio.shield(future)  # others wait for it, too

    async def _run(self) -> None:
        while self._waiting:
            asked, self._waiting = self._waiting, {}
            try:
                answers = await self._ask(asked.keys())
            except BaseException as error:
                for future in asked.values():
                    future.set_exception(error if isinstance(error, Exception) else asyncio.CancelledError())
                    future.exception()  # whoever still waits hears of it; nobody else has to
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
    """Those who wait until something has got past an offset.

    `reached(key)`: the next offset of now; what it raises, those who wait for that key get to hear.
    """

    def __init__(self, reached: Callable[[K], int]) -> None:
        self._reached = reached
        self._open: dict[K, dict[asyncio.Future[None], int]] = {}
        self._ended: Callable[[], PipelineError] | None = None

    @property
    def keys(self) -> list[K]:
        """What is waited for."""
        return list(self._open)

    async def past(self, key: K, offset: int, until_s: float) -> bool:
        """Waits until `key` is past `offset`; False where it is not by `until_s` of the event loop's clock."""
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
        """Whoever waits hears at once that nobody looks any more, and so does whoever comes later."""
        self._ended = why
        for waiters in self._open.values():
            for future in waiters:
                if not future.done():
                    future.set_exception(why())

    def moved(self) -> None:
        """Looks where everything is, once for all that wait for it, and wakes those whose wait is over."""
        for key, waiters in list(self._open.items()):
            try:
                reached = self._reached(key)
            except Exception as error:  # the readers' matter: who calls this is a lane
                for future in waiters:
                    if not future.done():
                        future.set_exception(error)
                continue
            for future, offset in waiters.items():
                if offset < reached and not future.done():
                    future.set_result(None)
