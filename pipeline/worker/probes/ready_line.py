"""Says once, on one line, that a worker is ready."""

from __future__ import annotations

import asyncio
import logging
import time

from pipeline.worker.probes.health import Health

log = logging.getLogger(__name__)

LOOK_S = 0.2
WAITING_S = 30.0  # how often to say what it waits for, until then


class ReadyLine:
    """Looks until the worker is ready. `what`: what is ready then."""

    def __init__(self, health: Health, what: str) -> None:
        self._health, self._what = health, what
        self._began_s = time.monotonic()
        self._looking: asyncio.Task[None] | None = None

    def begin(self) -> None:
        """Begin to look, in the running event loop."""
        self._looking = asyncio.get_running_loop().create_task(self._look())

    async def close(self) -> None:
        """Look no more."""
        if self._looking is not None:
            self._looking.cancel()

    async def _look(self) -> None:
        told_s = time.monotonic()
        while not self._health.ready()[0]:
            now_s = time.monotonic()
            if now_s - told_s >= WAITING_S:
                told_s = now_s
                log.info("not ready after %.0f s: %s", now_s - self._began_s, first_why(self._health))
            await asyncio.sleep(LOOK_S)
        log.info("ready: %s; it took %.1f s", self._what, time.monotonic() - self._began_s, extra={"event": "ready"})


def first_why(health: Health) -> str:
    """Return the first reason why a worker is not ready, and how many more there are."""
    _, told = health.ready()
    whys = [why["detail"] for why in told["why"]]
    for name, service in told["services"].items():
        whys += [": ".join(filter(None, (name, why.get("partition"), why["detail"]))) for why in service["why"]]
    return f"{whys[0] if whys else 'it is now'}{f' (and {len(whys) - 1} more)' if whys[1:] else ''}"
