"""Access rules of a cluster, so that the borders between services hold there, too. Values; see acls.

A broker that allows nothing by default refuses all that no rule allows.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

from pipeline.engine.plan import ServicePlan
from pipeline.flow import Lineage
from pipeline.model import TopicKind
from pipeline.model.projection.versions import VERSIONS_GROUP
from pipeline.model.records.topics import RESTORED_TOPIC, SCHEMAS_TOPIC
from pipeline.topology import Topology

READ, WRITE, DESCRIBE, CONFIGS, CREATE = "READ", "WRITE", "DESCRIBE", "DESCRIBE_CONFIGS", "CREATE"
HTTP = "http"  # the requester that the HTTP sides of the workers are


class Rule(NamedTuple):
    """A principal may do that. `prefixed`: with all whose name begins so."""

    principal: str
    resource: str  # "topic", "group" or "transactional_id"
    name: str
    operations: tuple[str, ...]
    prefixed: bool = False


class Principals(NamedTuple):
    """Principals, by what they are for. A service without one is `User:<service>`."""

    services: Mapping[str, str]
    requesters: Mapping[str, str]  # those who send commands from outside, by the name of their reply topic

    def runs(self, plan: ServicePlan) -> str:
        """The principal of a service's workers; a later version of a projection runs in those of its service."""
        name = plan.service.part_of or plan.service.name
        return self.services.get(name, f"User:{name}")


def rules(topology: Topology, plans: Sequence[ServicePlan], who: Principals) -> list[Rule]:
    """What the services of `plans`, all of the topology's, and the requesters may do."""
    found: dict[tuple[str, str, str, bool], set[str]] = {}
    for rule in (*_of_services(topology, plans, who), *_of_requesters(topology, plans, who)):
        found.setdefault((rule.principal, rule.resource, rule.name, rule.prefixed), set()).update(rule.operations)
    return [
        Rule(principal, resource, name, tuple(sorted(operations)), prefixed)
        for (principal, resource, name, prefixed), operations in sorted(found.items())
    ]


def _of_services(topology: Topology, plans: Sequence[ServicePlan], who: Principals) -> Iterator[Rule]:
    lineage = Lineage(topology.services.values())
    commands = {a.name: _called(topology, a.name) for s in topology.services.values() for a in s.owned}
    owners = {a.name: who.runs(plan) for plan in plans for a in plan.service.owned}
    for plan in plans:
        me, service = who.runs(plan), plan.service
        for topic, _ in plan.own_topics():
            yield Rule(me, "topic", topic, (READ, WRITE, DESCRIBE, CONFIGS))
        for topic in {*plan.followed_topics()} - {*plan.asked_topics()}:
            yield Rule(me, "topic", topic, (READ, DESCRIBE, CONFIGS))
        for aggregate in service.owned:
            for asked in aggregate.asks:
                yield Rule(me, "topic", commands[asked], (WRITE, DESCRIBE))
                yield Rule(owners[asked], "topic", commands[aggregate.name], (WRITE, DESCRIBE))  # the answer
        tables = [*service.tables(), *(replica.name for replica in service.replicas)]
        for topic in {topic for table in tables for topic in lineage.upstream(lineage.home(table), None)}:
            yield Rule(me, "topic", topology.names.get(topic, topic), (DESCRIBE,))  # how far others are
        yield Rule(me, "group", plan.group, (READ, DESCRIBE))
        yield Rule(me, "group", f"{plan.group}-", (READ, DESCRIBE), prefixed=True)
        yield Rule(me, "group", VERSIONS_GROUP, (READ, DESCRIBE))
        yield from _reads_and_writes_schemas(me)
        yield from (Rule(me, "group", other.group, (DESCRIBE,)) for other in plans)  # who serves what
        yield Rule(me, "transactional_id", f"{plan.group}-", (WRITE, DESCRIBE), prefixed=True)
        yield from _takes_replies(me, HTTP)
        for requester in who.requesters:
            yield Rule(me, "topic", TopicKind.REPLY.topic(requester), (WRITE, DESCRIBE))


def _of_requesters(topology: Topology, plans: Iterable[ServicePlan], who: Principals) -> Iterator[Rule]:
    for requester, principal in who.requesters.items():
        yield from _takes_replies(principal, requester)
        yield from _reads_and_writes_schemas(principal)
        for plan in plans:
            yield Rule(principal, "group", plan.group, (DESCRIBE,))
            for aggregate in plan.service.addressed:
                yield Rule(principal, "topic", _called(topology, aggregate.name), (WRITE, DESCRIBE))


def _reads_and_writes_schemas(principal: str) -> Iterator[Rule]:
    yield Rule(principal, "topic", SCHEMAS_TOPIC, (READ, WRITE, DESCRIBE, CONFIGS))
    yield Rule(principal, "topic", RESTORED_TOPIC, (READ, DESCRIBE))
    yield Rule(principal, "group", SCHEMAS_TOPIC, (READ, DESCRIBE))


def _takes_replies(principal: str, requester: str) -> Iterator[Rule]:
    topic = TopicKind.REPLY.topic(requester)
    yield Rule(principal, "topic", topic, (CREATE, READ, WRITE, DESCRIBE))
    yield Rule(principal, "group", topic, (READ, DESCRIBE))


def _called(topology: Topology, aggregate: str) -> str:
    topic = TopicKind.COMMAND.topic(aggregate)
    return topology.names.get(topic, topic)
