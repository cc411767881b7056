"""Access rules as the ACLs of a Kafka cluster."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from confluent_kafka import KafkaException
from confluent_kafka.admin import (  # type: ignore[attr-defined]  # there, if not in __all__
    AclBinding,
    AclOperation,
    AclPermissionType,
    AdminClient,
    ResourcePatternType,
    ResourceType,
)

from pipeline.adapters.kafka import ANSWER_S
from pipeline.errors import TopicError
from pipeline.runtime.access import Rule

RESOURCES = {
    "topic": ResourceType.TOPIC,
    "group": ResourceType.GROUP,
    "transactional_id": ResourceType.TRANSACTIONAL_ID,
}
HOST = "*"


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


def apply_acls(client: AdminClient, rules: Sequence[Rule]) -> int:
    """Adds them; what is there already stays as it is. Returns how many there are. Raises TopicError."""
    wanted = bindings(rules)
    for binding, future in client.create_acls(wanted, request_timeout=ANSWER_S).items() if wanted else ():
        try:
            future.result()
        except KafkaException as error:
            raise TopicError(f"the broker does not take the ACL {binding}: {error.args[0].str()}") from None
    return len(wanted)
