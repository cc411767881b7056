"""Checks of the cluster, and of how a topology stands on it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import closing, suppress
from functools import partial

from confluent_kafka.admin import AdminClient

from pipeline.adapters.avro.codec import Codec, codecs
from pipeline.adapters.avro.registry import Registry
from pipeline.adapters.avro.schemas.compatibility import breaks
from pipeline.adapters.kafka import SESSION_S
from pipeline.adapters.kafka.cluster import TRANSACTION_S
from pipeline.adapters.kafka.inspection.broker import (
    broker_settings,
    brokers,
    clock_ahead_s,
    missing_rights,
    transactional_error,
)
from pipeline.adapters.kafka.inspection.groups import group_now
from pipeline.adapters.kafka.inspection.transactions import open_transactions
from pipeline.adapters.kafka.resetting import find_resets
from pipeline.adapters.kafka.schemas.topic import SchemasTopic
from pipeline.adapters.kafka.topics import check_counts, check_topics, partition_counts
from pipeline.client.drive import Driver
from pipeline.client.owner_request import Answer, HttpCall, Steps
from pipeline.doctor.check import Finding, ok, skipped, warning, wrong
from pipeline.engine.plan import ServicePlan
from pipeline.engine.ports import TP
from pipeline.engine.state.resets import losses
from pipeline.errors import PipelineError
from pipeline.flow.command_to_reply import AHEAD_S_MAX
from pipeline.model import TopicKind
from pipeline.topology import Topology

CLOCK_S = 1.0  # a difference of clocks that is warned of
RETENTION_MIN = 24 * 60  # of offsets, in minutes
READY_S = 5.0  # of a worker
NAMED_MAX = 5  # of many things, in a line
OWN = ("READ", "WRITE", "DESCRIBE")
FOLLOWED = ("READ", "DESCRIBE")


class Cluster:
    """A topology on a cluster that answers; its methods are checks. `services`: those that are meant."""

    def __init__(self, bootstrap: str, client: AdminClient, topology: Topology, services: Sequence[str]) -> None:
        self._bootstrap, self._client, self._topology = bootstrap, client, topology
        self._services = topology.chosen(tuple(services))

    def _plans(self) -> list[ServicePlan]:
        return [ServicePlan(each, codecs(self._topology.schemas), self._topology.names) for each in self._services]

    def _folded(self, plan: ServicePlan) -> dict[str, int]:
        counts = partition_counts(self._client)
        return {topic: counts[topic] for topic in plan.source_topics if topic in counts}

    def broker(self) -> Iterator[Finding]:
        """Check that all brokers are there, and that each partition has a leader and all its replicas."""
        topics = {topic for plan in self._plans() for topic, _ in plan.own_topics()}
        found = brokers(self._client, topics)
        if found.leaderless:
            yield wrong(
                f"no broker leads {_named(found.leaderless)}", "start the brokers that have them; see their logs"
            )
        if found.behind:
            yield warning(f"replicas of {_named(found.behind)} are behind", "see whether a broker is away or slow")
        yield ok(f"{len(found.nodes)} of cluster {found.cluster}: {', '.join(found.nodes)}")

    def settings(self) -> Iterator[Finding]:
        """Check the brokers' own settings that the engine depends on."""
        for node, told in broker_settings(self._client).items():
            longest = int(told.get("transaction.max.timeout.ms") or 900_000)
            if longest < 1000 * TRANSACTION_S:
                yield wrong(
                    f"broker {node}: transaction.max.timeout.ms is {longest}",
                    f"set it to {1000 * TRANSACTION_S:.0f} or more: workers cannot begin transactions",
                )
            kept = int(told.get("offsets.retention.minutes") or 10_080)
            if kept < RETENTION_MIN:
                yield warning(
                    f"broker {node}: offsets.retention.minutes is {kept}",
                    f"set it to {RETENTION_MIN} or more: a service that does not run for so long needs pipeline reset",
                )
            shortest = int(told.get("group.min.session.timeout.ms") or 6_000)
            if shortest > 1000 * SESSION_S:
                yield wrong(
                    f"broker {node}: group.min.session.timeout.ms is {shortest}",
                    f"set it to {1000 * SESSION_S:.0f} or less: workers cannot join their groups",
                )
        yield ok("transactions, sessions and offsets as the engine needs them")

    def topics(self) -> Iterator[Finding]:
        """Check that topics exist, match each other in partitions, and have the settings that they need."""
        for plan in self._plans():
            try:
                check_topics(self._client, plan, self._topology.name)
                check_counts(self._bootstrap, self._client, plan)
            except PipelineError as error:
                yield wrong(f"{plan.service.name}: {error}", f"pipeline topics check {self._topology.name}")
            else:
                yield ok(f"{plan.service.name}: all there, as they have to be")

    def schemas(self) -> Iterator[Finding]:
        """Check the schemas against their earlier versions, the classes, and what is published on the broker."""
        registry = Registry(self._topology.schemas)
        for each in breaks(registry):
            yield wrong(str(each), f"pipeline schemas check {self._topology.name}")
        if changed := registry.adopt():
            yield wrong(f"{', '.join(changed[:NAMED_MAX])} new or changed", "pipeline schemas register")
        for service in self._services:
            try:
                ServicePlan(service, partial(Codec, registry))
            except PipelineError as error:
                yield wrong(f"{service.name}: {error}", f"pipeline schemas check {self._topology.name}")
        yield ok(f"{len(registry.topics())} in {self._topology.schemas}")
        SchemasTopic(self._bootstrap, registry).catch_up()  # raises what is wrong with the topic

    def clock(self) -> Iterator[Finding]:
        """Check that this machine and the broker agree on what time it is."""
        counts = partition_counts(self._client)
        commands = [TopicKind.COMMAND.topic(each.name) for service in self._services for each in service.owned]
        there = [topic for topic in (self._topology.names.get(name, name) for name in commands) if topic in counts]
        ahead_s = clock_ahead_s(self._bootstrap, there[0]) if there else None
        if ahead_s is None:
            yield skipped("no command topic whose records the broker stamps; see topics")
            return
        which = "ahead of" if ahead_s > 0 else "behind"
        says = f"the broker's is {abs(ahead_s):.1f} s {which} this machine's"
        if abs(ahead_s) > AHEAD_S_MAX:
            yield wrong(says, f"set the clocks, by NTP: commands are refused if they differ by {AHEAD_S_MAX:.0f} s")
        elif abs(ahead_s) > CLOCK_S:
            yield warning(says, "set the clocks, by NTP: deadlines come early or late by it")
        else:
            yield ok("agrees with the broker's")

    def permissions(self) -> Iterator[Finding]:
        """Check that this user may do what workers of these services do."""
        wanted: dict[str, Sequence[str]] = {}
        for plan in self._plans():
            wanted |= {topic: FOLLOWED for topic in plan.followed_topics() if topic not in wanted}
            wanted |= {topic: OWN for topic, _ in plan.own_topics()}
        grant = f"pipeline topics acls {self._topology.name} --apply, by one who may"
        missing = missing_rights(self._client, wanted)
        for topic, lacks in list(missing.items())[:NAMED_MAX]:
            yield wrong(f"this user lacks {', '.join(lacks)} on {topic}", grant)
        for service in self._services[:1]:  # an id of its own: it fences none
            if why := transactional_error(self._bootstrap, f"{service.name}-doctor"):
                yield wrong(f"this user cannot begin a transaction of {service.name}: {why}", grant)
        if not missing:
            yield ok(f"this user may read and write all {len(wanted)} topics")

    def transactions(self) -> Iterator[Finding]:
        """Check that no transaction holds readers up for longer than one may be open."""
        tps = {
            TP(topic, n) for plan in self._plans() for topic, count in self._folded(plan).items() for n in range(count)
        }
        found = open_transactions(self._bootstrap, self._client, sorted(tps), TRANSACTION_S)
        for each in found[:NAMED_MAX]:
            yield wrong(
                f"one has held {each.tp.topic}/{each.tp.partition} up at offset {each.offset} for more than "
                f"{TRANSACTION_S:.0f} s",
                "pipeline groups says whose it may be: start that worker again, which ends it",
            )
        if not found:
            yield ok("none is open for long")

    def groups(self) -> Iterator[Finding]:
        """Check that each service has workers that own all its partitions, or stands where its offsets say."""
        for plan in self._plans():
            name = plan.service.name
            group = group_now(self._bootstrap, self._client, plan.group, self._folded(plan))
            if paused := [place for place in group.places if place.pause is not None]:
                by, why, _ = paused[0].pause or ("", "", 0)
                yield warning(
                    f"{name}: {len(paused)} partitions are paused by {by}: {why}", f"pipeline resume {name} --why …"
                )
            unowned = [place.tp for place in group.places if place.owner is None]
            if not group.members:
                yield warning(f"{name}: no worker runs", f"pipeline worker {self._topology.name} --service {name}")
                yield from self._resets(plan)
            elif unowned:
                cure = "wait for the rebalance to end; if it does not, see the workers' logs"
                yield wrong(f"{name}: {group.state}; no worker owns {_named(unowned)}", cure)
            else:
                lag = sum(place.lag for place in group.places)
                yield ok(
                    f"{name}: {len(group.members)} of its workers own all {len(group.places)} partitions, lag {lag}"
                )

    def workers(self) -> Iterator[Finding]:
        """Check that workers are ready, and say what they have parked."""
        members = (group_now(self._bootstrap, self._client, plan.group, {}).members for plan in self._plans())
        urls = sorted({member.url for each in members for member in each if member.url})
        if not urls:
            yield skipped("no worker runs; see groups")
        with closing(Driver()) as driver:
            for url in urls:
                yield from of_worker(url, driver.run(_ready(url)))

    def _resets(self, plan: ServicePlan) -> Iterator[Finding]:
        """Check the offsets of a service that does not run: those of one that runs move while they are read."""
        if plan.positions not in partition_counts(self._client):
            return  # the topics' matter
        found = find_resets(self._bootstrap, self._client, plan)
        moved = [each.tp for each in found if each.offset != each.target]
        cure = f"pipeline reset --to-tables --service {plan.service.name}"
        if lost := list(losses(found)):
            yield wrong(f"{plan.service.name}: {'; '.join(lost)}", cure)
        elif moved:
            yield wrong(f"{plan.service.name}: its offsets are not where it stands: {_named(moved)}", cure)


