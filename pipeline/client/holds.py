"""Why a service folds nothing at present, as the status of its workers says: for those who wait for it."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from pipeline.adapters.kafka.owners import Router
from pipeline.client.owner_request import Answer, Blocking, HttpCall, Steps
from pipeline.errors import PipelineError

ANSWER_S = 2.0
FRESH_S = 1.0  # how long a result is used; thousands may give up waiting at once


class Holds:
    """Looks up which services are held. `clock`: seconds."""

    def __init__(self, router: Router, clock: Callable[[], float]) -> None:
        self._router, self._clock = router, clock
        self._known: dict[str, tuple[float, str]] = {}

    def of(self, services: Iterable[str]) -> Steps[dict[str, str]]:
        """Return why services are held, and the cure, by service; those that are not, or do not say, are left out."""
        found = {}
        for service in dict.fromkeys(services):
            at_s, why = self._known.get(service, (-FRESH_S, ""))
            if self._clock() - at_s >= FRESH_S:
                why = yield from self._look(service)
                self._known[service] = self._clock(), why
            if why:
                found[service] = why
        return found

    def _look(self, service: str) -> Steps[str]:
        try:
            workers: list[str] = yield Blocking(lambda: self._router.workers(service))
        except PipelineError:
            return ""
        for url in dict.fromkeys(workers):
            answer: Answer | None = yield HttpCall(url, "/v1/status", {}, ANSWER_S)
            if answer is not None and answer.status == 200:
                status = answer.body.get(service, {})
                if why := status.get("held_why") or status.get("paused_why"):
                    return str(why)
        return ""
