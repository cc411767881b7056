"""For how long transactions that others have left open hold records back from a lane."""

from __future__ import annotations

from collections.abc import Sequence

from pipeline.engine.ports import TP, Clock, Polled


class HeldBack:
    """Partitions that an open transaction holds back, and since when."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._since_s: dict[TP, float] = {}

    def look(self, polled: Polled) -> float:
        """Take in what a poll says. Return for how many seconds the one that waits longest has waited."""
        now = self._clock.monotonic_s()
        for tp in (*polled.batches, *polled.ends):
            if tp in polled.held_back and tp in polled.batches:
                self._since_s[tp] = now  # it went on up to here
            elif tp in polled.held_back:
                self._since_s.setdefault(tp, now)
            else:
                self._since_s.pop(tp, None)
        return now - min(self._since_s.values(), default=now)

    def seconds(self, tp: TP) -> float:
        """For how long a partition has been held back. Safe from any thread."""
        now = self._clock.monotonic_s()
        return now - self._since_s.get(tp, now)

    def forget(self, partitions: Sequence[TP]) -> None:
        """Forget partitions that are given up."""
        for tp in partitions:
            self._since_s.pop(tp, None)
