"""The kinds of topic and how each is named: `<owner>.<kind>`. Nothing else in the project builds a topic name."""

from __future__ import annotations

from enum import Enum


class TopicKind(Enum):
    """One of the kinds of topic that a service reads or writes; the value is the last part of the topic's name."""

    COMMAND = "command"  # what is asked of an aggregate; kept for a while
    EVENT = "event"  # the event log of an aggregate, the source of truth; kept for ever
    STATE = "state"  # current state of each aggregate; compacted; changelog of its table and a public feed
    ROW = "row"  # current rows of a projection; compacted; changelog of its table and a public feed
    BY_KEY = "by_key"  # repartition topic of a projection that is keyed otherwise than its sources
    REPLIES = "replies"  # replies of an aggregate by command id, to be given again; changelog of its memory
    DEADLINES = "deadlines"  # what an aggregate is to be sent later; compacted; changelog of that table
    REPLY = "reply"  # answers to the commands of one requester, a program outside or a worker's own HTTP side
    QUEUE = "queue"  # records of a source topic that wait in order, by key; compacted; changelog of their table
    PARKED = "parked"  # what became of records of a service that could not be processed, each with its cause
    POSITIONS = "positions"  # where a service's source partitions stand, and what has folded them; compacted
    VERSIONS = "versions"  # which version of a projection readers get; compacted
    SCHEMAS = "schemas"  # one for the cluster: what records are written with; compacted
    REPLICA = "replica"  # not a topic: the schema of the rows that a service keeps of another's data

    def topic(self, owner: str) -> str:
        """Name of the topic of this kind that belongs to `owner`, an aggregate, projection or service."""
        return f"{owner}.{self.value}"

    @staticmethod
    def of(topic: str) -> TopicKind | None:
        """The kind that the topic's name tells, if any."""
        return _KINDS.get(topic.rpartition(".")[2])

    @property
    def published(self) -> bool:
        """Whether a service offers it to others; all else is its own, and may change without notice."""
        return self in (TopicKind.EVENT, TopicKind.STATE, TopicKind.ROW)

    @property
    def compacted(self) -> bool:
        """Whether only the last record of each key is kept."""
        return self in _COMPACTED


_COMPACTED = (
    TopicKind.STATE,
    TopicKind.ROW,
    TopicKind.DEADLINES,
    TopicKind.QUEUE,
    TopicKind.POSITIONS,
    TopicKind.VERSIONS,
    TopicKind.SCHEMAS,
)
SCHEMAS_TOPIC = TopicKind.SCHEMAS.topic("pipeline")
RESTORED_TOPIC = "pipeline.restored"  # what a cluster was restored from: pipeline restore
_KINDS = {kind.value: kind for kind in TopicKind}
