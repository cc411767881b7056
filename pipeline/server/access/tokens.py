"""A file of access tokens: a name and a hash a line, never a token.

A token is 32 random bytes, so that a plain SHA-256 of it is safe to keep: there is nothing to guess.
"""

from __future__ import annotations

import hashlib
import hmac
import logging
import os
import re
import secrets
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

from pipeline.errors import AccessTokenError
from pipeline.process.locks import Busy, locked

log = logging.getLogger(__name__)

HEAD = "# Access tokens: name, hash, when it was made. Kept by `pipeline token`.\n"
PREFIX = "kpt_"  # so that a token in the wrong place is recognised as one
TOKEN_BYTES = 32
TOKENS_MAX, NAME_MAX = 1_000, 64
FILE_BYTES_MAX = 1_000_000
LOOK_S = 1.0  # how often the file is looked at
LOCK_S = 10.0
NAME = re.compile(rf"[A-Za-z0-9][A-Za-z0-9._-]{{0,{NAME_MAX - 1}}}")
LINE = re.compile(rf"({NAME.pattern})[ \t]+sha256:([0-9a-f]{{64}})(?:[ \t]+(\S+))?")


class Entry(NamedTuple):
    """A token of the file. `made`: when, as text; empty if the file does not say."""

    name: str
    digest: str
    made: str


def digest_of(token: str) -> str:
    """Return the hash under which a token is kept."""
    return hashlib.sha256(token.encode(errors="surrogateescape")).hexdigest()


def read(path: Path) -> list[Entry]:
    """Return the tokens of a file. Raises AccessTokenError if there is a line that is none, or two of one name."""
    try:
        with path.open("rb") as file:
            data = file.read(FILE_BYTES_MAX + 1)
    except OSError as error:
        raise AccessTokenError(
            f"cannot read the access tokens {path}: {error.strerror}; make the first with: pipeline token new NAME "
            f"--file {path}"
        ) from None
    entries: dict[str, Entry] = {}
    for number, line in enumerate(data.decode(errors="replace").splitlines(), 1):
        text = line.strip()
        if not text or text.startswith("#"):
            continue
        if (found := LINE.fullmatch(text)) is None:  # the line is not shown: it may be a token itself
            raise AccessTokenError(
                f"{path} line {number} is no entry of an access token: a name, and sha256: with 64 digits; remove the "
                f"line, and make a token with: pipeline token new NAME --file {path}"
            )
        if found[1] in entries:
            raise AccessTokenError(f"{path} line {number}: there are two tokens called {found[1]!r}; remove one")
        entries[found[1]] = Entry(found[1], found[2], found[3] or "")
    if len(entries) > TOKENS_MAX or len(data) > FILE_BYTES_MAX:
        raise AccessTokenError(f"{path} has more than {TOKENS_MAX:,} access tokens; revoke what is not in use")
    return list(entries.values())


def add(path: Path, name: str) -> str:
    """Make a token of that name, keep its hash in the file, and return it. Raises AccessTokenError."""
    if NAME.fullmatch(name) is None:
        raise AccessTokenError(
            f"{name!r:.100} cannot be the name of an access token; give up to {NAME_MAX} letters, digits, '.', '_' or "
            "'-', such as orders-web"
        )
    with _changing(path):
        entries = read(path) if path.exists() else []
        if any(entry.name == name for entry in entries):
            raise AccessTokenError(
                f"{path} has a token called {name!r} already; give the new one another name, such as {name}-2, and "
                f"revoke {name!r} once its callers have the new one"
            )
        token = PREFIX + secrets.token_urlsafe(TOKEN_BYTES)
        _write(path, [*entries, Entry(name, digest_of(token), datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"))])
    return token


def revoke(path: Path, name: str) -> None:
    """Take the token of that name out of the file. Raises AccessTokenError if there is none."""
    with _changing(path):
        entries = read(path)
        kept = [entry for entry in entries if entry.name != name]
        if len(kept) == len(entries):
            names = ", ".join(entry.name for entry in entries) or "none"
            raise AccessTokenError(f"{path} has no token called {name!r:.100}; it has {names}")
        _write(path, kept)


@contextmanager
def _changing(path: Path) -> Iterator[None]:
    """Keep other processes from changing the file. Raises AccessTokenError."""
    try:
        with locked(path.with_name(f".{path.name}.lock"), LOCK_S):
            yield
    except Busy:
        raise AccessTokenError(f"another process is changing {path}; try again once it is done") from None
    except OSError as error:
        raise AccessTokenError(
            f"cannot write the access tokens {path}: {error.strerror}; choose another --file"
        ) from None


def _write(path: Path, entries: Sequence[Entry]) -> None:
    """Replace the file as one: a worker that reads it meanwhile sees the old or the new."""
    mode = path.stat().st_mode & 0o777 if path.exists() else 0o600
    part = path.with_name(f".{path.name}.{os.getpid()}")
    with os.fdopen(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode), "w") as out:
        out.write(HEAD + "".join(f"{' '.join((e.name, f'sha256:{e.digest}', e.made)).strip()}\n" for e in entries))
    part.replace(path)


class AccessTokens:
    """The tokens that a worker knows, of a file that is read again once it has changed. For one thread.

    Raises AccessTokenError if the file cannot be used, or has no token. Later it is logged, and what was last read
    holds.
    """

    def __init__(self, path: Path, clock: Callable[[], float] = time.monotonic) -> None:
        self._path, self._clock = path, clock
        self._seen, self._looked_s, self._failed = self._mark(), clock(), ""
        self._entries = read(path)
        if not self._entries:
            raise AccessTokenError(f"{path} has no access token; make one with: pipeline token new NAME --file {path}")

    def caller(self, token: str) -> str | None:
        """Return the name of the token, None if it is not known. All are compared, each in constant time."""
        self._look()
        digest, found = digest_of(token), None
        for entry in self._entries:
            if hmac.compare_digest(entry.digest, digest):
                found = entry.name
        return found

    def _mark(self) -> tuple[int, ...]:
        """Return what changes with the file. Raises OSError."""
        try:
            told = self._path.stat()
        except OSError:
            return ()
        return told.st_mtime_ns, told.st_ino, told.st_size

    def _look(self) -> None:
        now_s = self._clock()
        if now_s - self._looked_s < LOOK_S:
            return
        self._looked_s = now_s
        if (mark := self._mark()) == self._seen:
            return
        try:
            self._entries = read(self._path)
        except AccessTokenError as error:
            if str(error) != self._failed:
                log.error("%s; the tokens read before are valid until it is", error)
                self._failed = str(error)
            return  # and look again, as it may be just being written
        self._seen, self._failed = mark, ""
        log.info(
            "%s has changed: access tokens of %s", self._path, ", ".join(e.name for e in self._entries) or "nobody"
        )
