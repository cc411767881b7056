"""What an author writes a service with: pure values, no client library, no clock, no I/O (a test holds this)."""

from pipeline.model.aggregate import Aggregate, Idempotency, Rejected
from pipeline.model.context import CommandContext, EventContext
from pipeline.model.deadline import Cancel, Deadline, Effect
from pipeline.model.fields import Precision, Renamed, renamed
from pipeline.model.invariant import Invariant
from pipeline.model.projection.projection import Copy, Database, Projection, Replica
from pipeline.model.projection.windows import Tumbling, moment_ms, moment_text, top
from pipeline.model.reaction import Reaction, Send
from pipeline.model.records.control import BARRIER, is_barrier
from pipeline.model.records.messages import (
    NEVER,
    Acceptance,
    CommandMessage,
    DeadlineMessage,
    EventMessage,
    Parked,
    ReplyMessage,
    StateMessage,
)
from pipeline.model.records.token import Token, furthest
from pipeline.model.records.topics import TopicKind
from pipeline.model.saga.coordinator import Tell, Transaction, Work, two_phase_saga
from pipeline.model.saga.linear import linear_saga
from pipeline.model.saga.participant import Claim, Ended, Hold, Ledger, Participant
from pipeline.model.saga.saga import Ask, Intervention, Replied, Saga, Started, Summary, TimeUp
from pipeline.model.saga.steps import Did, Progress, Retry, Step, To
from pipeline.model.service import Service
from pipeline.model.source import Source
from pipeline.model.unique import Unique

__all__ = [
    "BARRIER",
    "NEVER",
    "Acceptance",
    "Aggregate",
    "Ask",
    "Cancel",
    "Claim",
    "CommandContext",
    "CommandMessage",
    "Copy",
    "Database",
    "Deadline",
    "DeadlineMessage",
    "Did",
    "Effect",
    "Ended",
    "EventContext",
    "EventMessage",
    "Hold",
    "Idempotency",
    "Intervention",
    "Invariant",
    "Ledger",
    "Parked",
    "Participant",
    "Precision",
    "Progress",
    "Projection",
    "Reaction",
    "Rejected",
    "Renamed",
    "Replica",
    "Replied",
    "ReplyMessage",
    "Retry",
    "Saga",
    "Send",
    "Service",
    "Source",
    "Started",
    "StateMessage",
    "Step",
    "Summary",
    "Tell",
    "TimeUp",
    "To",
    "Token",
    "TopicKind",
    "Transaction",
    "Tumbling",
    "Unique",
    "Work",
    "furthest",
    "is_barrier",
    "linear_saga",
    "moment_ms",
    "moment_text",
    "renamed",
    "top",
    "two_phase_saga",
]
