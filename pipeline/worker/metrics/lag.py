"""The Prometheus metrics of lag, restores and copies: what was measured last, and what memory holds."""

from __future__ import annotations

from collections.abc import Iterator

from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from pipeline.worker.metrics.lag_watch import LagWatch

STALE_S = 60.0  # what was measured longer ago is no longer shown
PARTITION = ["service", "topic", "partition"]


class LagCollector(Collector):
    """Collects the lag of all partitions of a process, and the ages of its copies."""

    def __init__(self, watch: LagWatch) -> None:
        self._watch = watch

    def collect(self) -> Iterator[Metric]:
        yield from self._lags()
        ages = GaugeMetricFamily(
            "pipeline_copy_age_seconds",
            "Time for which a replica, or the standbys of a topic's partitions, may lack something",
            labels=["service", "copy", "kind"],
        )
        cache = GaugeMetricFamily("pipeline_cache_bytes", "About what decoded rows take in memory", labels=["service"])
        for service, places in self._watch.places().items():
            for (name, kind), age_s in places.copy_ages().items():
                ages.add_metric([service, name, kind], age_s)
            cache.add_metric([service], places.cache_bytes())
        yield ages
        yield cache

    def _lags(self) -> Iterator[Metric]:
        records = GaugeMetricFamily(
            "pipeline_lag_records",
            "Records from the committed offset of a partition to the end of its log, transaction markers included",
            labels=PARTITION,
        )
        seconds = GaugeMetricFamily(
            "pipeline_lag_seconds",
            "Time since the next record of a partition to be folded was appended; 0 if there is none",
            labels=PARTITION,
        )
        info = GaugeMetricFamily(
            "pipeline_partition_info", "What a partition waits for; always 1", labels=[*PARTITION, "waits_for"]
        )
        done = GaugeMetricFamily(
            "pipeline_restore_done_records",
            "Changelog records that the restore of a partition has applied, by their offsets",
            labels=PARTITION,
        )
        target = GaugeMetricFamily(
            "pipeline_restore_target_records",
            "Changelog records that the restore of a partition has to apply, by their offsets",
            labels=PARTITION,
        )
        age_s = self._watch.age_s()
        for lag in self._watch.lags if age_s is not None and age_s < STALE_S else ():
            labels = [lag.service, lag.tp.topic, str(lag.tp.partition)]
            info.add_metric([*labels, lag.waits_for.value], 1)
            if lag.records is not None:
                records.add_metric(labels, lag.records)
            if lag.seconds is not None:
                seconds.add_metric(labels, lag.seconds)
            if lag.restore is not None:
                done.add_metric(labels, lag.restore.done)
                target.add_metric(labels, lag.restore.target)
        yield from (records, seconds, info, done, target)
        measured = GaugeMetricFamily(
            "pipeline_lag_age_seconds", "Time since the lag was measured, which needs a broker that answers", labels=[]
        )
        if age_s is not None:
            measured.add_metric([], age_s)
        yield measured
