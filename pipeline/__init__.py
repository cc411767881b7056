"""Data management in services over Apache Kafka: commands in, event logs, tables and projections out."""

from typing import TYPE_CHECKING, Any

from pipeline.model import (
    Aggregate,
    Cancel,
    Database,
    Deadline,
    Idempotency,
    Projection,
    Reaction,
    Rejected,
    Replica,
    Send,
    Service,
    Source,
    Token,
    Tumbling,
    Unique,
    moment_ms,
    top,
)

if TYPE_CHECKING:
    from pipeline.query.client import AsyncQueryClient, QueryClient

__all__ = [
    "Aggregate",
    "AsyncQueryClient",
    "Cancel",
    "Database",
    "Deadline",
    "Idempotency",
    "Projection",
    "QueryClient",
    "Reaction",
    "Rejected",
    "Replica",
    "Send",
    "Service",
    "Source",
    "Token",
    "Tumbling",
    "Unique",
    "moment_ms",
    "top",
]


def __getattr__(name: str) -> Any:
    """The clients come when they are asked for: who only declares services needs no Kafka library."""
    if name in ("AsyncQueryClient", "QueryClient"):
        from pipeline.query import client

        return getattr(client, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
