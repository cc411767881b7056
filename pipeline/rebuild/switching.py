"""Has readers get another version, once all workers can give it; and drops what no reader gets any more."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, TypeVar

import httpx
from confluent_kafka import KafkaError, KafkaException
from confluent_kafka.admin import AdminClient

from pipeline.adapters.kafka import admin
from pipeline.adapters.kafka.owners import Router
from pipeline.adapters.kafka.topics import partition_counts
from pipeline.errors import TableUnavailable, TopicError, TopologyError, UnknownTable
from pipeline.model import TopicKind
from pipeline.model.projection.versions import declared_name, table_of
from pipeline.rebuild.building import Progress
from pipeline.rebuild.subject import Subject
from pipeline.server.pages.projections import say
from pipeline.topology import Topology

T = TypeVar("T")
PAUSE_S = 0.2


def told(worker: str) -> dict[str, Any] | None:
    """What a worker says of versions; None where it does not answer."""
    try:
        answer = httpx.get(f"{worker}/v1/projections", timeout=5)
    except httpx.HTTPError:
        return None
    found: dict[str, Any] = answer.json() if answer.status_code == 200 else {}
    return found


def known(router: Router) -> dict[str, dict[str, Any]]:
    """The same of all workers, as any of them may be asked for any table. Raises TableUnavailable."""
    found = {}
    for worker in sorted({url for name in router.topology.services for url in router.workers(name)}):
        if (said := told(worker)) is None:
            raise TableUnavailable(f"the worker at {worker} does not answer; stop it, or wait until it is gone")
        found[worker] = said
    return found


def patiently(router: Router, patience_s: float, call: Callable[[], T]) -> T:
    """What `call` gives, which may raise TableUnavailable for so long."""
    deadline = time.monotonic() + patience_s
    while True:
        try:
            return call()
        except TableUnavailable:
            if time.monotonic() > deadline:
                raise
        router.forget_all()
        time.sleep(PAUSE_S)


def check_ready(router: Router, subject: Subject, progress: Progress) -> None:
    """Raises TopologyError unless all workers declare the version.

    TableUnavailable unless all its partitions are held, and it is level with its sources.
    """
    table = router.topology.versioned_name(subject.table)
    for worker, said in known(router).items():
        if str(subject.version) not in said.get(subject.name, {}).get("tables", {}):
            raise TopologyError(
                f"the worker at {worker} does not declare version {subject.version} of {subject.name!r}; start it "
                "again with this code"
            )
    for partition in range(router.partitions(table)):
        router.holder(table, partition)
    progress.look()
    if not progress.level:
        raise TableUnavailable(f"{subject.table!r} is not level with its sources yet")


def check_switched(router: Router, subject: Subject) -> int:
    """How many workers there are; TableUnavailable unless all have switched."""
    now = known(router)
    for worker, said in now.items():
        if said[subject.name]["version"] != subject.version:
            raise TableUnavailable(f"the switch is said, but the worker at {worker} has not heard of it yet")
    return len(now)


def switch(bootstrap: str, topology: Topology, subject: Subject, by: str, patience_s: float = 30.0) -> int:
    """Has readers get that version. Returns how many workers have switched, which is all of them.

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
        patiently(router, patience_s, lambda: check_ready(router, subject, progress))
    finally:
        progress.close()
    say(bootstrap, topic, subject.name, subject.version, by)
    return patiently(router, patience_s, lambda: check_switched(router, subject))


def droppable(client: AdminClient, topology: Topology, name: str, current: int, patience_s: float = 15.0) -> list[str]:
    """The topics of all versions before `current`. Raises TopologyError, TableUnavailable where one is still folded."""
    there, services = partition_counts(client), topology.services.values()
    owner = next((s.part_of or s.name for s in services for p in s.projections if declared_name(p) == name), None)
    if owner is None:
        raise UnknownTable(f"no projection {name!r} in {topology.name}")
    folded = [(f"the topology {topology.name}", topology.versions.get(name, {1: name}))]
    router = Router(client, topology)
    for worker, said in patiently(router, patience_s, lambda: known(router)).items():
        tables = said[name]["tables"] if name in said else {"1": name}
        folded.append((f"the worker at {worker}", {int(version): table for version, table in tables.items()}))
    for who, declared in folded:
        if min(declared) < current:
            raise TopologyError(
                f"{who} still declares version {min(declared)} of {name!r}; take it out of the code, start all workers "
                "again, and drop it then"
            )
    found = []
    for version in range(1, current):
        table = table_of(name, version)
        service = owner if version == 1 else f"{owner}_{table}"
        by_key = TopicKind.BY_KEY.topic(table)
        own = {TopicKind.ROW.topic(table), by_key, TopicKind.QUEUE.topic(f"{service}.{by_key}")}
        if version > 1:  # a service of its own
            own |= {topic for topic in there if topic.startswith(f"{service}.") and TopicKind.of(topic) is not None}
        found += sorted(own & there.keys())
    return found


def drop(client: AdminClient, topics: list[str]) -> None:
    """Deletes them. Raises TopicError."""
    for topic, future in client.delete_topics(topics).items() if topics else ():
        try:
            future.result()
        except KafkaException as error:
            if error.args[0].code() != KafkaError.UNKNOWN_TOPIC_OR_PART:
                raise TopicError(f"cannot delete topic {topic}: {error.args[0].str()}") from None
