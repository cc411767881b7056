"""Data management in services over Apache Kafka: commands in, event logs, tables and projections out."""

from typing import TYPE_CHECKING, Any

from pipeline.model import (
    Aggregate,
    Cancel,
    CommandContext,
    Copy,
    Database,
    Deadline,
    EventContext,
    Idempotency,
    Invariant,
    Ledger,
    Participant,
    Precision,
    Progress,
    Projection,
    Reaction,
    Rejected,
    Renamed,
    Replica,
    Retry,
    Saga,
    Send,
    Service,
    Source,
    Step,
    To,
    Token,
    Transaction,
    Tumbling,
    Unique,
    Work,
    linear_saga,
    moment_ms,
    renamed,
    top,
    two_phase_saga,
)

if TYPE_CHECKING:
    from pipeline.client.queries import AsyncQueryClient, QueryClient

__all__ = [
    "Aggregate",
    "AsyncQueryClient",
    "Cancel",
    "CommandContext",
    "Copy",
    "Database",
    "Deadline",
    "EventContext",
    "Idempotency",
    "Invariant",
    "Ledger",
    "Participant",
    "Precision",
    "Progress",
    "Projection",
    "QueryClient",
    "Reaction",
    "Rejected",
    "Renamed",
    "Replica",
    "Retry",
    "Saga",
    "Send",
    "Service",
    "Source",
    "Step",
    "To",
    "Token",
    "Transaction",
    "Tumbling",
    "Unique",
    "Work",
    "linear_saga",
    "moment_ms",
    "renamed",
    "top",
    "two_phase_saga",
]


def __getattr__(name: str) -> Any:
    """Import the clients on first use: a program that only declares services needs no Kafka library."""
    if name in ("AsyncQueryClient", "QueryClient"):
        from pipeline.client import queries

        return getattr(queries, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
