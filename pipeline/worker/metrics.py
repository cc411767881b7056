"""The Prometheus metrics of each lane, read from its counters at each scrape."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from pipeline.engine.stats import LaneStats

COUNTERS = {
    "records": "Records folded, of all source topics",
    "commands": "Commands decided",
    "events": "Events appended",
    "repeated": "Commands received again under an id that was answered before",
    "replies": "Replies sent",
    "scheduled": "Commands put off until they are due",
    "deadlines_set": "Deadlines set",
    "deadlines_cancelled": "Deadlines cancelled",
    "asked": "Commands sent to other aggregates by aggregates and sagas",
    "deadlines_fired": "Deadlines and scheduled commands sent when due",
    "deadlines_late_s": "Seconds between due time and sending, summed over all deadlines and scheduled commands fired",
    "undeliverable_replies": "Replies addressed to a missing topic or to one that is no reply topic",
    "parked": "Records parked because of an error of their own",
    "misplaced": "Records parked because their key belongs to another partition",
    "redriven": "Parked records redriven with success",
    "discarded": "Parked records discarded",
    "tried_again": "Retries of records after a transient error",
    "barriers": "Barriers of linearizable reads found in source topics",
    "skipped_by_replica": "Undecodable records skipped by a replica",
    "history_events": "Events added to histories",
    "skipped_by_history": "Undecodable records missing from a history",
    "checkpoints": "Transactions committed",
    "checkpoint_s": "Seconds spent in checkpoints",
    "aborts": "Transactions aborted",
    "restored": "Changelog records applied to local tables by restores and standbys",
    "reopened": "Restarts of the service's lane after an error",
}
METRIC_NAMES = {  # where the counter's own name says too little without its text, and units spelled out
    "repeated": "duplicate_commands",
    "asked": "asks",
    "tried_again": "retries",
    "restored": "restored_records",
    "reopened": "lane_restarts",
    "checkpoint_s": "checkpoint_seconds",
    "deadlines_late_s": "deadlines_late_seconds",
}
GAUGES = {
    "partitions_assigned": ("assigned", "Partitions assigned to the worker"),
    "partitions_restoring": ("restoring", "Assigned partitions whose tables are still being restored"),
    "partitions_standby": ("standbys", "Partitions of other workers with a standby copy here"),
    "deadlines_pending": ("deadlines_pending", "Deadlines and scheduled commands not yet due"),
    "parked_keys": ("held_keys", "Keys with at least one parked record"),
    "held": ("held", "Whether the service folds nothing until it is resumed, as too many records raised: 1 or 0"),
    "queued_records": ("queued", "Records parked or waiting behind a parked one of the same key"),
    "histories_building": ("histories_building", "Histories not yet caught up, which answer no reads"),
    "event_loop_lag_seconds": ("loop_late_s", "Largest delay of the event loop within the last minute"),
    "held_back_seconds": (
        "held_back_s",
        "Time the service has been waiting for a transaction left open by another client",
    ),
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
        copies = GaugeMetricFamily(
            "pipeline_replica_held_keys",
            "Keys of which events wait in a replica: its evolve raises, or they are misplaced",
            labels=["service", "replica"],
        )
        for service, stats in self._lanes.items():
            for replica, count in list(stats.replica_keys.items()):
                copies.add_metric([service, replica], count)
        yield copies
        waiting = GaugeMetricFamily(
            "pipeline_waiting_for_schema",
            "Readers of partitions that stand before a record that they cannot read yet; /v1/status says which",
            labels=["service"],
        )
        for service, stats in self._lanes.items():
            waiting.add_metric([service], len(stats.waiting))
        yield waiting
        wiped = CounterMetricFamily(
            "pipeline_wiped", "Local stores wiped and restored from Kafka", labels=["service", "reason"]
        )
        for service, stats in self._lanes.items():
            for why, count in list(stats.wiped.items()):
                wiped.add_metric([service, why.name.lower()], count)
        yield wiped
        late = CounterMetricFamily(
            "pipeline_late", "Events left out of a window that had closed", labels=["service", "projection"]
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
