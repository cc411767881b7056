"""What an author writes a service with: pure values, no client library, no clock, no I/O (a test holds this)."""

from pipeline.model.aggregate import Aggregate, Idempotency, Rejected
from pipeline.model.control import BARRIER, is_barrier
from pipeline.model.deadline import Cancel, Deadline, Effect
from pipeline.model.messages import (
    NEVER,
    Acceptance,
    CommandMessage,
    DeadlineMessage,
    EventMessage,
    Parked,
    ReplyMessage,
    StateMessage,
)
from pipeline.model.projection import Database, Projection, Replica
from pipeline.model.reaction import Reaction, Send
from pipeline.model.service import Service
from pipeline.model.source import Source
from pipeline.model.token import Token, furthest
from pipeline.model.topics import TopicKind
from pipeline.model.unique import Unique
from pipeline.model.windows import Tumbling, moment_ms, moment_text, top

__all__ = [
    "BARRIER",
    "NEVER",
    "Acceptance",
    "Aggregate",
    "Cancel",
    "CommandMessage",
    "Database",
    "Deadline",
    "DeadlineMessage",
    "Effect",
    "EventMessage",
    "Idempotency",
    "Parked",
    "Projection",
    "Reaction",
    "Rejected",
    "Replica",
    "ReplyMessage",
    "Send",
    "Service",
    "Source",
    "StateMessage",
    "Token",
    "TopicKind",
    "Tumbling",
    "Unique",
    "furthest",
    "is_barrier",
    "moment_ms",
    "moment_text",
    "top",
]
