"""A request explained from what a broker holds."""

from __future__ import annotations

from pipeline.adapters.avro.registry import Registry
from pipeline.explain.logs import FOUND_MAX, Logs, Looked
from pipeline.explain.rows import rows_of
from pipeline.explain.steps import steps_of
from pipeline.explain.story import Story
from pipeline.topology import Topology
from pipeline.verify.run import known_registry, open_history
from pipeline.verify.sources.history import History


def tell(
    history: History,
    topology: Topology,
    registry: Registry,
    aggregate: str,
    key: str,
    version: int | None = None,
    looked: Looked = lambda *_: None,
) -> Story:
    """Follow the last request to an aggregate, or the one behind its event `version`, through a history.

    Raises UnknownAggregate, UnknownKey.
    """
    logs = Logs(history, topology, registry, looked)
    found = logs.find(logs.request_of(aggregate, key, version))
    steps = steps_of(logs, found)
    rows = rows_of(logs, topology, steps)
    cut = [f"there is more: only {FOUND_MAX:,} records of this request are followed"] if logs.cut else []
    return Story(aggregate, key, steps, rows, [*logs.notes, *cut])


def explain(
    bootstrap: str,
    topology: Topology,
    aggregate: str,
    key: str,
    version: int | None = None,
    looked: Looked = lambda *_: None,
) -> Story:
    """Follow a request through the logs on a broker; no worker has to run. Raises PipelineError."""
    registry = known_registry(bootstrap, topology)
    with open_history(bootstrap, topology, registry) as history:
        return tell(history, topology, registry, aggregate, key, version, looked)
