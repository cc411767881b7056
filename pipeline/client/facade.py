"""Makes the methods of two clients, one for threads and one for asyncio, from one list of steps.

A method is declared once, as steps without I/O, with its parameters, defaults and docstring. `call` and `each` turn it
into a method of a Sync client, `call_async` and `each_async` into one of an Async client. A method takes the steps of
its name from the object that the client has, which may stand in for another: see `over`.
"""

from __future__ import annotations

import asyncio
import copy
import functools
import inspect
import re
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from typing import Any, Concatenate, Generic, ParamSpec, Protocol, Self, TypeVar

from pipeline.client.drive import AsyncDriver, Driver
from pipeline.client.owner_request import Steps, Stream
from pipeline.client.wire.access import Access

P = ParamSpec("P")
T = TypeVar("T")


class Closable(Protocol):
    """The object whose methods make a client's steps. `close` blocks."""

    def close(self) -> None: ...


S = TypeVar("S", bound=Closable, covariant=True)


class Facade(Generic[S]):
    """The base of both kinds of client."""

    _steps: S
    _lent = False  # whether its connections are another's

    def _open(self, steps: Any, access: Access) -> None:
        self._steps = steps


class Sync(Facade[S]):
    """A client for threads; a context manager."""

    def _open(self, steps: Any, access: Access) -> None:
        super()._open(steps, access)
        self._driver = Driver(access)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Send what is queued, if the client sends commands, and close the connections."""
        if self._lent:
            return
        try:
            self._steps.close()
        finally:
            self._driver.close()


class Async(Facade[S]):
    """A client for one event loop; an asynchronous context manager."""

    def _open(self, steps: Any, access: Access) -> None:
        super()._open(steps, access)
        self._driver = AsyncDriver(access)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Send what is queued, if the client sends commands, and close the connections."""
        if self._lent:
            return
        try:
            await asyncio.to_thread(self._steps.close)
        finally:
            await self._driver.close()


F = TypeVar("F", bound=Facade[Any])


def over(client: F, wrap: Callable[[Any], Any]) -> F:
    """Return a client over the connections of another, whose steps `wrap` makes of its. Its `close` closes nothing."""
    own = copy.copy(client)
    own._steps, own._lent = wrap(client._steps), True
    return own


def call(steps: Callable[Concatenate[S, P], Steps[T]]) -> Callable[Concatenate[Sync[S], P], T]:
    """Make the method that returns the result of the steps."""

    def method(self: Sync[S], /, *args: P.args, **kwargs: P.kwargs) -> T:
        named: Steps[T] = getattr(self._steps, steps.__name__)(*args, **kwargs)
        return self._driver.run(named)

    return _documented(method, steps, r"\1")


def each(steps: Callable[Concatenate[S, P], Stream[T]]) -> Callable[Concatenate[Sync[S], P], Iterator[T]]:
    """Make the method that returns an iterator over the items of the steps."""

    def method(self: Sync[S], /, *args: P.args, **kwargs: P.kwargs) -> Iterator[T]:
        named: Stream[T] = getattr(self._steps, steps.__name__)(*args, **kwargs)
        return self._driver.each(named)

    return _documented(method, steps, r"Iterator[\1]")


def call_async(
    steps: Callable[Concatenate[S, P], Steps[T]],
) -> Callable[Concatenate[Async[S], P], Coroutine[Any, Any, T]]:
    """Make the coroutine function that returns the result of the steps."""

    async def method(self: Async[S], /, *args: P.args, **kwargs: P.kwargs) -> T:
        named: Steps[T] = getattr(self._steps, steps.__name__)(*args, **kwargs)
        return await self._driver.run(named)

    return _documented(method, steps, r"\1")


def each_async(steps: Callable[Concatenate[S, P], Stream[T]]) -> Callable[Concatenate[Async[S], P], AsyncIterator[T]]:
    """Make the method that returns an asynchronous iterator over the items of the steps."""

    def method(self: Async[S], /, *args: P.args, **kwargs: P.kwargs) -> AsyncIterator[T]:
        named: Stream[T] = getattr(self._steps, steps.__name__)(*args, **kwargs)
        return self._driver.each(named)

    return _documented(method, steps, r"AsyncIterator[\1]")


M = TypeVar("M", bound=Callable[..., Any])


def _documented(method: M, steps: Callable[..., Any], returns: str) -> M:
    """Give a method the name, docstring and parameters of its steps, and the return type that `help` shows."""
    made = functools.wraps(steps)(method)
    signature = inspect.signature(steps)
    shown = re.sub(r"^(?:Steps|Stream)\[(.*)\]$", returns, str(signature.return_annotation))
    made.__signature__ = signature.replace(return_annotation=shown)  # type: ignore[attr-defined]
    made.__annotations__ = {**made.__annotations__, "return": shown}
    return made  # type: ignore[return-value]
