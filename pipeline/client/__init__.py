"""Clients that send commands and receive replies: for programs outside the pipeline, and for a worker's HTTP side."""

from pipeline.client.command_client import AsyncClient, Client, Pending
from pipeline.client.typed.rows import Due, Instance, PastEvent, Row, Standing
from pipeline.client.wire.outcome import Accepted, Outcome

__all__ = ["Accepted", "AsyncClient", "Client", "Due", "Instance", "Outcome", "PastEvent", "Pending", "Row", "Standing"]
