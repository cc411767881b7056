"""A replay check of a topology, from export files or from a broker."""

from __future__ import annotations

from collections.abc import Sequence

from pipeline.adapters.avro.registry import Registry
from pipeline.adapters.avro.served import open_registry
from pipeline.adapters.exported.reading import ExportFile
from pipeline.errors import ExportFileError, TopicError
from pipeline.topology import Topology
from pipeline.verify.change.decisions import AggregateChanges
from pipeline.verify.change.report import ChangeReport, Scope
from pipeline.verify.change.rows import RowChanges
from pipeline.verify.run import Step, open_history
from pipeline.verify.sources.file_schemas import registry_with
from pipeline.verify.sources.files import FileHistory
from pipeline.verify.sources.history import History

ALL = Scope()


def check_files(
    files: Sequence[ExportFile],
    topology: Topology,
    services: tuple[str, ...] = (),
    *,
    scope: Scope = ALL,
    limit: int = 3,
    step: Step = lambda *_: None,
) -> ChangeReport:
    """Return what present code would change of what the files hold. Raises ExportFileError, SchemaError."""
    registry = registry_with(files, topology)
    history = FileHistory(files)
    parts = {name for file in files for name, value in file.about.get("part", {}).items() if value is not None}
    whole = parts <= {"since_ms"}  # where that begins is known of each partition
    report = check(
        history, history.topics(), topology, registry, services, scope=scope, rows=whole, limit=limit, step=step
    )
    if parts:
        report.not_judged[f"files: exported in part ({', '.join(sorted(parts))})"] = len(files)
    if not report.checked["events"]:
        raise ExportFileError(
            f"{', '.join(str(file.path) for file in files)}: no event of {topology.name} is in there; export its "
            "topics with: pipeline export"
        )
    return report


def check_broker(
    bootstrap: str,
    topology: Topology,
    services: tuple[str, ...] = (),
    *,
    scope: Scope = ALL,
    limit: int = 3,
    step: Step = lambda *_: None,
) -> ChangeReport:
    """Return what present code would change of what stands on a broker. Raises PipelineError if it cannot be read."""
    registry = open_registry(topology.schemas)
    with open_history(bootstrap, topology, services, registry) as history:
        return check(history, history.topics(), topology, registry, services, scope=scope, limit=limit, step=step)


def check(
    history: History,
    topics: frozenset[str],
    topology: Topology,
    registry: Registry,
    services: tuple[str, ...] = (),
    *,
    scope: Scope = ALL,
    rows: bool = True,
    limit: int = 3,
    step: Step = lambda *_: None,
) -> ChangeReport:
    """Return what present code would change of a history. Raises TopicError.

    `topics`: those that it has. `rows`: whether it has all that rows are made of.
    """
    chosen = topology.chosen(services)
    aggregates = [AggregateChanges(s.name, aggregate, registry) for s in chosen for aggregate in s.owned]
    projections = [RowChanges(s, projection, registry) for s in chosen for projection in s.projections]
    report = ChangeReport(limit)
    todo = [each for each in aggregates if each.events in topics]
    turns = [(each, n) for each in todo for n in range(history.partitions(each.events))]
    count = len(turns) + len(projections)
    for done, (each, n) in enumerate(turns):
        step(f"{each.name} {n}", done, count)
        each(history, topics, n, scope, report)
    for done, projection in enumerate(projections, len(turns)):
        if projection.topic not in topics:
            continue
        step(projection.name, done, count)
        why = (
            projection.why_not(history, topics, scope) if rows else "the file has only a part of what they are made of"
        )
        if why is not None:
            report.not_judged[f"projection {projection.name}: {why}"] += 1
        else:
            projection(history, topics, scope, report)
    for aggregate in aggregates:
        if aggregate.events not in topics:
            report.not_judged[f"aggregate {aggregate.name}: {aggregate.events} is not recorded"] += 1
    if not turns:
        raise TopicError(f"no event log of {topology.name} is there to be replayed; name the right topology or file")
    step("done", count, count)
    return report
