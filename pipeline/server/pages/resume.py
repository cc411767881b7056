"""To have a service go on over HTTP, at all its workers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pipeline.errors import PipelineError, TableUnavailable
from pipeline.server.endpoint import Page, Pages, Reply, Request
from pipeline.server.endpoints.operators import RESUME
from pipeline.server.operator_input import audit_of
from pipeline.server.owner.dispatch import Dispatcher
from pipeline.server.owner.forward import FORWARDED
from pipeline.server.pages.parked import Host, chosen


class ResumeApi:
    """`POST /v1/parked/{service}/resume`: a service goes on that is held, and so do the replicas that hold keys."""

    def __init__(self, hosts: Mapping[str, Host], dispatcher: Dispatcher) -> None:
        self._hosts, self._dispatcher, self._topology = hosts, dispatcher, dispatcher.topology

    def pages(self) -> Pages:
        """Return the page."""
        return {RESUME: Page(self.resume, lambda request: audit_of(request.body))}

    async def resume(self, request: Request) -> Reply:
        """Have each worker of a service go on; reply once all that answer have."""
        name, audit = request.parts["service"], audit_of(request.body)
        if FORWARDED in request.headers:
            if name not in self._hosts:
                raise TableUnavailable(f"the service {name!r} does not run here; ask again")
            done = await self._hosts[name].ask(lambda lane: lane.resume(audit))
            return Reply(200, {"workers": [{"service": name, **done._asdict()}], "unavailable": []})
        found: list[dict[str, Any]] = []
        unavailable: list[str] = []
        for service in chosen(self._topology, name):
            replies = await self._dispatcher.of_workers(service.name, RESUME, {"service": service.name}, request.body)
            for url, reply in replies.items():
                if isinstance(reply, PipelineError):
                    unavailable.append(f"{url}: {reply}")
                else:
                    found += [{"worker": url, **each} for each in reply.body["workers"]]
        if not found:
            why = "; ".join(unavailable) or "none runs"
            raise TableUnavailable(f"no worker of {name!r} can answer: {why}; ask again, or start one: pipeline worker")
        return Reply(200, {"workers": found, "unavailable": unavailable})
