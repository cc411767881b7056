"""Where in its sources something begins that is new to a service which has folded them for long."""

from __future__ import annotations

from pipeline.errors import TopologyError

BEGINNING = "beginning"
NOW = "now"


def check_start(start: str, where: str) -> None:
    """Raise TopologyError if that is no place to begin."""
    if start not in (BEGINNING, NOW):
        raise TopologyError(
            f'{where}: start={start!r} is neither "beginning", which is all that its sources hold, nor "now", which is '
            "only what comes from now on"
        )
