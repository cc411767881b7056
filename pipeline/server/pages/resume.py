"""To pause a service, and have one go on, over HTTP: at all its workers."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from pipeline.engine.loop.lane import Lane
from pipeline.engine.loop.operators import Paused, Resumed
from pipeline.engine.parking.parking_log import Audit
from pipeline.errors import PipelineError, TableUnavailable
from pipeline.server.endpoint import Endpoint, Page, Pages, Reply, Request
from pipeline.server.endpoints.operators import PAUSE, RESUME
from pipeline.server.operator_input import audit_of
from pipeline.server.owner.dispatch import Dispatcher
from pipeline.server.owner.forward import FORWARDED
from pipeline.server.pages.parked import Host, chosen

Act = Callable[[Lane, Audit], Paused | Resumed]


class ResumeApi:
    """`POST /v1/services/{service}/pause` and `/resume`: what each worker of a service is asked, and all that reply."""

    def __init__(self, hosts: Mapping[str, Host], dispatcher: Dispatcher) -> None:
        self._hosts, self._dispatcher, self._topology = hosts, dispatcher, dispatcher.topology

    def pages(self) -> Pages:
        """Return the pages."""
        return {
            endpoint: Page(partial(self._all, endpoint, act), lambda request: audit_of(request.body))
            for endpoint, act in ((PAUSE, pause), (RESUME, resume))
        }

    async def _all(self, endpoint: Endpoint, act: Act, request: Request) -> Reply:
        """Ask each worker of a service; reply once all that answer have."""
        name, audit = request.parts["service"], audit_of(request.body)
        if FORWARDED in request.headers:
            if name not in self._hosts:
                raise TableUnavailable(f"the service {name!r} does not run here; ask again")
            done = await self._hosts[name].ask(lambda lane: act(lane, audit))
            return Reply(200, {"workers": [{"service": name, **done._asdict()}], "unavailable": []})
        found: list[dict[str, Any]] = []
        unavailable: list[str] = []
        for service in chosen(self._topology, name):
            replies = await self._dispatcher.of_workers(service.name, endpoint, {"service": service.name}, request.body)
            for url, reply in replies.items():
                if isinstance(reply, PipelineError):
                    unavailable.append(f"{url}: {reply}")
                else:
                    found += [{"worker": url, **each} for each in reply.body["workers"]]
        if not found:
            why = "; ".join(unavailable) or "none runs"
            raise TableUnavailable(f"no worker of {name!r} can answer: {why}; ask again, or start one: pipeline worker")
        return Reply(200, {"workers": found, "unavailable": unavailable})


def pause(lane: Lane, audit: Audit) -> Paused:
    """Have a lane fold no commands."""
    return lane.pause(audit)


def resume(lane: Lane, audit: Audit) -> Resumed:
    """Have a lane go on."""
    return lane.resume(audit)
