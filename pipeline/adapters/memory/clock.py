"""Virtual time: stands still until it is moved, and then lets happen what is due."""

from __future__ import annotations

import heapq
from collections.abc import Callable

EPOCH_MS = 1_700_000_000_000  # virtual time begins then; any moment would do


class MemoryClock:
    """A `Clock` with timers. Those due at one moment go off in the order in which they were set."""

    def __init__(self) -> None:
        self.now_s = 1.0  # not 0: what asks "how long ago" of something that never was must not be told "just now"
        self.next_s = float("inf")  # when the first timer goes off
        self._timers: list[tuple[float, int, Callable[[], None]]] = []
        self._number = 0

    def monotonic_s(self) -> float:
        return self.now_s

    def time_ms(self) -> int:
        return EPOCH_MS + int(self.now_s * 1000)

    def later(self, delay_s: float, call: Callable[[], None]) -> None:
        """Calls once so much time has passed; at once if that is none."""
        if delay_s <= 0:
            call()
            return
        self._number += 1
        heapq.heappush(self._timers, (self.now_s + delay_s, self._number, call))
        self.next_s = self._timers[0][0]

    def advance(self, seconds: float) -> None:
        """Lets so much time pass."""
        until = self.now_s + seconds
        while self.next_s <= until:
            at, _, call = heapq.heappop(self._timers)
            self.next_s = self._timers[0][0] if self._timers else float("inf")
            self.now_s = max(self.now_s, at)
            call()
        self.now_s = max(self.now_s, until)