def _named(tps: Sequence[TP]) -> str:
    """Return some partitions by name, and how many more there are."""
    with suppress(ValueError):
        named = ", ".join(f"{topic}/{n}" for topic, n in tps[:NAMED_MAX])
        return named if len(tps) <= NAMED_MAX else f"{named} and {len(tps) - NAMED_MAX} more"
    return ""


def _ready(url: str) -> Steps[Answer | None]:
    answer: Answer | None = yield HttpCall(url, "/readyz", {}, READY_S)
    return answer


def of_worker(url: str, answer: Answer | None) -> Iterator[Finding]:
    """Return what a worker's answer to /readyz says."""
    if answer is None or not isinstance(answer.body, dict) or "services" not in answer.body:
        yield wrong(f"{url}: no answer to /readyz", f"curl {url}/readyz; see the worker's log")
        return
    stands = [("", why) for why in answer.body.get("why", ())]
    services = answer.body["services"]
    whys = [(f"{name}: ", why) for name, told in services.items() for why in told["why"]]
    stands += [(name, why) for name, why in whys if why["reason"] != "paused"]  # which `groups` says
    for service, why in stands[:NAMED_MAX]:
        place = f"{why['partition']}: " if "partition" in why else ""
        text = f"{service}{place}{why['reason']}: {why['detail']}"
        yield wrong(f"{url}: {text}", "as it says; all that it waits for: pipeline lag")
    if len(stands) > NAMED_MAX:
        yield wrong(f"{url}: {len(stands) - NAMED_MAX} more", f"curl {url}/readyz")
    for name, told in services.items():
        if told["parked_keys"]:
            yield warning(
                f"{name}: {told['parked_keys']} keys are parked at {url}", f"pipeline parked list --service {name}"
            )
    if not stands:
        yield ok(f"{url}: {len(services)} services are ready")
