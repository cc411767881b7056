"""A request explained from what a broker holds."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from pipeline.adapters.avro.registry import Registry
from pipeline.client.wire.as_of import iso
from pipeline.errors import UnknownCommand
from pipeline.explain.logs import FOUND_MAX, NOTES_MAX, Logs, Looked, Request
from pipeline.explain.rows import rows_of
from pipeline.explain.sagas import sagas_of
from pipeline.explain.steps import add_parked, steps_of
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
    return _story(logs, topology, [request.id], (aggregate, key), _which(request, is_last=version is None))


def tell_of_id(
    history: History, topology: Topology, registry: Registry, id_: str, since: str, looked: Looked = lambda *_: None
) -> Story:
    """Follow the request with that id, or that has a command with it, through a history.

    `since`: from when on the history has records, for people. Raises UnknownCommand.
    """
    logs = Logs(history, topology, registry, looked)
    requests = logs.requests_with(id_)
    story = _story(logs, topology, requests, None, f"of what was stored since {since}")
    if not story.steps:
        unread = f"; {'; '.join(logs.notes[:NOTES_MAX])}" if logs.notes else ""
        raise UnknownCommand(
            f"no command or event with the id {id_!r:.200}, nor a request, among what was stored since {since}; "
            f"look further back with --since, such as --since 7d{unread}"
        )
    if len(requests) > 1:
        story.notes.append(f"{len(requests)} requests have the id {id_!r:.200}: {', '.join(sorted(requests))}")
    return story


def _story(logs: Logs, topology: Topology, ids: Iterable[str], of: tuple[str, str] | None, which: str) -> Story:
    """Return the story of requests. `of`: the aggregate and key that were asked for; None: those of the first step."""
    steps = steps_of(logs, logs.find(ids))
    add_parked(logs, topology, steps)
    rows = rows_of(logs, topology, steps)
    cut = [f"there is more: only {FOUND_MAX:,} records of this request are followed"] if logs.cut else []
    aggregate, key = of or ((steps[0].owner.name, steps[0].key) if steps else ("", ""))
    sagas = sagas_of(logs, topology, steps)
    return Story(aggregate, key, steps, rows, [*logs.notes, *cut], which, sagas)


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


def trace(bootstrap: str, topology: Topology, id_: str, since_ms: int, looked: Looked = lambda *_: None) -> Story:
    """Follow the request with that id through what was stored since then on a broker. Raises PipelineError."""
    registry = known_registry(bootstrap, topology)
    with open_history(bootstrap, topology, registry, since_ms=since_ms) as history:
        return tell_of_id(history, topology, registry, id_, iso(since_ms), looked)
