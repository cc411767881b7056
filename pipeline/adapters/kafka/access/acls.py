"""Access rules as the ACLs of a Kafka cluster."""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from typing import Any

from confluent_kafka import KafkaException
from confluent_kafka.admin import (  # type: ignore[attr-defined]  # there, if not in __all__
    AclBinding,
    AclBindingFilter,
    AclOperation,
    AclPermissionType,
    AdminClient,
    ResourcePatternType,
    ResourceType,
)

from pipeline.adapters.kafka import ANSWER_S
from pipeline.adapters.kafka.access.rules import Rule
from pipeline.errors import TopicError

RESOURCES = {
    "topic": ResourceType.TOPIC,
    "group": ResourceType.GROUP,
    "transactional_id": ResourceType.TRANSACTIONAL_ID,
}
HOST = "*"
IN_FORCE_S = 60.0
ANY: Any = None  # any name, principal and host; its types do not say so
EVERY_ACL = AclBindingFilter(
    ResourceType.ANY, ANY, ResourcePatternType.ANY, ANY, ANY, AclOperation.ANY, AclPermissionType.ANY
)


def bindings(rules: Iterable[Rule]) -> list[AclBinding]:
    """An ACL for each operation of each rule, from any host."""
    return [
        AclBinding(
            RESOURCES[rule.resource],
            rule.name,
            ResourcePatternType.PREFIXED if rule.prefixed else ResourcePatternType.LITERAL,
            rule.principal,
            HOST,
            AclOperation[operation],
            AclPermissionType.ALLOW,
        )
        for rule in rules
        for operation in rule.operations
    ]


def apply_acls(client: AdminClient, rules: Sequence[Rule], in_force_s: float = IN_FORCE_S) -> int:
    """Add the ACLs; existing ones stay as they are. Return how many there are. Raises TopicError.

    Returns once they are in force: the controller takes an ACL before the brokers go by it, and a broker that is busy
    with new topics may come to it many seconds later. Which broker is asked is the client's choice; others may follow.
    """
    wanted = set(bindings(rules))
    if not wanted:
        return 0
    for binding, future in client.create_acls(sorted(wanted, key=str), request_timeout=ANSWER_S).items():
        try:
            future.result()
        except KafkaException as error:
            raise TopicError(f"the broker does not take the ACL {binding}: {error.args[0].str()}") from None
    deadline = time.monotonic() + in_force_s
    while missing := wanted - _in_force(client):
        if time.monotonic() > deadline:
            raise TopicError(
                f"the cluster took {len(wanted)} ACLs, but after {in_force_s:.0f} s the broker does not go by "
                f"{len(missing)} of them, such as {min(map(str, missing))}; look at its log, then apply them again"
            )
        time.sleep(0.05)
    return len(wanted)


def _in_force(client: AdminClient) -> set[AclBinding]:
    try:
        return set(client.describe_acls(EVERY_ACL, request_timeout=ANSWER_S).result())
    except KafkaException as error:
        raise TopicError(f"cannot see which ACLs are in force: {error.args[0].str()}") from None
