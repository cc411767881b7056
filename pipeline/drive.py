"""Drives a generator of steps: it says what to do, its driver does it. In the calling thread, or in an event loop."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Generator
from functools import partial
from typing import Any, TypeVar

S = TypeVar("S")
T = TypeVar("T")


def drive(steps: Generator[S, Any, T], take: Callable[[S], Any]) -> T:
    """Do each step by `take`; send what it returns and throw what it raises. Return what the steps return."""
    go_on = partial(next, steps)
    try:
        while True:
            step = go_on()
            try:
                go_on = partial(steps.send, take(step))
            except Exception as error:
                go_on = partial(steps.throw, error)
    except StopIteration as done:
        value: T = done.value
        return value
    finally:
        steps.close()


async def drive_async(steps: Generator[S, Any, T], take: Callable[[S], Awaitable[Any]]) -> T:
    """Do each step by `take`, and await it; send what it returns and throw what it raises."""
    go_on = partial(next, steps)
    try:
        while True:
            step = go_on()
            try:
                go_on = partial(steps.send, await take(step))
            except Exception as error:
                go_on = partial(steps.throw, error)
    except StopIteration as done:
        value: T = done.value
        return value
    finally:
        steps.close()
