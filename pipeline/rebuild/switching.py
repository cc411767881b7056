"""Switches readers to another version once all workers can serve it, and drops versions that no reader gets."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import closing
from typing import TypeVar

from confluent_kafka.admin import AdminClient

from pipeline.adapters.kafka import admin
from pipeline.adapters.kafka.owners import Router
from pipeline.adapters.kafka.reader_versions import say
from pipeline.adapters.kafka.topics import partition_counts
from pipeline.client.drive import Driver
from pipeline.client.holds import Holds
from pipeline.client.owner_request import Answer, Blocking, HttpCall, Json, Steps, patiently, problem_of
from pipeline.errors import TableUnavailable, TopicError, TopologyError, Unauthorized, UnknownTable
from pipeline.model import TopicKind
from pipeline.model.projection.versions import declared_name, table_of
from pipeline.rebuild.building import Progress
from pipeline.rebuild.subject import Subject
from pipeline.topology import Topology

T = TypeVar("T")
ANSWER_S = 5.0


def known(router: Router) -> Steps[dict[str, Json]]:
    """Return the versions that each worker declares, as any worker serves any table. Raises TableUnavailable."""
    found = {}
    services = router.topology.services
    workers: set[str] = yield Blocking(lambda: {url for name in services for url in router.workers(name)})
    for worker in sorted(workers):
        answer: Answer | None = yield HttpCall(worker, "/v1/projections", {}, ANSWER_S)
        if answer is None:
            raise TableUnavailable(f"the worker at {worker} does not respond; stop it, or wait until it is gone")
        if isinstance(error := problem_of(answer), Unauthorized):
            raise error
        found[worker] = answer.body if answer.status == 200 else {}
    return found


def asked(router: Router, patience_s: float, attempt: Callable[[], Steps[T]]) -> T:
    """Return the result of an attempt, repeated for `patience_s` while it raises TableUnavailable."""

    def anew() -> Steps[T]:
        router.forget_all()
        return attempt()

    with closing(Driver()) as driver:
        return driver.run(patiently(time.monotonic, patience_s, anew))


def check_ready(router: Router, subject: Subject, progress: Progress) -> Steps[None]:
    """Raise TopologyError unless all workers declare the version.

    Raises TableUnavailable unless all its partitions are owned, and it has caught up with its sources.
    """
    table = router.topology.versioned_name(subject.table)
    for worker, said in (yield from known(router)).items():
        if str(subject.version) not in said.get(subject.name, {}).get("tables", {}):
            raise TopologyError(
                f"the worker at {worker} does not declare version {subject.version} of {subject.name!r}; restart it "
                "with this code"
            )
    yield Blocking(lambda: [router.holder(table, partition) for partition in range(router.partitions(table))])
    yield Blocking(progress.look)
    if not progress.level:
        held = yield from Holds(router, time.monotonic).of((subject.service.name,))
        why = "; ".join([f"{subject.table!r} has not caught up with its sources yet; try again", *held.values()])
        raise TableUnavailable(why)


def check_switched(router: Router, subject: Subject) -> Steps[int]:
    """Return the number of workers. Raises TableUnavailable unless all have switched."""
    now = yield from known(router)
    for worker, said in now.items():
        if said[subject.name]["version"] != subject.version:
            raise TableUnavailable(f"the switch is stored, but the worker at {worker} has not read it yet; try again")
    return len(now)


def switch(bootstrap: str, topology: Topology, subject: Subject, by: str, patience_s: float = 30.0) -> int:
    """Switch readers to that version. Return the number of workers, all of which have switched.

    Raises TopologyError, TableUnavailable, BrokerUnreachable.
    """
    client = admin(bootstrap)
    router, topic = Router(client, topology), TopicKind.VERSIONS.topic(subject.name)
    if topic not in partition_counts(client):
        raise TopicError(
            f"the topic {topic} does not exist; create it with: pipeline projection rebuild {subject.name}"
        )
    progress = Progress(bootstrap, client, subject)
    try:
        asked(router, patience_s, lambda: check_ready(router, subject, progress))
    finally:
        progress.close()
    say(bootstrap, topic, subject.name, subject.version, by)
    return asked(router, patience_s, lambda: check_switched(router, subject))


def droppable(client: AdminClient, topology: Topology, name: str, current: int, patience_s: float = 15.0) -> list[str]:
    """Return the topics of all versions before `current`. Raises TopologyError if one is still declared.

    Also raises UnknownTable, TableUnavailable.
    """
    there, services = partition_counts(client), topology.services.values()
    owner = next((s.part_of or s.name for s in services for p in s.projections if declared_name(p) == name), None)
    if owner is None:
        raise UnknownTable(f"no projection {name!r} in {topology.name}")
    folded = [(f"the topology {topology.name}", topology.versions.get(name, {1: name}))]
    router = Router(client, topology)
    for worker, said in asked(router, patience_s, lambda: known(router)).items():
        tables = said[name]["tables"] if name in said else {"1": name}
        folded.append((f"the worker at {worker}", {int(version): table for version, table in tables.items()}))
    for who, declared in folded:
        if min(declared) < current:
            raise TopologyError(
                f"{who} still declares version {min(declared)} of {name!r}; remove it from the code, restart all "
                "workers, and drop it then"
            )
    found = []
    for version in range(1, current):
        table = table_of(name, version)
        service = owner if version == 1 else f"{owner}_{table}"
        by_key = TopicKind.BY_KEY.topic(table)
        own = {TopicKind.ROW.topic(table), by_key, TopicKind.QUEUE.topic(f"{service}.{by_key}")}
        if version > 1:  # it has a service of its own
            own |= {topic for topic in there if topic.startswith(f"{service}.") and TopicKind.of(topic) is not None}
        found += sorted(own & there.keys())
    return found
