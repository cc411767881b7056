"""The secret under which a service's unique values are reserved: a file that all of its workers have."""

from __future__ import annotations

import logging
import os
import secrets
from contextlib import suppress
from pathlib import Path

from pipeline.errors import StateDirectoryError

log = logging.getLogger(__name__)

BYTES_MIN = 16


def service_secret(file: Path, *, make: bool) -> bytes:
    """What the file holds, without blank ends. `make`: a file that is not there is written, for its owner alone.

    Raises StateDirectoryError.
    """
    try:
        if make and not file.exists():
            _make(file)
        secret = file.read_bytes().strip()
    except OSError as error:
        raise StateDirectoryError(
            f"cannot read the secret {file}: {error.strerror}; give one with --secret-file"
        ) from error
    if len(secret) < BYTES_MIN:
        raise StateDirectoryError(f"the secret {file} has {len(secret)} bytes; give at least {BYTES_MIN}")
    return secret


def _make(file: Path) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    mine = file.with_name(f"{file.name}.{os.getpid()}")
    with os.fdopen(os.open(mine, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as out:
        out.write(secrets.token_hex(32))
    with suppress(FileExistsError):  # another worker was first: its secret it is
        os.link(mine, file)
        log.warning("%s now holds the secret of unique values; every worker elsewhere needs the same file", file)
    mine.unlink()
