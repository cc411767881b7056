"""How keys stand in the paths of requests, for clients and for workers among themselves."""

from __future__ import annotations

from urllib.parse import quote


def path_part(text: str) -> str:
    """Percent-encode a part of a path, so that nobody takes it for a folder or the folder above."""
    return text.replace(".", "%2E") if text in (".", "..") else quote(text, safe="")
