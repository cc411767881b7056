"""The owners of partitions: the consumer group itself is the routing table.

Each worker puts its HTTP address in its consumer's client.id, so that the group's coordinator, which assigns the
partitions, also says where to ask for them. There is no second source to drift from it.
"""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass, field

from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient

from pipeline.adapters.kafka.cluster import describe_group
from pipeline.adapters.kafka.topics import partition_counts
from pipeline.errors import TableUnavailable, TopicError
from pipeline.model import Service
from pipeline.model.records.keys import asked_key
from pipeline.model.records.partitioning import partition_of
from pipeline.topology import Topology

DESCRIBE_S = 3.0
PAUSE_S = 1.0  # after a question without an answer, so that a coordinator that is away does not hold up all questions
FRESH_S = 2.0  # how long an answer of the coordinator is used; one that proves wrong is dropped at once


def client_id(service: str, url: str) -> str:
    """The client id of a worker's consumer."""
    return f"{service}@{url}"


def address(client: str) -> str | None:
    """The worker's address in a client id; None if it has none."""
    _, at, url = client.partition("@")
    return url if at and url.startswith("http") else None


@dataclass(slots=True)
class Group:
    """Addresses of a service's workers, and the owner of each partition."""

    asked_s: float
    members: list[str] = field(default_factory=list)
    holders: dict[tuple[str, int], str] = field(default_factory=dict)


class Router:
    """Finds the address of a partition's owner. Its calls block for as long as the broker takes.

    Safe to use from several threads.
    """

    def __init__(self, client: AdminClient, topology: Topology) -> None:
        self.topology = topology
        self._client = client
        self._groups: dict[str, Group] = {}
        self._homes: dict[str, tuple[Service, str]] = {}
        self._partitions: dict[str, int] = {}
        self._asking = threading.Lock()
        self._unanswered_s, self._why = -PAUSE_S, ""

    def home(self, table: str) -> tuple[Service, str]:
        """The service that keeps `table`, and the topic by whose partitions it is split. Raises UnknownTable."""
        if table not in self._homes:  # each read asks several times
            service, name = self.topology.service_of(table), self.topology.table(table)
            replicated = {replica.name: replica.source.topic for replica in service.replicas}
            declared = service.tables().get(name) or replicated[name]
            self._homes[table] = service, self.topology.names.get(declared, declared)
        return self._homes[table]

    def knows(self, table: str) -> bool:
        """Whether the number of partitions of that table is cached."""
        return self.home(table)[1] in self._partitions

    def partitions(self, table: str) -> int:
        """The number of partitions of `table`."""
        return self.count(self.home(table)[1])

    def count(self, topic: str) -> int:
        """The number of partitions of a topic, by its name on the cluster. Raises TopicError."""
        if topic not in self._partitions:
            try:
                self._partitions |= partition_counts(self._client)
            except KafkaException as error:
                raise TableUnavailable(f"the broker does not answer: {error.args[0].str()}; ask again") from None
        if topic not in self._partitions:
            raise TopicError(
                f"the topic {topic} does not exist; create it with: pipeline topics create {self.topology.name}"
            )
        return self._partitions[topic]

    def partition(self, table: str, key: str) -> int:
        """The partition of `table` that holds `key`. Raises BadRequest if no row can have it."""
        return partition_of(asked_key(key), self.partitions(table))

    def holder(self, table: str, partition: int) -> str:
        """Return the address of the worker that owns a partition of `table`; any of the service's for a replica."""
        service, topic = self.home(table)
        group = self._group(service.name)
        if self.topology.table(table) not in service.tables():
            holder = group.members[0] if group.members else None
        else:
            holder = group.holders.get((topic, partition))
        if holder is None:
            self.forget(table)
            raise TableUnavailable(
                f"no worker of service {service.name!r} owns partition {partition} of {table!r} at present; "
                f"ask again, or start one with: pipeline worker {self.topology.name} --service {service.name}"
            )
        return holder

    def owner(self, service: str, topic: str, partition: int) -> str:
        """Address of the worker of a service that folds a partition of a topic, by its name on the cluster."""
        holder = self._group(service).holders.get((topic, partition))
        if holder is None:
            self._groups.pop(service, None)
            raise TableUnavailable(
                f"no worker of service {service!r} folds partition {partition} of {topic} at present; "
                f"ask again, or start one with: pipeline worker {self.topology.name} --service {service}"
            )
        return holder

    def members(self, table: str) -> list[str]:
        """Return the addresses of all workers of the table's service."""
        return self.workers(self.home(table)[0].name)

    def workers(self, service: str) -> list[str]:
        """Return the addresses of all workers of a service."""
        return list(self._group(service).members)

    def forget(self, table: str) -> None:
        """Forget the members of the table's service, so that the next question goes to the coordinator."""
        self._groups.pop(self.home(table)[0].name, None)

    def forget_all(self) -> None:
        """Forget the members of all groups, so that the next question goes to the coordinators."""
        self._groups.clear()

    def _group(self, service: str) -> Group:
        with self._asking:  # questions come from several threads; one asks the coordinator for all
            known = self._groups.get(service)
            if known is None or time.monotonic() - known.asked_s > FRESH_S:
                if time.monotonic() - self._unanswered_s < PAUSE_S:
                    raise TableUnavailable(f"the broker does not say who serves {service!r}{self._why}; ask again")
                try:
                    known = self._groups[service] = self._ask(service)
                except TableUnavailable:
                    self._unanswered_s = time.monotonic()
                    raise
            return known

    def _ask(self, service: str) -> Group:
        group = Group(time.monotonic())
        try:
            name = self.topology.names.get(service, service)
            described = describe_group(self._client, name, DESCRIBE_S)
        except KafkaException as error:
            self._why = f": {error.args[0].str()}"
            raise TableUnavailable(f"the broker does not say who serves {service!r}{self._why}; ask again") from None
        for member in () if described is None else described.members:  # none: it has never had a worker
            if url := address(member.client_id):
                group.members.append(url)
                for tp in member.assignment.topic_partitions if member.assignment else ():
                    group.holders[tp.topic, tp.partition] = url
        return group
