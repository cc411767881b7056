"""How long a lane's work takes, as histograms: one observation a batch or a commit, never one a record.

Written by the lane's thread alone; the web thread reads them for /metrics.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import defaultdict
from collections.abc import Sequence
from functools import partial

from pipeline.engine.ports import Batch

SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)
RECORDS = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1_000, 2_000, 5_000, 10_000, 50_000)
SAMPLES = 4  # of the records of a batch whose age stands for that of all


class Histogram:
    """How many values were observed up to each bound, and their sum. The last count is of those above all bounds."""

    def __init__(self, bounds: Sequence[float]) -> None:
        self.bounds, self.counts, self.sum = bounds, [0] * (len(bounds) + 1), 0.0

    def observe(self, value: float, weight: int = 1) -> None:
        """Count a value so many times."""
        self.counts[bisect_left(self.bounds, value)] += weight
        self.sum += value * weight


class Timings:
    """The histograms of one service. `fold` and `batch` are by source topic."""

    def __init__(self) -> None:
        self.fold: defaultdict[str, Histogram] = defaultdict(partial(Histogram, SECONDS))
        self.batch: defaultdict[str, Histogram] = defaultdict(partial(Histogram, RECORDS))
        self.commit, self.committed_records = Histogram(SECONDS), Histogram(RECORDS)
        self.reply = Histogram(SECONDS)
        self._appended: list[tuple[int, int]] = []  # since the last commit: when commands were, and how many
        self._records = 0  # folded since then

    def folded(self, batch: Batch, folded: int, seconds: float, commands: int) -> None:
        """Observe a batch, of which so many records were folded, and so many commands decided."""
        topic, records = batch.tp.topic, batch.records
        self.fold[topic].observe(seconds)
        self.batch[topic].observe(folded)
        self._records += folded
        samples = min(SAMPLES, commands, folded)
        for n in range(samples):
            of_each = commands * (n + 1) // samples - commands * n // samples
            self._appended.append((records[folded * n // samples].timestamp()[1], of_each))

    def committed(self, seconds: float, now_ms: int) -> None:
        """Observe a commit. Commands folded since the last one have their replies now."""
        self.commit.observe(seconds)
        self.committed_records.observe(self._records)
        for appended_ms, commands in self._appended:
            self.reply.observe(max(0, now_ms - appended_ms) / 1000, commands)
        self.drop()

    def drop(self) -> None:
        """Forget what was folded since the last commit, as it is folded again."""
        self._appended.clear()
        self._records = 0
