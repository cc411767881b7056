"""The connection to a cluster: its address and, if a file gives them, credentials."""

from __future__ import annotations

import os
from functools import cache
from pathlib import Path
from typing import Any

from pipeline.errors import ClientConfigError

VARIABLE = "PIPELINE_CLIENT_CONFIG"  # names the file; child processes inherit it
ALLOWED = ("security.", "sasl.", "ssl.", "enable.ssl.", "https.ca.")  # all else the engine relies on


def connection(bootstrap: str) -> dict[str, Any]:
    """The settings of a Kafka client. Raises ClientConfigError."""
    path = os.environ.get(VARIABLE, "")
    return {**(_settings(path) if path else {}), "bootstrap.servers": bootstrap}


@cache
def _settings(path: str) -> dict[str, str]:
    """The lines `name=value` of a file, as librdkafka names them; those that begin with # are left out."""
    try:
        lines = [line.strip() for line in Path(path).read_text().splitlines()]
    except (OSError, UnicodeDecodeError) as error:
        raise ClientConfigError(f"the client configuration {path} cannot be read: {error}") from None
    settings: dict[str, str] = {}
    for line in lines:
        if not line or line.startswith("#"):
            continue
        name, sign, value = (part.strip() for part in line.partition("="))
        if not sign or not name.startswith(ALLOWED):
            raise ClientConfigError(
                f"{path}: {name!r:.100} is no setting allowed there; write name=value, with names that begin "
                f"with {', '.join(ALLOWED)}"
            )
        settings[name] = value
    return settings
