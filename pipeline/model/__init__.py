"""What an author writes a service with: pure values, no client library, no clock, no I/O (a test holds this)."""

from pipeline.model.aggregate import Aggregate, Idempotency, Rejected
from pipeline.model.messages import Acceptance, CommandMessage, EventMessage, ReplyMessage, StateMessage
from pipeline.model.projection import Database, Projection, Replica
from pipeline.model.reaction import Reaction, Send
from pipeline.model.service import Service
from pipeline.model.source import Source
from pipeline.model.topics import TopicKind
from pipeline.model.windows import Tumbling, moment_ms, moment_text, top

__all__ = [
    "Acceptance",
    "Aggregate",
    "CommandMessage",
    "Database",
    "EventMessage",
    "Idempotency",
    "Projection",
    "Reaction",
    "Rejected",
    "Replica",
    "ReplyMessage",
    "Send",
    "Service",
    "Source",
    "StateMessage",
    "TopicKind",
    "Tumbling",
    "moment_ms",
    "moment_text",
    "top",
]
