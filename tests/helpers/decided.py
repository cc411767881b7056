"""A command that has its outcome, without a broker, in place of a client's Pending."""

from __future__ import annotations

from typing import Any

from pipeline.client.owner_request import Steps


class Decided:
    """`told`: the outcome, or the error that is raised in its place."""

    id, issued_ms = "id", 1

    def __init__(self, told: Any) -> None:
        self._told = told

    def outcome(self, _: float) -> Steps[Any]:
        """The steps of the outcome."""
        yield from ()
        if isinstance(self._told, Exception):
            raise self._told
        return self._told
