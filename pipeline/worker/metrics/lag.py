"""The Prometheus metrics of lag and restores: what was measured last."""

from __future__ import annotations

from collections.abc import Iterator

from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from pipeline.worker.metrics.lag_watch import LagWatch

STALE_S = 60.0  # what was measured longer ago is no longer shown
PARTITION = ["service", "topic", "partition"]


class LagCollector(Collector):
    """Collects the lag of all partitions of a process."""

    def __init__(self, watch: LagWatch) -> None:
        self._watch = watch

    def collect(self) -> Iterator[Metric]:
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
