"""What /metrics shows of each lane, read from its counters when asked."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from pipeline.runtime.stats import LaneStats

COUNTERS = {
    "records": "Records folded, of all source topics",
    "commands": "Commands decided",
    "events": "Events appended",
    "parked": "Records parked with their cause",
    "skipped_by_replica": "Records that a replica could not follow",
    "checkpoints": "Transactions committed",
    "checkpoint_s": "Seconds spent in checkpoints",
    "aborts": "Transactions aborted",
    "restored": "Changelog records rolled forward",
    "wiped": "Local stores thrown away and restored",
}
METRIC_NAMES = {"checkpoint_s": "checkpoint_seconds"}  # Prometheus spells units out
GAUGES = {"assigned": "Partitions held", "restoring": "Partitions held that do not fold yet"}


class LaneCollector(Collector):
    """Collects the counters of all lanes of a process."""

    def __init__(self, lanes: Mapping[str, LaneStats]) -> None:
        self._lanes = lanes

    def collect(self) -> Iterator[Metric]:
        for name, text in COUNTERS.items():
            counter = CounterMetricFamily(f"pipeline_{METRIC_NAMES.get(name, name)}", text, labels=["service"])
            for service, stats in self._lanes.items():
                counter.add_metric([service], getattr(stats, name))
            yield counter
        for name, text in GAUGES.items():
            gauge = GaugeMetricFamily(f"pipeline_partitions_{name}", text, labels=["service"])
            for service, stats in self._lanes.items():
                gauge.add_metric([service], getattr(stats, name))
            yield gauge
        rejected = CounterMetricFamily(
            "pipeline_rejected", "Commands rejected", labels=["service", "aggregate", "reason"]
        )
        for service, stats in self._lanes.items():
            for (aggregate, reason), count in list(stats.rejected.items()):
                rejected.add_metric([service, aggregate, reason], count)
        yield rejected
