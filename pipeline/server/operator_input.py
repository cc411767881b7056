"""What people say with what they have done by hand."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pipeline.errors import BadRequest

TEXT_MAX = 200  # characters of who has something done, and of why


def audit_text(body: Mapping[str, Any], name: str) -> str:
    """The text of that name, `by` or `why`. Raises BadRequest."""
    text = body.get(name)
    if not isinstance(text, str) or not 0 < len(text) <= TEXT_MAX:
        raise BadRequest(f"`{name}` must be a text of 1 to {TEXT_MAX} characters: it is kept with what is done")
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise BadRequest(f"`{name}` is no text that UTF-8 can hold: {error}") from None
    return text
