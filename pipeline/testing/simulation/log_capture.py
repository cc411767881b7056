"""Redirects the engine's log to the story of a history."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pipeline.testing.simulation.world import World

ENGINE_LOG = logging.getLogger("pipeline.engine")


class _LogCapture(logging.Handler):
    """A handler that adds each line to the story."""

    def __init__(self, world: World) -> None:
        super().__init__()
        self._world = world

    def emit(self, record: logging.LogRecord) -> None:
        self._world.tell(self._world.running, record.getMessage())


@contextmanager
def engine_log(world: World) -> Iterator[None]:
    """Redirect the engine's log to that world for the time of a history."""
    level, propagate, handler = ENGINE_LOG.level, ENGINE_LOG.propagate, _LogCapture(world)
    ENGINE_LOG.setLevel(logging.INFO if world.telling else logging.CRITICAL + 1)
    ENGINE_LOG.addHandler(handler)
    ENGINE_LOG.propagate = False
    try:
        yield
    finally:
        ENGINE_LOG.setLevel(level)
        ENGINE_LOG.removeHandler(handler)
        ENGINE_LOG.propagate = propagate
