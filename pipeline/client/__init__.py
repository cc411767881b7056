"""Sends commands and tells what became of them. For programs outside the pipeline, and a worker's own HTTP side."""

from pipeline.client.command_client import AsyncClient, Client, Pending
from pipeline.client.wire.outcome import Accepted, Outcome

__all__ = ["Accepted", "AsyncClient", "Client", "Outcome", "Pending"]
