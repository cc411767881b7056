"""Encodes keys in the paths of requests, for clients and workers."""

from __future__ import annotations

from urllib.parse import quote


def path_part(text: str) -> str:
    """Percent-encode a part of a path, so that it is not taken for a folder or the parent folder."""
    return text.replace(".", "%2E") if text in (".", "..") else quote(text, safe="")
