"""The access token that a client sends to workers: what it is given, or what PIPELINE_TOKEN says."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Callable
from pathlib import Path

from pipeline.errors import AccessTokenError

VARIABLE = "PIPELINE_TOKEN"
HEADER = "Authorization"
SENDABLE = re.compile(r"[!-~]{1,500}")
LOOK_S = 1.0  # how often a file is looked at
FILE_BYTES_MAX = 4_096

Given = str | Callable[[], str | None] | None


class Access:
    """What a client proves itself with, as the headers of its requests. Safe to use from several threads.

    `given`: a token; `@` and the path of a file with one, which is read again once it has changed; or a function that
    returns one. None: what PIPELINE_TOKEN says now, or nothing. Raises AccessTokenError, which never tells the token.
    """

    def __init__(self, given: Given = None) -> None:
        told = os.environ.get(VARIABLE) if given is None else given
        if callable(told):
            self._token = told
        elif told and told.startswith("@"):
            self._token = _FromFile(Path(told[1:]))
        else:
            token = _checked(told, "the given one" if given else VARIABLE) if told else None
            self._token = lambda: token

    def headers(self) -> dict[str, str]:
        """Return the headers to send. Raises AccessTokenError."""
        token = self._token()
        return {HEADER: f"Bearer {token}"} if token else {}


class _FromFile:
    """A token in a file of its own."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._looked_s, self._seen, self._token = -LOOK_S, (0, 0), ""

    def __call__(self) -> str:
        now_s = time.monotonic()
        if now_s - self._looked_s >= LOOK_S:
            try:
                told = self._path.stat()
                seen = told.st_mtime_ns, told.st_ino
                if seen != self._seen:
                    with self._path.open("rb") as file:
                        text = file.read(FILE_BYTES_MAX).decode(errors="replace").strip()
                    self._token, self._seen = _checked(text, f"the file {self._path}"), seen
            except OSError as error:
                raise AccessTokenError(
                    f"cannot read the access token {self._path}: {error.strerror}; {VARIABLE}=@FILE names it"
                ) from None
            self._looked_s = now_s
        return self._token


def _checked(text: str, where: str) -> str:
    """Return the token. Raises AccessTokenError for what no header can carry; it does not tell what that is."""
    if SENDABLE.fullmatch(text) is None:
        raise AccessTokenError(
            f"{where} holds no access token: it has to be one word of visible ASCII; make one with: "
            "pipeline token new NAME --file FILE"
        )
    return text
