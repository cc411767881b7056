"""Data management in services over Apache Kafka: commands in, event logs, tables and projections out."""

from pipeline.model import (
    Aggregate,
    Database,
    Idempotency,
    Projection,
    Reaction,
    Rejected,
    Replica,
    Send,
    Service,
    Source,
    Tumbling,
    moment_ms,
    top,
)

__all__ = [
    "Aggregate",
    "Database",
    "Idempotency",
    "Projection",
    "Reaction",
    "Rejected",
    "Replica",
    "Send",
    "Service",
    "Source",
    "Tumbling",
    "moment_ms",
    "top",
]
