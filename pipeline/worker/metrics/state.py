"""The Prometheus metrics of what is kept: local tables, decoded rows in memory, copies, sagas that have not ended."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping

from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from pipeline.adapters.rocksdb.database import StateFigures
from pipeline.engine.places import Places
from pipeline.engine.ports import Clock
from pipeline.model.saga.saga import IN_FLIGHT


class StateCollector(Collector):
    """Collects what the lanes of a process keep. `two_phase`: the sagas that are two-phase commits, by name."""

    def __init__(
        self,
        places: Callable[[], Mapping[str, Places]],
        states: Callable[[], Mapping[str, Mapping[str, StateFigures]]],
        two_phase: Collection[str],
        clock: Clock,
    ) -> None:
        self._places, self._states, self._two_phase, self._clock = places, states, two_phase, clock

    def collect(self) -> Iterator[Metric]:
        ages = GaugeMetricFamily(
            "pipeline_copy_age_seconds",
            "Time for which a replica, or the standbys of a topic's partitions, may lack something",
            labels=["service", "copy", "kind"],
        )
        cache = GaugeMetricFamily("pipeline_cache_bytes", "About what decoded rows take in memory", labels=["service"])
        for service, places in self._places().items():
            for (name, kind), age_s in places.copy_ages().items():
                ages.add_metric([service, name, kind], age_s)
            cache.add_metric([service], places.cache_bytes())
        yield ages
        yield cache
        yield from self._local()
        yield from self._sagas()

    def _local(self) -> Iterator[Metric]:
        size = GaugeMetricFamily(
            "pipeline_state_bytes",
            "Size of the local tables or histories: on disk, or in memory and not on disk yet",
            labels=["service", "kind", "place"],
        )
        rows = GaugeMetricFamily(
            "pipeline_state_rows",
            "About how many rows the local tables or histories have, with index entries and positions",
            labels=["service", "kind"],
        )
        for service, of in self._states().items():
            for kind, figures in of.items():
                size.add_metric([service, kind, "disk"], figures.disk_bytes)
                size.add_metric([service, kind, "memory"], figures.memory_bytes)
                rows.add_metric([service, kind], figures.rows)
        yield size
        yield rows

    def _sagas(self) -> Iterator[Metric]:
        count = GaugeMetricFamily(
            "pipeline_sagas", "Instances of a saga that have not ended, by status", labels=["service", "saga", "status"]
        )
        stuck = GaugeMetricFamily(
            "pipeline_oldest_stuck_saga_seconds",
            "Time for which the instance of a saga that has been stuck longest is stuck; 0 if none is",
            labels=["service", "saga"],
        )
        doubt = GaugeMetricFamily(
            "pipeline_oldest_in_doubt_seconds",
            "Time since the oldest two-phase commit that is not settled began; 0 if there is none",
            labels=["service", "saga"],
        )
        now_ms = self._clock.time_ms()

        def age_s(since_ms: int) -> float:
            return max(0, now_ms - since_ms) / 1000 if since_ms else 0.0

        for service, places in self._places().items():
            for saga, figures in places.sagas().items():
                for status in IN_FLIGHT:
                    count.add_metric([service, saga, status], figures.statuses.get(status, 0))
                stuck.add_metric([service, saga], age_s(figures.stuck_ms))
                if saga in self._two_phase:
                    doubt.add_metric([service, saga], age_s(figures.since_ms))
        yield from (count, stuck, doubt)
