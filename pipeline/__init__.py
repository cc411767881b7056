"""Data management in services over Apache Kafka: commands in, event logs, tables and projections out."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from pipeline.model import (
    Aggregate,
    Ask,
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
    from pipeline.client import Accepted, AsyncClient, Client, Row
    from pipeline.client.queries import AsyncQueryClient, QueryClient
    from pipeline.contrib.settings import find_cluster
    from pipeline.topology import load as load_topology

__all__ = [
    "Accepted",
    "Aggregate",
    "Ask",
    "AsyncClient",
    "AsyncQueryClient",
    "Cancel",
    "Client",
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
    "Row",
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
    "find_cluster",
    "linear_saga",
    "load_topology",
    "moment_ms",
    "renamed",
    "top",
    "two_phase_saga",
]
# What is imported when it is first used: a program that only declares services needs no Kafka library.
LATER = {
    "Accepted": "pipeline.client.wire.outcome",
    "AsyncClient": "pipeline.client.command_client",
    "AsyncQueryClient": "pipeline.client.queries",
    "Client": "pipeline.client.command_client",
    "QueryClient": "pipeline.client.queries",
    "Row": "pipeline.client.typed.rows",
    "find_cluster": "pipeline.contrib.settings",
    "load_topology": "pipeline.topology",
}


def __getattr__(name: str) -> Any:
    """Import a client, or what comes with one."""
    if name not in LATER:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    found = vars(import_module(LATER[name]))
    return found["load" if name == "load_topology" else name]
