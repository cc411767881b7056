"""What /metrics shows of each lane, read from its counters when asked."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from pipeline.engine.stats import LaneStats

COUNTERS = {
    "records": "Records folded, of all source topics",
    "commands": "Commands decided",
    "events": "Events appended",
    "repeated": "Commands whose id was answered before",
    "replies": "Replies sent",
    "scheduled": "Commands that were put off until they are due",
    "deadlines_set": "Deadlines set",
    "deadlines_cancelled": "Deadlines cancelled",
    "asked": "Commands that aggregates, sagas among them, have sent to others",
    "deadlines_fired": "Commands sent as they were due, scheduled ones among them",
    "deadlines_late_s": "Seconds between when these were due and when they were sent",
    "undeliverable_replies": "Replies to a topic that does not exist, or that is none of replies",
    "parked": "Records parked for a cause of their own",
    "redriven": "Parked records that were folded at last",
    "discarded": "Parked records that were thrown away",
    "tried_again": "Records tried again after a transient error",
    "barriers": "Barriers of linearizable reads, stepped over",
    "skipped_by_replica": "Records that a replica could not follow",
    "history_events": "Events taken into histories",
    "skipped_by_history": "Records that a history lacks, as they could not be read",
    "checkpoints": "Transactions committed",
    "checkpoint_s": "Seconds spent in checkpoints",
    "aborts": "Transactions aborted",
    "restored": "Changelog records rolled forward",
    "reopened": "Times the service's lane was closed after an error and opened again",
}
METRIC_NAMES = {
    "checkpoint_s": "checkpoint_seconds",
    "deadlines_late_s": "deadlines_late_seconds",
}  # Prometheus spells units out
GAUGES = {
    "partitions_assigned": ("assigned", "Partitions held"),
    "partitions_restoring": ("restoring", "Partitions held that do not fold yet"),
    "partitions_standby": ("standbys", "Partitions of other workers that are followed"),
    "deadlines_pending": ("deadlines_pending", "Deadlines and scheduled commands that are still to come"),
    "held_keys": ("held_keys", "Keys that have parked records"),
    "queued_records": ("queued", "Records that are parked, or wait behind one that is"),
    "histories_building": ("histories_building", "Histories that do not answer yet"),
    "event_loop_late_seconds": ("loop_late_s", "The longest that the event loop came too late, within a minute"),
    "held_back_seconds": ("held_back_s", "For how long a transaction that somebody left open has held the service up"),
}


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
        for name, (field, text) in GAUGES.items():
            gauge = GaugeMetricFamily(f"pipeline_{name}", text, labels=["service"])
            for service, stats in self._lanes.items():
                gauge.add_metric([service], getattr(stats, field))
            yield gauge
        wiped = CounterMetricFamily(
            "pipeline_wiped", "Local stores thrown away and restored", labels=["service", "reason"]
        )
        for service, stats in self._lanes.items():
            for why, count in list(stats.wiped.items()):
                wiped.add_metric([service, why.name.lower()], count)
        yield wiped
        late = CounterMetricFamily(
            "pipeline_late", "Events left out, as they came too late for their window", labels=["service", "projection"]
        )
        for service, stats in self._lanes.items():
            for projection, count in list(stats.late.items()):
                late.add_metric([service, projection], count)
        yield late
        rejected = CounterMetricFamily(
            "pipeline_rejected", "Commands rejected", labels=["service", "aggregate", "reason"]
        )
        for service, stats in self._lanes.items():
            for (aggregate, reason), count in list(stats.rejected.items()):
                rejected.add_metric([service, aggregate, reason], count)
        yield rejected
