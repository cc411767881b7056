"""A request explained from what a broker holds."""

from __future__ import annotations

from collections.abc import Sequence

from pipeline.adapters.avro.registry import Registry
from pipeline.explain.logs import FOUND_MAX, Logs, Looked, Request
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
    request = logs.request_of(aggregate, key, version)
    found = logs.find(request.id)
    steps = steps_of(logs, found)
    rows = rows_of(logs, topology, steps)
    cut = [f"there is more: only {FOUND_MAX:,} records of this request are followed"] if logs.cut else []
    return Story(aggregate, key, steps, rows, [*logs.notes, *cut], _which(request, is_last=version is None))


def _which(request: Request, *, is_last: bool) -> str:
    """Return which of an aggregate's requests it is, and how to see another."""
    which = "the last request" if is_last else "the request"
    of = f" of {request.last}; behind another event: --version N" if request.last else ""
    return f"{which}, behind {_events(request.versions)}{of}"


def _events(versions: Sequence[int]) -> str:
    if not versions:
        return "no event"
    first, last = min(versions), max(versions)
    return f"event {first}" if first == last else f"events {first} to {last}"


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
