"""Data management in services over Apache Kafka: commands in, event logs, tables and projections out."""

from pipeline.model import (
    Aggregate,
    Cancel,
    Deadline,
    Idempotency,
    Projection,
    Reaction,
    Rejected,
    Replica,
    Send,
    Service,
    Source,
)

__all__ = [
    "Aggregate",
    "Cancel",
    "Deadline",
    "Idempotency",
    "Projection",
    "Reaction",
    "Rejected",
    "Replica",
    "Send",
    "Service",
    "Source",
]
