"""The connection to a cluster: its address and, if a file gives them, credentials."""

from __future__ import annotations

from typing import Any

from pipeline.adapters.client_config import kafka_settings


def connection(bootstrap: str) -> dict[str, Any]:
    """Return the settings of a Kafka client. Raises ClientConfigError."""
    return {**kafka_settings(), "bootstrap.servers": bootstrap}
