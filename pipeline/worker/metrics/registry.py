"""All metrics of a worker process, in one registry."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from prometheus_client import CollectorRegistry, ProcessCollector

from pipeline.adapters.rocksdb.database import StateFigures
from pipeline.engine.ports import Clock
from pipeline.topology import Topology
from pipeline.worker.host import LaneHost
from pipeline.worker.metrics.lag import LagCollector
from pipeline.worker.metrics.lag_watch import LagWatch
from pipeline.worker.metrics.lanes import LaneCollector
from pipeline.worker.metrics.state import StateCollector


def registry_of(hosts: Sequence[LaneHost], topology: Topology, lag: LagWatch, clock: Clock) -> CollectorRegistry:
    """Return the registry of what lanes count and keep, and of the process itself."""
    registry = CollectorRegistry()
    registry.register(LaneCollector({host.plan.service.name: host.stats for host in hosts}, clock))
    registry.register(LagCollector(lag))

    def sizes() -> Mapping[str, Mapping[str, StateFigures]]:
        return {host.plan.service.name: host.sizes() for host in hosts}

    two_phase = [saga.name for saga in topology.sagas.values() if "commit" in saga.actions]
    registry.register(StateCollector(lag.places, sizes, two_phase, clock))
    ProcessCollector(registry=registry)
    return registry
