"""The Prometheus metrics of each lane, read from its counters at each scrape."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from itertools import accumulate

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

from pipeline.engine.ports import Clock
from pipeline.engine.stats import LaneStats
from pipeline.engine.timings import Histogram, Timings

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


LABELLED = {  # counters that are kept by a label's value
    "late": ("projection", "Events left out of a window that had closed"),
    "cache_hits": ("table", "Rows that a batch needed and that were in memory, each once a commit"),
    "cache_misses": ("table", "Rows that a batch needed and that were read from the local store, each once a commit"),
}
HISTOGRAMS: dict[str, tuple[Callable[[Timings], Histogram], str]] = {
    "commit_seconds": (
        lambda timings: timings.commit,
        "Time that a commit takes: the transaction and the local tables",
    ),
    "commit_records": (lambda timings: timings.committed_records, "Records that a commit makes durable"),
    "reply_seconds": (
        lambda timings: timings.reply,
        "Time from a command's append to its topic to the commit of its reply; four records stand for a batch",
    ),
}
BY_TOPIC: dict[str, tuple[Callable[[Timings], Mapping[str, Histogram]], str]] = {
    "fold_seconds": (lambda timings: timings.fold, "Time that the fold of one batch of one partition takes"),
    "batch_records": (lambda timings: timings.batch, "Records folded in one batch of one partition"),
}


class LaneCollector(Collector):
    """Collects the counters and histograms of all lanes of a process."""

    def __init__(self, lanes: Mapping[str, LaneStats], clock: Clock) -> None:
        self._lanes, self._clock = lanes, clock

    def collect(self) -> Iterator[Metric]:
        yield from self._plain()
        yield from self._ages()
        yield from self._by_label()
        yield from self._histograms()

    def _plain(self) -> Iterator[Metric]:
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
        waiting = GaugeMetricFamily(
            "pipeline_waiting_for_schema",
            "Readers of partitions that stand before a record that they cannot read yet; /v1/status says which",
            labels=["service"],
        )
        for service, stats in self._lanes.items():
            waiting.add_metric([service], len(stats.waiting))
        yield waiting

    def _ages(self) -> Iterator[Metric]:
        parked = GaugeMetricFamily(
            "pipeline_oldest_parked_seconds",
            "Time for which the record that has waited longest in a queue of its key waits; 0 if none does",
            labels=["service"],
        )
        opened = GaugeMetricFamily(
            "pipeline_open_transaction_seconds",
            "Time for which the transaction that the service folds into is open; 0 if none is",
            labels=["service"],
        )
        now_s, now_ms = self._clock.monotonic_s(), self._clock.time_ms()
        for service, stats in self._lanes.items():
            since_ms, opened_s = stats.parked_since_ms, stats.opened_s
            parked.add_metric([service], max(0, now_ms - since_ms) / 1000 if since_ms else 0)
            opened.add_metric([service], max(0.0, now_s - opened_s) if opened_s else 0)
        yield parked
        yield opened

    def _by_label(self) -> Iterator[Metric]:
        for name, (label, text) in LABELLED.items():
            counter = CounterMetricFamily(f"pipeline_{name}", text, labels=["service", label])
            for service, stats in self._lanes.items():
                for value, count in list(getattr(stats, name).items()):
                    counter.add_metric([service, value], count)
            yield counter
        copies = GaugeMetricFamily(
            "pipeline_replica_held_keys",
            "Keys of which events wait in a replica: its evolve raises, or they are misplaced",
            labels=["service", "replica"],
        )
        for service, stats in self._lanes.items():
            for replica, count in list(stats.replica_keys.items()):
                copies.add_metric([service, replica], count)
        yield copies
        wiped = CounterMetricFamily(
            "pipeline_wiped", "Local stores wiped and restored from Kafka", labels=["service", "reason"]
        )
        for service, stats in self._lanes.items():
            for why, count in list(stats.wiped.items()):
                wiped.add_metric([service, why.name.lower()], count)
        yield wiped
        rejected = CounterMetricFamily(
            "pipeline_rejected", "Commands rejected", labels=["service", "aggregate", "reason"]
        )
        for service, stats in self._lanes.items():
            for (aggregate, reason), count in list(stats.rejected.items()):
                rejected.add_metric([service, aggregate, reason], count)
        yield rejected

    def _histograms(self) -> Iterator[Metric]:
        for name, (of_service, text) in HISTOGRAMS.items():
            family = HistogramMetricFamily(f"pipeline_{name}", text, labels=["service"])
            for service, stats in self._lanes.items():
                add_histogram(family, [service], of_service(stats.timings))
            yield family
        for name, (of_topics, text) in BY_TOPIC.items():
            family = HistogramMetricFamily(f"pipeline_{name}", text, labels=["service", "topic"])
            for service, stats in self._lanes.items():
                for topic, histogram in list(of_topics(stats.timings).items()):
                    add_histogram(family, [service, topic], histogram)
            yield family


def add_histogram(family: HistogramMetricFamily, labels: list[str], histogram: Histogram) -> None:
    """Add what a histogram has counted, as the sums of all buckets up to each bound."""
    bounds = [*(str(float(bound)) for bound in histogram.bounds), "+Inf"]
    family.add_metric(labels, list(zip(bounds, accumulate(list(histogram.counts)), strict=True)), histogram.sum)
