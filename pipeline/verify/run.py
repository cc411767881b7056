"""The checks of a topology, one after another."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import NamedTuple

from pipeline.adapters.avro.registry import Registry
from pipeline.adapters.avro.served import open_registry
from pipeline.adapters.kafka.schemas.topic import SchemasTopic
from pipeline.client.queries import QueryClient
from pipeline.client.wire.as_of import iso
from pipeline.errors import TopologyError
from pipeline.model import Service, TopicKind
from pipeline.topology import Topology
from pipeline.verify.aggregate import AggregateCheck
from pipeline.verify.checks.final import FinalCheck
from pipeline.verify.checks.outputs import reaction_check, route_check
from pipeline.verify.checks.parked import ServiceCheck, source_topics
from pipeline.verify.checks.rows import ProjectionCheck, ReplicaCheck
from pipeline.verify.checks.unique import UniqueCheck
from pipeline.verify.report import Report
from pipeline.verify.sources.decided_since import DecidedSince
from pipeline.verify.sources.history import History
from pipeline.verify.sources.kafka import KafkaHistory, Rows

AFTER_A_WHILE = ("_table", "_table_row", "_value")  # kinds of findings that may be gone when all has settled
Check = Callable[[History, int, Report], None]
Step = Callable[[str, int, int], object]  # (what is checked now, steps done, steps in all)


class Task(NamedTuple):
    """A check, and the topic whose partitions it takes one at a time; None if it takes all of them at once."""

    name: str
    check: Check
    topic: str | None = None


def checks(service: Service, registry: Registry) -> Iterator[Task]:
    """All that is to be checked of a service."""
    yield Task(f"{service.name}: offsets, parked", ServiceCheck(service.name, source_topics(service, registry)))
    for aggregate in service.owned:
        aggregate_check = AggregateCheck(service.name, aggregate, registry)
        yield Task(f"{service.name}: {aggregate.name}", aggregate_check, aggregate_check.commands)
        if aggregate.asks:
            yield Task(f"{service.name}: what {aggregate.name} asks", aggregate_check.asks)
        for unique in aggregate.unique:
            yield Task(f"{service.name}: {unique.name}, unique", UniqueCheck(service.name, aggregate, unique, registry))
    for reaction in service.reactions:
        yield Task(f"{service.name}: {reaction.name}", reaction_check(service, reaction, registry))
    for projection in service.projections:
        if projection.route is not None:
            yield Task(f"{service.name}: {projection.name}, routed", route_check(service, projection, registry))
        projection_check = ProjectionCheck(service, projection, registry)
        yield Task(f"{service.name}: {projection.name}", projection_check, projection_check.home)
    for replica in service.replicas:
        replica_check = ReplicaCheck(service, replica, registry)
        yield Task(f"{service.name}: {replica.name}", replica_check, replica_check.source)


class Judge:
    """Judges one history after another of these services, of all if none is named."""

    def __init__(self, topology: Topology, services: tuple[str, ...] = (), registry: Registry | None = None) -> None:
        registry = registry or Registry(topology.schemas)
        chosen = topology.chosen(services)
        self._tasks = [task for service in chosen for task in checks(service, registry)]
        final = FinalCheck(topology, registry)
        if final.needed and {service.name for service in chosen} == topology.services.keys():
            self._tasks.append(Task(f"{topology.name}: what is final", final))

    def __call__(self, history: History, *, limit: int = 10, step: Step = lambda *_: None) -> Report:
        """What is wrong with that history. Raises PipelineError if it cannot be read."""
        turns = [
            (task, partition)
            for task in self._tasks
            for partition in (range(history.partitions(task.topic)) if task.topic else range(1))
        ]
        report = Report(limit)
        for done, (task, partition) in enumerate(turns):
            step(f"{task.name} {partition}" if task.topic else task.name, done, len(turns))
            report.merge(_settled(history, task.check, partition, limit))
        step("done", len(turns), len(turns))
        return report


def judge(
    history: History,
    topology: Topology,
    services: tuple[str, ...] = (),
    *,
    registry: Registry | None = None,
    limit: int = 10,
    decided_since_ms: int | None = None,
    step: Step = lambda *_: None,
) -> Report:
    """Judge the history of these services, of all if none is named. Raises PipelineError if it cannot be read.

    `registry`: the topology's schemas, with those that others have published; None: those of the topology.
    `decided_since_ms`: commands stored before were decided by other code, and what they have caused is taken as it is.
    """
    chosen = Judge(topology, services, registry)
    if decided_since_ms is None:
        return chosen(history, limit=limit, step=step)
    owners = {TopicKind.COMMAND.topic(a.name): s.name for s in topology.chosen(services) for a in s.owned}
    since = DecidedSince(history, decided_since_ms, owners)
    report = chosen(since, limit=limit, step=step)
    report.not_judged[f"commands stored before {iso(decided_since_ms)}"] = since.left_out
    return report


def _settled(history: History, check: Check, partition: int, limit: int) -> Report:
    """What a check finds; again after a while where it may only not have settled yet."""
    while True:
        report = Report(limit)
        check(history, partition, report)
        if not any(kind.endswith(AFTER_A_WHILE) for kind in report.found) or not history.wait():
            return report


def folded_topics(topology: Topology, services: tuple[str, ...], registry: Registry) -> dict[str, list[str]]:
    """Return the topics that each of these services folds, of all if none is named. Raises TopologyError."""
    if topology.names:
        raise TopologyError(f"{topology.name} calls topics otherwise than declared, which is not understood here")
    return {service.name: sorted(source_topics(service, registry)) for service in topology.chosen(services)}


def known_registry(bootstrap: str, topology: Topology) -> Registry:
    """Return the schemas of a topology, and those that others have published."""
    registry = open_registry(topology.schemas)
    SchemasTopic(bootstrap, registry).catch_up()
    return registry


def open_history(
    bootstrap: str,
    topology: Topology,
    registry: Registry,
    services: tuple[str, ...] = (),
    *,
    since_ms: int | None = None,
) -> KafkaHistory:
    """Return what a broker holds of these services, without tables, as far as it has their topics yet.

    `since_ms`: only records that were stored since then. Raises TopologyError.
    """
    sources = folded_topics(topology, services, registry)
    return KafkaHistory(bootstrap, sources, None, None, 0.0, lenient=True, since_ms=since_ms)


def verify(
    bootstrap: str,
    topology: Topology,
    services: tuple[str, ...] = (),
    *,
    tables: bool = True,
    rows: Rows | None = None,
    limit: int = 10,
    patience_s: float = 10.0,
    decided_since_ms: int | None = None,
    step: Step = lambda *_: None,
) -> Report:
    """Judge what stands on a broker, and with `tables` what workers answer; the pipeline may be running.

    `rows(table, partition)`: where the tables' rows come from instead. `patience_s`: how long, in all, tables may take
    to catch up with the logs. `limit`: findings kept of each kind. `decided_since_ms`: see `judge`. `step` hears how
    far it is.
    """
    topology.chosen(services)  # raises, where there is none of a name, before a broker is asked
    registry = known_registry(bootstrap, topology)
    sources = folded_topics(topology, services, registry)
    with ExitStack() as open_clients:
        positions = None
        if tables and rows is None:
            client = open_clients.enter_context(QueryClient(bootstrap, topology, patience_s))
            rows = lambda table, partition: client.scan(topology.versioned_name(table), partition=partition)  # noqa: E731
            positions = client.positions
        history = open_clients.enter_context(
            KafkaHistory(bootstrap, sources, rows if tables else None, positions, patience_s)
        )
        return judge(
            history, topology, services, registry=registry, limit=limit, decided_since_ms=decided_since_ms, step=step
        )
