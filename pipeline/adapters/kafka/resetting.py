"""A group's offsets and a service's noted positions, as an operator reads and sets them while no worker runs."""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from contextlib import closing

from confluent_kafka import Consumer, KafkaException, Producer, TopicPartition
from confluent_kafka.admin import AdminClient

from pipeline.adapters.kafka.away import kafka_log
from pipeline.adapters.kafka.cluster import (
    ANSWER_S,
    COMMON,
    QUIET_S,
    RETRY_PAUSE_S,
    end_offsets,
    first_offsets,
    log_facts,
    member_names,
    on_error,
)
from pipeline.adapters.kafka.connection import connection
from pipeline.adapters.kafka.group_offsets import GroupOffsets
from pipeline.adapters.kafka.reading import KafkaLogReader
from pipeline.adapters.kafka.topics import partition_counts
from pipeline.engine.plan import ServicePlan
from pipeline.engine.ports import TP
from pipeline.engine.state.noted import Noted, noted_key, noted_value, read_noted
from pipeline.engine.state.resets import Reset, resets
from pipeline.errors import BrokerUnreachable, ServiceRuns, TopicError

GONE_S = 15.0  # how long a member that has stopped may still be counted


def read_notes(bootstrap: str, plan: ServicePlan) -> dict[TP, Noted]:
    """Return the noted positions of a service. Raises BrokerUnreachable."""
    log, notes = TP(plan.positions, 0), dict[TP, Noted]()
    with closing(KafkaLogReader(bootstrap, f"{plan.group}-reset")) as reader:
        end, read, deadline = reader.ends([log])[log], 0, time.monotonic() + QUIET_S
        reader.follow({log: None})
        while read < end:
            polled = reader.poll(10_000, RETRY_PAUSE_S)
            for record in polled.batches.get(log, ()):
                tp, noted = read_noted(record.key(), record.value())
                notes[tp], read = noted, record.offset() + 1
            read = max(read, polled.ends.get(log, 0))
            if time.monotonic() > deadline:
                raise BrokerUnreachable(
                    f"{plan.positions} cannot be read to its end within {QUIET_S:.0f} s: a worker has left a "
                    "transaction open, or the broker is away; try again later"
                )
    return {tp: noted for tp, noted in notes.items() if tp.topic in plan.source_topics}


def find_resets(bootstrap: str, client: AdminClient, plan: ServicePlan) -> list[Reset]:
    """Return what a reset of a service is to do. Raises TopicError, BrokerUnreachable."""
    counts = partition_counts(client)
    if plan.positions not in counts:
        raise TopicError(
            f"service {plan.service.name!r} has no topic {plan.positions}, so where it stands is not known; create it "
            "with: pipeline topics create TOPOLOGY"
        )
    notes = read_notes(bootstrap, plan)
    if missing := sorted({tp.topic for tp in notes if tp.partition >= counts.get(tp.topic, 0)}):
        raise TopicError(
            f"service {plan.service.name!r} has folded {', '.join(missing)}, which the broker does not have as it was; "
            "create what is missing with: pipeline topics create TOPOLOGY"
        )
    tps = sorted(notes)
    with closing(GroupOffsets(bootstrap, plan.group)) as offsets:
        committed = {tp: told.offset for tp, told in offsets.of_all(tps, QUIET_S).items()}
    low, end = first_offsets(client, tps), end_offsets(client, tps)
    topics = {name for noted in notes.values() for name in noted.standing.topics} & counts.keys()
    identities = {name: fact.identity for name, fact in log_facts(client, sorted(topics)).items()}
    return resets(notes, committed, {tp: (low[tp], end[tp]) for tp in tps}, identities)


def check_empty(client: AdminClient, plans: Iterable[ServicePlan]) -> None:
    """Wait for groups to be empty. Raises ServiceRuns if one has members that do not go."""
    deadline = time.monotonic() + GONE_S
    for plan in plans:
        while names := member_names(client, plan.group):
            if time.monotonic() > deadline:
                raise ServiceRuns(
                    f"the group {plan.group!r} has members: {', '.join(sorted(names))}. Nothing was set; stop the "
                    "workers first (one that was killed is a member until its session ends)"
                )
            time.sleep(1.0)


def set_offsets(bootstrap: str, plan: ServicePlan, chosen: Sequence[Reset]) -> None:
    """Set the group's offsets, all at once; where something is lost, note first that the service stands there.

    Raises BrokerUnreachable if the broker refuses, as it does if the group has a member now.
    """
    if lossy := [each for each in chosen if each.lost]:
        _note(bootstrap, plan, lossy)
    commit_offsets(bootstrap, plan.group, [TopicPartition(*each.tp, each.target) for each in chosen])


def _note(bootstrap: str, plan: ServicePlan, lossy: Sequence[Reset]) -> None:
    producer = Producer(COMMON | {**connection(bootstrap), "enable.idempotence": True, "error_cb": on_error})
    failed: list[str] = []
    for each in lossy:
        value = noted_value(each.noted.offset, each.noted.standing.text(), each.noted.steps)
        producer.produce(
            plan.positions,
            value,
            noted_key(each.tp),
            0,
            on_delivery=lambda error, _: failed.append(error.str()) if error is not None else None,
        )
    if producer.flush(ANSWER_S) or failed:
        raise BrokerUnreachable(f"the broker has not taken the new positions: {failed or 'no answer'}; try again")


def commit_offsets(bootstrap: str, group: str, asked: list[TopicPartition]) -> None:
    """Commit a group's offsets, all at once, while it has no member. Raises BrokerUnreachable."""
    config = COMMON | {**connection(bootstrap), "group.id": group, "enable.auto.commit": False, "error_cb": on_error}
    consumer = Consumer(config, logger=kafka_log)
    try:
        answers = consumer.commit(offsets=asked, asynchronous=False) or []
        error = next((answer.error for answer in answers if answer.error is not None), None)
    except KafkaException as raised:
        error = raised.args[0]
    finally:
        consumer.close()
    if error is not None:
        raise BrokerUnreachable(f"the offsets of {group!r} are not set: {error.str()}; stop its workers, try again")
