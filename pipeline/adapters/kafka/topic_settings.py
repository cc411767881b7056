"""Settings of topics: what each kind is created with, and how those that were there before differ from that."""

from __future__ import annotations

import math
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient, AlterConfigOpType, ConfigEntry, ConfigResource, ResourceType  # type: ignore[attr-defined]  # there, if not in __all__

from pipeline.adapters.kafka.cluster import ANSWER_S
from pipeline.errors import TopicError
from pipeline.model import TopicKind

DAY_MS = 24 * 60 * 60 * 1000
POLICY, FOR_MS, FOR_BYTES, STAMP = "cleanup.policy", "retention.ms", "retention.bytes", "message.timestamp.type"
RETENTION = (FOR_MS, FOR_BYTES)  # "-1" is for ever
COMPACTED = {POLICY: "compact"}


def _log(days: float, **more: str) -> dict[str, str]:
    return {POLICY: "delete", FOR_MS: "-1" if days == math.inf else str(int(days * DAY_MS)), FOR_BYTES: "-1", **more}


STORED = {STAMP: "LogAppendTime"}  # when a record was stored is for the broker to say, not for its sender
SETTINGS: dict[TopicKind, dict[str, str]] = {
    TopicKind.COMMAND: _log(7, **STORED),
    TopicKind.EVENT: _log(math.inf),
    TopicKind.STATE: COMPACTED,
    TopicKind.ROW: COMPACTED,
    TopicKind.QUEUE: COMPACTED,
    # Longer than any window of idempotency; in files of a day, so that what is too old goes.
    TopicKind.REPLIES: _log(7, **STORED, **{"segment.ms": str(DAY_MS)}),
    TopicKind.DEADLINES: COMPACTED,
    TopicKind.REPLY: {FOR_MS: str(3_600_000), "segment.ms": str(3_600_000)},
    TopicKind.BY_KEY: _log(7),
    TopicKind.PARKED: _log(90),
    # Written with each commit, so compacted often: what is read of it when offsets are gone stays short.
    TopicKind.POSITIONS: COMPACTED | {"segment.bytes": str(16 << 20)},
    TopicKind.VERSIONS: COMPACTED,
    TopicKind.SCHEMAS: COMPACTED,
}
WITHOUT_LOSS = ("segment.ms", "segment.bytes")  # may differ: they decide only when files are deleted or compacted


class Difference(NamedTuple):
    """A setting of a topic that is not as declared. `loses`: whether the engine loses records by it."""

    topic: str
    setting: str
    found: str
    wanted: str
    loses: bool

    def __str__(self) -> str:
        more = " or more" if self.setting in RETENTION and self.wanted != "-1" else ""
        return f"{self.topic}: {self.setting} is {self.found}, and has to be {self.wanted}{more}"


def differences(client: AdminClient, topics: Iterable[tuple[str, TopicKind]]) -> list[Difference]:
    """Return how the settings of existing topics differ from what their kinds need, in order.

    More retention than needed is no difference. Raises KafkaException if the broker does not say.
    """
    kinds = dict(topics)
    resources = {topic: ConfigResource(ResourceType.TOPIC, topic) for topic in sorted(kinds)}
    if not resources:
        return []
    asked = client.describe_configs(list(resources.values()), request_timeout=ANSWER_S)
    found: list[Difference] = []
    for topic, resource in resources.items():
        entries = asked[resource].result()
        found += _differ(topic, kinds[topic], {name: entry.value for name, entry in entries.items()})
    return found


def _differ(topic: str, kind: TopicKind, found: Mapping[str, str]) -> Iterator[Difference]:
    for setting, wanted in SETTINGS[kind].items():
        value = found.get(setting, wanted)
        is_retention = setting in RETENTION
        if setting in WITHOUT_LOSS or value == wanted or (is_retention and _amount(value) >= _amount(wanted)):
            continue
        loses = setting == POLICY or (is_retention and kind in (TopicKind.EVENT, TopicKind.REPLIES))
        yield Difference(topic, setting, value, wanted, loses)


def _amount(value: str) -> float:
    return math.inf if value == "-1" else float(value)


def mend(client: AdminClient, found: Sequence[Difference]) -> None:
    """Give topics the settings that they need; return once a broker answers with them. Raises TopicError."""
    resources: dict[str, ConfigResource] = {}
    for each in found:
        resource = resources.setdefault(each.topic, ConfigResource(ResourceType.TOPIC, each.topic))
        entry = ConfigEntry(each.setting, each.wanted, incremental_operation=AlterConfigOpType.SET)
        resource.add_incremental_config(entry)
    for resource, future in client.incremental_alter_configs(list(resources.values())).items() if resources else ():
        try:
            future.result()
        except KafkaException as error:
            raise TopicError(f"cannot change the settings of {resource.name}: {error.args[0].str()}") from None
    # The controller has them now; the broker that is asked next may not have heard of it.
    deadline = time.monotonic() + ANSWER_S
    while late := _not_yet(client, found):
        if time.monotonic() > deadline:
            raise TopicError(f"the setting was changed, but a broker still answers otherwise: {late}; look at its log")
        time.sleep(0.05)


def _not_yet(client: AdminClient, wanted: Sequence[Difference]) -> Difference | None:
    """Return the first of the settings that a broker does not answer with; None if it answers with all."""
    if not wanted:
        return None
    resources = {topic: ConfigResource(ResourceType.TOPIC, topic) for topic in {each.topic for each in wanted}}
    asked = client.describe_configs(list(resources.values()), request_timeout=ANSWER_S)
    try:
        entries = {topic: asked[resource].result() for topic, resource in resources.items()}
    except KafkaException as error:
        raise TopicError(f"the broker does not say what settings topics have: {error.args[0].str()}") from None
    return next((each for each in wanted if entries[each.topic][each.setting].value != each.wanted), None)
