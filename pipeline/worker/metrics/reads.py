"""The Prometheus metrics of reads over HTTP."""

from __future__ import annotations

from collections.abc import Iterator

from prometheus_client.core import HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

from pipeline.server.reads.timings import ReadTimings
from pipeline.worker.metrics.lanes import add_histogram


class ReadCollector(Collector):
    """Collects how long reads take."""

    def __init__(self, timings: ReadTimings) -> None:
        self._timings = timings

    def collect(self) -> Iterator[Metric]:
        family = HistogramMetricFamily(
            "pipeline_read_seconds",
            "Time that a read over HTTP takes at the worker that was asked, by consistency and status",
            labels=["consistency", "status"],
        )
        for (consistency, status), histogram in sorted(self._timings.by_kind.items()):
            add_histogram(family, [consistency, str(status)], histogram)
        yield family
