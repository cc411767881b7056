"""Topics: created explicitly, checked before a worker starts."""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Collection, Iterable, Mapping, Sequence
from concurrent.futures import Future

from confluent_kafka import KafkaError, KafkaException
from confluent_kafka.admin import AdminClient, NewPartitions, NewTopic  # type: ignore[attr-defined]  # there, if not in __all__

from pipeline.adapters.kafka import ANSWER_S, admin, end_offsets
from pipeline.adapters.kafka.cluster import GROUP_S, read_position
from pipeline.adapters.kafka.group_offsets import GroupOffsets
from pipeline.adapters.kafka.topic_settings import SETTINGS, Difference, differences
from pipeline.engine.plan import ServicePlan
from pipeline.engine.ports import TP
from pipeline.engine.state.partition_counts import check
from pipeline.errors import BrokerUnreachable, TopicError
from pipeline.model import TopicKind
from pipeline.model.records.topics import SCHEMAS_TOPIC
from pipeline.model.service import NAME

log = logging.getLogger(__name__)

APPEAR_S = 30.0
REPLY_PARTITIONS = 8
SINGLE = (TopicKind.POSITIONS, TopicKind.SCHEMAS)  # only their first partition is used


def partition_counts(client: AdminClient) -> dict[str, int]:
    """Number of partitions of each topic there is; a topic counts once each partition has a leader."""
    topics = client.list_topics(timeout=ANSWER_S).topics
    return {
        name: len(topic.partitions)
        for name, topic in topics.items()
        if topic.error is None and all(partition.leader >= 0 for partition in topic.partitions.values())
    }


def topic_names(client: AdminClient) -> set[str]:
    """The names of the topics there are, whether or not each partition has a leader at the moment."""
    return set(client.list_topics(timeout=ANSWER_S).topics)


def broker_count(client: AdminClient) -> int:
    """The number of brokers."""
    return len(client.list_topics(timeout=ANSWER_S).brokers)


def create_topics(client: AdminClient, plans: Iterable[ServicePlan], partitions: int, replication: int) -> list[str]:
    """Create the missing topics of the services, and the one that all share; return their names. Raises TopicError."""
    there = partition_counts(client)
    wanted = {topic: kind for topic, kind in _topics_of(plans).items() if topic not in there}
    new = [
        NewTopic(topic, 1 if kind in SINGLE else partitions, replication, config=SETTINGS[kind])
        for topic, kind in wanted.items()
    ]
    _create(client, new)
    return sorted(wanted)


def _topics_of(plans: Iterable[ServicePlan]) -> dict[str, TopicKind]:
    """Return the topics that services write: their own, and the one of schemas."""
    own = {topic: kind for plan in plans for topic, kind in plan.own_topics()}
    return own | {SCHEMAS_TOPIC: TopicKind.SCHEMAS}


def refuse_other(client: AdminClient, plans: Iterable[ServicePlan], partitions: int, replication: int) -> None:
    """Refuse numbers of partitions or copies that the services' existing topics do not have. Raises TopicError.

    0: none was asked for.
    """
    there = client.list_topics(timeout=ANSWER_S).topics
    own = {topic: kind for plan in plans for topic, kind in plan.own_topics()}
    for name in sorted(own.keys() & there.keys()):
        about = there[name].partitions
        copies = min((len(each.replicas) for each in about.values()), default=0)
        parts = 0 if own[name] in SINGLE else partitions
        for asked, has, what in ((parts, len(about), "partitions"), (replication, copies, "replication")):
            if asked and has and asked != has:
                raise TopicError(
                    f"{name} exists with {what} {has}, not {asked}, and existing topics are left as they are; nothing "
                    f"was created. Give --{what} {has}, or name with --service those whose topics are all new"
                )


def _create(client: AdminClient, new: list[NewTopic]) -> dict[str, int]:
    """Create topics. Return the number of partitions of all topics, from a broker that knows the new ones.

    Another broker may not know of them yet, so do not ask again. Raises TopicError.
    """
    _finish(client.create_topics(new) if new else {}, "create", KafkaError.TOPIC_ALREADY_EXISTS)
    return wait_for(client, {topic.topic: 1 for topic in new})


def wait_for(client: AdminClient, wanted: Mapping[str, int]) -> dict[str, int]:
    """Wait until a broker knows of these topics and so many partitions of each. Return those of all topics."""
    deadline = time.monotonic() + APPEAR_S
    while True:
        there = partition_counts(client)
        missing = [topic for topic, count in wanted.items() if there.get(topic, 0) < count]
        if not missing:
            return there
        if time.monotonic() > deadline:
            raise TopicError(f"topic {min(missing)} was created but does not appear; look at the broker's log")
        time.sleep(0.05)


def reply_topic(bootstrap: str, requester: str) -> tuple[str, int]:
    """The topic of a requester's replies, created if it is missing, and its number of partitions."""
    topic = TopicKind.REPLY.topic(requester)
    if not NAME.fullmatch(requester):
        raise TopicError(f"{requester!r} cannot name a requester; use lower-case letters, digits and underscores")
    client = admin(bootstrap)
    there = partition_counts(client)
    if topic not in there:
        there = _create(client, [NewTopic(topic, REPLY_PARTITIONS, -1, config=SETTINGS[TopicKind.REPLY])])
    return topic, there[topic]


