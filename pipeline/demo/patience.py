"""How long the demo waits for its workers: as long as something new is seen, on however slow a machine."""

from __future__ import annotations

import time
from collections.abc import Callable, Hashable, Mapping
from typing import TypeVar

from pipeline.demo.worker import Workers
from pipeline.errors import PipelineError, TableUnavailable

STALLED_S = 120.0  # without anything new for this long, the demo gives up
HOLDS_S = 5.0  # between looks at whether a service is held

T = TypeVar("T")


class Patience:
    """One wait. `holds`: why services fold nothing at present, by service."""

    def __init__(
        self,
        workers: Workers,
        holds: Callable[[], Mapping[str, str]],
        stalled_s: float = STALLED_S,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._workers, self._holds, self._stalled_s, self._clock = workers, holds, stalled_s, clock
        self._seen: set[Hashable] = set()
        self._moved_s = self._looked_s = clock()

    def look(self, seen: Hashable) -> bool:
        """Return False if nothing has been seen for long that was not seen before, as `seen` is now.

        Raises PipelineError if the workers have failed, or a service is held, which the demo itself does not resume.
        """
        self._workers.revive()
        now = self._clock()
        if seen not in self._seen:
            self._seen.add(seen)
            self._moved_s = now
        if now - self._looked_s > HOLDS_S:
            if held := self._holds():
                raise PipelineError("; ".join(held.values()))
            self._looked_s = self._clock()
        return now - self._moved_s <= self._stalled_s

    def read(self, read: Callable[[], T]) -> T:
        """Return what `read` does, repeated while tables are unavailable. Raises PipelineError."""
        while True:
            try:
                return read()
            except TableUnavailable as error:
                if not self.look(str(error)):
                    raise self.stalled(str(error)) from None

    def stalled(self, what: str) -> PipelineError:
        """Return the error that ends the wait."""
        return PipelineError(f"{what}; nothing new for {self._stalled_s:.0f} s; the log says why: {self._workers.log}")
