"""The texts that an operator gives with an action: by whom and why."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pipeline.engine.parking.parking_log import Audit
from pipeline.errors import BadRequest

TEXT_MAX = 200  # characters of `by` and of `why`


def audit_text(body: Mapping[str, Any], name: str) -> str:
    """Return the text `by` or `why`. Raises BadRequest."""
    text = body.get(name)
    if not isinstance(text, str) or not 0 < len(text) <= TEXT_MAX:
        raise BadRequest(f"`{name}` must be text of 1 to {TEXT_MAX} characters: it is kept with the action")
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise BadRequest(f"`{name}` is not text that UTF-8 can hold: {error}") from None
    return text


def audit_of(body: Any) -> Audit:
    """Return who asks, and why. Raises BadRequest."""
    if not isinstance(body, dict):
        raise BadRequest("the body must be an object with `by` and `why`")
    return Audit(audit_text(body, "by"), audit_text(body, "why"))
