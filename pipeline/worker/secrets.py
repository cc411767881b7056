"""Words that a home keeps in files: the secret of unique values, which all workers share, and the home's own."""

from __future__ import annotations

import logging
import os
import secrets
import threading
from pathlib import Path

from pipeline.errors import StateDirectoryError

log = logging.getLogger(__name__)

BYTES_MIN = 16
WORD_BYTES = 4


def service_secret(file: Path, *, make: bool) -> bytes:
    """What the file holds, without blank ends. `make`: a file that is not there is written, for its owner alone.

    Raises StateDirectoryError.
    """
    try:
        if make and not file.exists() and _make(file, secrets.token_hex(32)):
            log.warning("%s now holds the secret of unique values; every worker elsewhere needs the same file", file)
        secret = file.read_bytes().strip()
    except OSError as error:
        raise StateDirectoryError(
            f"cannot read the secret {file}: {error.strerror}; give one with --secret-file"
        ) from error
    if len(secret) < BYTES_MIN:
        raise StateDirectoryError(f"the secret {file} has {len(secret)} bytes; give at least {BYTES_MIN}")
    return secret


def home_word(file: Path) -> str:
    """A random word that tells this home from all others; made if there is none. Raises StateDirectoryError."""
    try:
        if not file.exists():
            _make(file, secrets.token_hex(WORD_BYTES))
        word = file.read_text().strip()
    except (OSError, UnicodeDecodeError) as error:
        raise StateDirectoryError(f"cannot read {file}: {error}; choose another --home") from error
    if len(word) != 2 * WORD_BYTES or not word.isalnum():
        raise StateDirectoryError(
            f"{file} is damaged: no worker wrote this; delete it, and the next start makes a new one"
        )
    return word


def _make(file: Path, text: str) -> bool:
    """Write a file for its owner alone. False if another worker was first."""
    file.parent.mkdir(parents=True, exist_ok=True)
    mine = file.with_name(f"{file.name}.{os.getpid()}.{threading.get_ident()}")
    with os.fdopen(os.open(mine, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as out:
        out.write(text)
    try:
        os.link(mine, file)
    except FileExistsError:  # what it has written it is
        return False
    finally:
        mine.unlink()
    return True
