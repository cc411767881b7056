"""Parts that many declarations share."""

from __future__ import annotations

from typing import Any

from pipeline.server.endpoint import Param, number
from pipeline.server.schemas.parts import TEXT

LONG_MAX, INT_MAX = 2**63 - 1, 2**31 - 1


def limit(most: int, description: str = "the largest number to return") -> Param:
    """Declare the parameter for the size of a page."""
    return number("limit", 1, most, 100, description)


def text(name: str, description: str = "", place: str = "query", default: Any = None, **schema: Any) -> Param:
    """Declare a text parameter. `schema`: more members of its schema."""
    return Param(name, {**TEXT, **schema}, description, default=default, place=place)


UNAVAILABLE = {503: "no worker or broker can answer at present; Retry-After says when to ask again"}
BAD_PARAMETER = {400: "a parameter cannot be used"}
NO_JSON = {415: "the body is not application/json", 422: "the body is not JSON"}
ONE_PARTITION = number("partition", 0, INT_MAX, is_hidden=True)
AFTER = text("after", "`next` of the previous page", default="", pattern="^$")
