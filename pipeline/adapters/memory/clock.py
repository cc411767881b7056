"""Virtual time: it stands still until it is advanced, and then runs the timers that are due."""

from __future__ import annotations

import heapq
from collections.abc import Callable

EPOCH_MS = 1_700_000_000_000  # the start of virtual time; arbitrary


class MemoryClock:
    """A `Clock` with timers. Those due at the same moment run in the order in which they were set."""

    def __init__(self) -> None:
        self.now_s = 1.0  # not 0: otherwise "how long ago" of something that never happened would be "just now"
        self.next_s = float("inf")  # when the first timer is due
        self._timers: list[tuple[float, int, Callable[[], None]]] = []
        self._number = 0

    def monotonic_s(self) -> float:
        return self.now_s

    def time_ms(self) -> int:
        return EPOCH_MS + int(self.now_s * 1000)

    def later(self, delay_s: float, call: Callable[[], None]) -> None:
        """Run `call` after a delay; at once if there is none."""
        if delay_s <= 0:
            call()
            return
        self._number += 1
        heapq.heappush(self._timers, (self.now_s + delay_s, self._number, call))
        self.next_s = self._timers[0][0]

    def advance(self, seconds: float) -> None:
        """Advance the time, and run the timers that are due."""
        until = self.now_s + seconds
        while self.next_s <= until:
            at, _, call = heapq.heappop(self._timers)
            self.next_s = self._timers[0][0] if self._timers else float("inf")
            self.now_s = max(self.now_s, at)
            call()
        self.now_s = max(self.now_s, until)
