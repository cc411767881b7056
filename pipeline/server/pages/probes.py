"""Whether a worker lives, and whether it is ready, over HTTP."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from pipeline.server.endpoint import Page, Pages, Reply, Request
from pipeline.server.endpoints.probes import LIVEZ, READYZ

Verdict = Callable[[], tuple[bool, dict[str, Any]]]
FRESH = {"Cache-Control": "no-store"}


class ProbeApi:
    """Serves the probes. `live`, `ready`: return whether it is so, and what to answer, without waiting."""

    def __init__(self, live: Verdict, ready: Verdict) -> None:
        self._live, self._ready = live, ready

    def pages(self) -> Pages:
        """Return the pages."""
        return {LIVEZ: Page(_page(self._live)), READYZ: Page(_page(self._ready))}


def _page(verdict: Verdict) -> Callable[[Request], Any]:
    async def answer(_: Request) -> Reply:
        is_so, told = verdict()
        return Reply(200 if is_so else 503, told, FRESH)

    return answer
