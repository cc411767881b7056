"""The thread that follows row topics for a client's near cache, and the cache's metrics."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Iterator

from prometheus_client import CollectorRegistry, Metric
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.registry import Collector

from pipeline.adapters.kafka import KafkaLogReader
from pipeline.client.near_cache.cache import Figures, NearCache
from pipeline.flow import Lineage
from pipeline.topology import Topology

log = logging.getLogger(__name__)

POLL_S = 0.05
PAUSE_S = 1.0  # before another try after an error


class NearCacheThread:
    """A near cache of at most `limit` bytes. Its thread follows once the first row is cached."""

    def __init__(self, bootstrap: str, topology: Topology, limit: int, registry: CollectorRegistry | None) -> None:
        self._wake, self._closed = threading.Event(), False
        lineage = Lineage(topology.services.values())
        self.cache = NearCache(limit, lineage, topology.names, time.monotonic, self._wake.set)
        self._bootstrap, self._registry, self._collector = bootstrap, registry, _Collector(self.cache)
        if registry is not None:
            registry.register(self._collector)
        self._thread = threading.Thread(target=self._run, name="near-cache", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """End the thread."""
        self._closed = True
        self._wake.set()
        self._thread.join()
        if self._registry is not None:
            self._registry.unregister(self._collector)

    def _run(self) -> None:
        while not self._closed:
            try:
                self._sleep_while_idle()
                if not self._closed:
                    self._follow()
            except Exception as error:  # reads go to workers meanwhile
                log.warning("the near cache starts over: %s", error)
                self.cache.clear()
                if not self._closed:
                    time.sleep(PAUSE_S)

    def _follow(self) -> None:
        reader = KafkaLogReader(self._bootstrap, "near-cache")
        try:
            while not self._closed:
                self.cache.step(reader, POLL_S)
                self._sleep_while_idle()
        finally:
            reader.close()

    def _sleep_while_idle(self) -> None:
        self._wake.clear()
        if self.cache.idle and not self._closed:
            self._wake.wait()


class _Collector(Collector):
    """The cache's figures as Prometheus metrics."""

    def __init__(self, cache: NearCache) -> None:
        self._cache = cache

    def collect(self) -> Iterator[Metric]:
        figures: Figures = self._cache.figures()
        reads = CounterMetricFamily("pipeline_near_cache_reads", "reads of rows, by result", labels=["result"])
        for result in ("hits", "misses", "behind"):
            reads.add_metric([result], getattr(figures, result))
        yield reads
        dropped = CounterMetricFamily("pipeline_near_cache_dropped", "rows dropped, by cause", labels=["cause"])
        for cause in ("invalidated", "evicted"):
            dropped.add_metric([cause], getattr(figures, cause))
        yield dropped
        yield GaugeMetricFamily("pipeline_near_cache_bytes", "memory that cached rows take", figures.bytes)
        yield GaugeMetricFamily("pipeline_near_cache_rows", "rows in the cache", figures.rows)
        age_s = 0.0 if figures.age_s is None else figures.age_s
        yield GaugeMetricFamily("pipeline_near_cache_age_seconds", "how long rows may be outdated at most", age_s)
