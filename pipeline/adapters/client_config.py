"""The file with the settings of connections: to a cluster, and to a schema registry."""

from __future__ import annotations

import os
from functools import cache
from pathlib import Path

from pipeline.errors import ClientConfigError

VARIABLE = "PIPELINE_CLIENT_CONFIG"  # names the file; child processes inherit it
KAFKA = ("security.", "sasl.", "ssl.", "enable.ssl.", "https.ca.")  # all else the engine relies on
REGISTRY = "schema.registry."
SECRET = ("password", "secret", "user.info", "token", "key.pem", "sasl.oauthbearer.config")
OF_REGISTRY = ("basic.auth.user.info", "bearer.auth.", "ssl.", "proxy")  # all else says how it is asked


def kafka_settings() -> dict[str, str]:
    """Return the settings of Kafka clients. Raises ClientConfigError."""
    return {name: value for name, value in _settings().items() if not name.startswith(REGISTRY)}


def registry_settings() -> dict[str, str]:
    """Return the settings of clients of a schema registry, as these name them. Raises ClientConfigError."""
    found = _settings().items()
    return {name.removeprefix(REGISTRY): value for name, value in found if name.startswith(REGISTRY)}


def secrets_of_settings() -> list[str]:
    """Return the values that no log may show. A file that cannot be read has none here: its reader says so."""
    try:
        found = _settings().items()
    except ClientConfigError:
        return []
    named = [value for name, value in found if any(word in name for word in SECRET)]
    return [part for value in named for part in (value, value.partition(":")[2]) if part]


def config_path() -> str:
    """Return the path of the file; empty if there is none."""
    return os.environ.get(VARIABLE, "")


def _settings() -> dict[str, str]:
    return _read(path) if (path := config_path()) else {}


@cache
def _read(path: str) -> dict[str, str]:
    """Return the lines `name=value` of a file; those that begin with # are left out."""
    try:
        lines = [line.strip() for line in Path(path).read_text().splitlines()]
    except (OSError, UnicodeDecodeError) as error:
        raise ClientConfigError(f"the client configuration {path} cannot be read: {error}") from None
    settings: dict[str, str] = {}
    for line in lines:
        if not line or line.startswith("#"):
            continue
        name, sign, value = (part.strip() for part in line.partition("="))
        if not sign or not _is_allowed(name):
            raise ClientConfigError(
                f"{path}: {name!r:.100} is no setting allowed there; write name=value, with names that begin "
                f"with {', '.join(KAFKA)}, or for a schema registry, "
                f"{', '.join(REGISTRY + part for part in OF_REGISTRY)}"
            )
        settings[name] = value
    return settings


def _is_allowed(name: str) -> bool:
    if name.startswith(REGISTRY):
        return name.removeprefix(REGISTRY).startswith(OF_REGISTRY)
    return name.startswith(KAFKA)