def _finish(futures: Mapping[str, Future[None]], what: str, fine: int) -> None:
    """Wait until the broker has done all of it. Raises TopicError, except for the error code `fine`."""
    for topic, future in futures.items():
        try:
            future.result()
        except KafkaException as error:
            if error.args[0].code() != fine:
                raise TopicError(f"cannot {what} topic {topic}: {error.args[0].str()}") from None


def delete_topics(client: AdminClient, topics: Sequence[str]) -> None:
    """Delete the topics with all their records. Raises TopicError."""
    _finish(client.delete_topics(list(topics)) if topics else {}, "delete", KafkaError.UNKNOWN_TOPIC_OR_PART)


def delete_services(client: AdminClient, plans: Iterable[ServicePlan]) -> None:
    """Delete the services' own topics with all their records; return once they are gone.

    With a topic the broker also forgets the offsets that groups have committed for it.
    """
    own = {topic for plan in plans for topic, _ in plan.own_topics()}
    delete_topics(client, sorted(own & partition_counts(client).keys()))
    while own & partition_counts(client).keys():
        time.sleep(0.1)


def even_out(client: AdminClient, plans: Sequence[ServicePlan]) -> list[tuple[str, int, int]]:
    """Give the services' own topics the partitions that they lack beside their neighbours, if they have no records.

    Returns each topic with its numbers before and after. Raises TopicError.
    """
    before = partition_counts(client)
    own = {topic for plan in plans for topic, _ in plan.own_topics()}
    sets = [[source, *others] for plan in plans for source, others in plan.co_partitioned().items()]
    if all(len({before.get(topic, 0) for topic in names}) == 1 for names in sets):
        return []
    ends = end_offsets(client, [TP(topic, n) for topic in own for n in range(before.get(topic, 0))])
    empty = own & before.keys() - {tp.topic for tp, end in ends.items() if end}
    after = dict(before)
    for _ in empty:  # one may lack some only once another has got them
        for names in sets:
            most = max(after.get(topic, 0) for topic in names)
            after |= {topic: most for topic in names if topic in empty}
    grown = sorted(topic for topic in empty if after[topic] > before[topic])
    new = [NewPartitions(topic, after[topic]) for topic in grown]
    _finish(client.create_partitions(new) if new else {}, "add partitions to", KafkaError.NO_ERROR)
    wait_for(client, {topic: after[topic] for topic in grown})
    return [(topic, before[topic], after[topic]) for topic in grown]


def check_topics(client: AdminClient, plan: ServicePlan, topology: str) -> None:
    """Raise TopicError if a topic of the service is missing, or has too few or too many partitions.

    Also if its settings let the broker delete what the engine keeps there; other wrong settings are logged.
    """
    counts = partition_counts(client)
    service = plan.service.name
    needed = [*_topics_of([plan]), *plan.followed_topics()]
    if missing := sorted({topic for topic in needed if topic not in counts}):
        raise TopicError(
            f"service {service!r} needs the topic {', '.join(missing)}, which the broker does not have; "
            f"create it with: pipeline topics create {topology}"
        )
    for source, others in plan.co_partitioned().items():
        for other in others:
            if counts[other] != counts[source]:
                raise TopicError(
                    f"service {service!r} folds {source} into {other} partition by partition, but they have "
                    f"{counts[source]} and {counts[other]} partitions; give both the same number: a topic without "
                    f"records gets what it lacks with: pipeline topics check {topology} --fix; one with records has "
                    "to be copied to a new one, as another number moves keys between partitions"
                )
    found = _differences(client, [plan], counts)
    if any(difference.loses for difference in found):
        raise TopicError(settings_text(found, topology))
    if found:
        log.warning("%s", settings_text(found, topology))


def check_counts(bootstrap: str, client: AdminClient, plan: ServicePlan) -> None:
    """Raise PartitionsChanged if a topic has another number of partitions than when the service began to fold it."""
    counts = partition_counts(client)
    sources = [TP(topic, n) for topic in plan.source_topics for n in range(counts.get(topic, 0))]
    with contextlib.closing(GroupOffsets(bootstrap, plan.group, stable=False)) as offsets:
        try:
            told = offsets.of_all(sources, GROUP_S)
        except BrokerUnreachable as error:
            log.warning(
                "it is not checked whether topics have as many partitions as when they were first folded: %s", error
            )
            return
    check({tp: read_position(*committed) for tp, committed in told.items()}, counts)


def setting_differences(client: AdminClient, plans: Iterable[ServicePlan]) -> list[Difference]:
    """Return the wrong settings of the services' own topics; none if this client may not read them."""
    return _differences(client, plans, partition_counts(client))


def _differences(client: AdminClient, plans: Iterable[ServicePlan], there: Collection[str]) -> list[Difference]:
    kinds = {topic: kind for topic, kind in _topics_of(plans).items() if topic in there}
    try:
        return differences(client, kinds.items())
    except KafkaException as error:
        log.warning("the settings of topics are not checked: %s", error.args[0].str())
        return []


def settings_text(found: Sequence[Difference], topology: str) -> str:
    """Return the message about topics with wrong settings, with the cure."""
    return (
        f"topics have other settings than the engine needs: {'; '.join(map(str, found))}. "
        f"Give them those with: pipeline topics check {topology} --fix"
    )
