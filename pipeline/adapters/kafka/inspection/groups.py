"""Consumer groups of services: who is a member, who owns which partition, and how far each is folded."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import closing
from typing import Any, NamedTuple

from confluent_kafka.admin import AdminClient

from pipeline.adapters.kafka.cluster import (
    ANSWER_S,
    GROUP_S,
    asked_again,
    describe_group,
    end_offsets,
    first_offsets,
    read_pause,
)
from pipeline.adapters.kafka.cluster import read_owners as writers_of
from pipeline.adapters.kafka.group_offsets import GroupOffsets
from pipeline.adapters.kafka.owners import address
from pipeline.engine.ports import TP, Pause


class Member(NamedTuple):
    """A worker's consumer. `name`: the static one, else the id that the coordinator gave; `url`: where it serves."""

    name: str
    host: str
    url: str | None
    partitions: Sequence[TP]


class Place(NamedTuple):
    """How far a partition is folded. `committed`: the next offset; None: nothing is committed. `writers`: who did.

    `pause`: an operator's; nothing more is folded there until it ends.
    """

    tp: TP
    committed: int | None
    low: int
    end: int
    owner: Member | None
    writers: Sequence[str]
    pause: Pause | None

    @property
    def lag(self) -> int:
        """The offsets between what is folded and the end, marks of transactions among them."""
        return max(0, self.end - (self.low if self.committed is None else max(self.committed, self.low)))


class GroupNow(NamedTuple):
    """A group as it is. `state`: as Kafka calls it, in lower case; `absent` if there is no such group."""

    name: str
    state: str
    coordinator: str | None
    members: Sequence[Member]
    places: Sequence[Place]


def group_now(bootstrap: str, client: AdminClient, group: str, topics: Mapping[str, int]) -> GroupNow:
    """Return a group that folds these topics, each with its number of partitions. Raises BrokerUnreachable."""
    described = asked_again(
        f"the broker does not say who is in the group {group!r}: %s", lambda: describe_group(client, group, ANSWER_S)
    )
    members = [] if described is None else [_member(each) for each in described.members]
    owners = {tp: member for member in members for tp in member.partitions}
    tps = [TP(topic, n) for topic, count in sorted(topics.items()) for n in range(count)]
    with closing(GroupOffsets(bootstrap, group, stable=False)) as offsets:
        told = offsets.of_all(tps, GROUP_S)
    low, end = first_offsets(client, tps), end_offsets(client, tps)
    places = []
    for tp in tps:
        committed = told.get(tp)
        writers = () if committed is None else writers_of(committed.note)
        offset = None if committed is None else committed.offset
        pause = None if committed is None else read_pause(committed.note)
        places.append(Place(tp, offset, low[tp], end[tp], owners.get(tp), writers, pause))
    state = "absent" if described is None else described.state.name.lower().replace("_", " ")
    return GroupNow(group, state, _node(described), sorted(members, key=lambda each: each.name), places)


def _member(described: Any) -> Member:
    assigned = described.assignment.topic_partitions if described.assignment else ()
    partitions = sorted(TP(each.topic, each.partition) for each in assigned)
    name = described.group_instance_id or described.member_id
    return Member(name, str(described.host).lstrip("/"), address(described.client_id or ""), partitions)


def _node(described: Any) -> str | None:
    node = getattr(described, "coordinator", None)
    return None if node is None else f"{node.host}:{node.port}"
