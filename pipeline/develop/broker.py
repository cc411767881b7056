"""The local Kafka of `pipeline dev`: started with it, started again on its data if it ends, and ended with it."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from pipeline.broker import local
from pipeline.errors import LocalBrokerError
from pipeline.process import Children

LOOK_S = 1.0
CALM_S = 300.0  # one that has run so long has a fresh count
TRIES = 3  # of starting it again


class LocalBroker:
    """The broker of a home. One that ran before is used, and left running, as all are with `keep`."""

    def __init__(self, home: Path, children: Children, say: Callable[[str], None], *, keep: bool) -> None:
        self._home, self._children, self._say = home, children, say
        self._directory = home / "broker"
        self._keep = keep
        self._deaths = 0
        self._looked_s = self._started_s = 0.0
        self._running: local.Running | None = None

    def start(self, *, fresh: bool) -> str:
        """Start it, unless it runs. Return its address. `fresh`: delete its data and the tables first."""
        found = None if fresh else local.find(self._directory)
        self._keep = self._keep or found is not None
        if fresh:
            local.down(self._directory)
            shutil.rmtree(self._home / "state", ignore_errors=True)
        if found is None:
            self._say("starting a local Kafka …")
        return self._up(fresh=fresh)

    def _up(self, *, fresh: bool = False) -> str:
        guard = None if self._keep else self._children
        self._running = local.up(self._directory, fresh=fresh, say=self._say, guard=guard)
        self._started_s = time.monotonic()
        return self._running.bootstrap

    def look(self) -> str | None:
        """Start it again if it has ended. Return its address then, which mostly is what it was.

        Raises LocalBrokerError if it goes on ending.
        """
        now = time.monotonic()
        if self._running is None or now - self._looked_s < LOOK_S:
            return None
        self._looked_s = now
        if local.find(self._directory) is not None:
            return None
        log = self._directory / "broker.log"
        self._deaths = 1 if now - self._started_s > CALM_S else self._deaths + 1
        if self._deaths > TRIES:
            raise LocalBrokerError(
                f"the local Kafka has ended by itself {self._deaths} times; see its log: {log}; its data is kept: "
                "start again once the cause is gone, or begin with nothing there: pipeline dev TOPOLOGY --fresh"
            )
        before = log.with_name("broker.before.log")
        with suppress(OSError):
            log.replace(before)
        self._say(f"the local Kafka has ended by itself; its log: {before}; starting it again on its data …")
        self._children.release(self._running.pid)
        address = self._up()
        self._say("the local Kafka runs again; the services go on")
        return address

    def stop(self) -> None:
        """End it, unless it is to stay."""
        if not self._keep:
            self._say("stopping the local Kafka …")
            local.down(self._directory)
