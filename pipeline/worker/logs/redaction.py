"""Keeps secrets out of log lines: those that are known, and those that can be told by where they stand."""

from __future__ import annotations

import re

HIDDEN = "***"
SHORTEST = 4  # a shorter one stands in ordinary words, too
_IN_URL = re.compile(r"(?<=://)([^/\s:@]*):[^/\s]+@")
_NAMED = re.compile(
    r"(?i)\b([\w.-]*(?:password|passwd|secret|token|api[_-]?key)[\w.-]*[\"']?\s*[=:]\s*[\"']?)[^\s\"',;&]+"
)
_BEARER = re.compile(r"(?i)\b(authorization[\"']?\s*[=:]\s*[\"']?\w+|bearer)\s+[\w.~+/=-]{4,}")

_known: set[str] = set()


def hide(*secrets: str) -> None:
    """Keep these out of all lines from now on."""
    _known.update(text for text in secrets if len(text) >= SHORTEST)


def without_secrets(text: str) -> str:
    """Return the text with each secret replaced."""
    for secret in sorted(_known, key=len, reverse=True):
        text = text.replace(secret, HIDDEN)
    if "://" in text:
        text = _IN_URL.sub(rf"\1:{HIDDEN}@", text)
    return _BEARER.sub(rf"\1 {HIDDEN}", _NAMED.sub(rf"\1{HIDDEN}", text))
