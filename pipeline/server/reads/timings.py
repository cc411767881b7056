"""How long reads take, by consistency and status: histograms that the event loop alone writes."""

from __future__ import annotations

from collections import defaultdict
from functools import partial

from pipeline.client.wire.read_options import Level, ReadOptions
from pipeline.engine.timings import SECONDS, Histogram

AT_LEAST = "at_least"  # a read of the owner's rows that waits for a token


class ReadTimings:
    """The histograms of one worker's reads, by consistency and HTTP status."""

    def __init__(self) -> None:
        self.by_kind: defaultdict[tuple[str, int], Histogram] = defaultdict(partial(Histogram, SECONDS))

    def observe(self, asked: ReadOptions, status: int, seconds: float) -> None:
        """Count a read."""
        self.by_kind[consistency_of(asked), status].observe(seconds)


def consistency_of(asked: ReadOptions) -> str:
    """Return the name of a read's consistency."""
    return AT_LEAST if asked.at_least and asked.level is Level.OWNER else asked.level.value
