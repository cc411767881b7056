"""Asks a worker what became of a command: over HTTP, at the one that owns the aggregate."""

from __future__ import annotations

from functools import cached_property
from urllib.parse import quote

import httpx

from pipeline.adapters.kafka import admin
from pipeline.client.commands import Commands
from pipeline.client.outcome import Outcome
from pipeline.errors import InvalidCommand, TableUnavailable
from pipeline.model import Parked
from pipeline.query.routing import Router
from pipeline.topology import Topology

TIMEOUT_S = 10.0


class Fetching:
    """Finds the worker and asks it. Connects when it is first used."""

    def __init__(self, bootstrap: str, topology: Topology, commands: Commands) -> None:
        self._bootstrap, self._topology, self._commands = bootstrap, topology, commands

    @cached_property
    def _router(self) -> Router:
        return Router(admin(self._bootstrap), self._topology)

    @cached_property
    def _http(self) -> httpx.Client:
        return httpx.Client(timeout=TIMEOUT_S)

    def outcome(self, aggregate: str, key: str, command_id: str) -> Outcome | Parked | None:
        """See Client.outcome."""
        self._commands.kind(aggregate)
        holder = self._router.holder(aggregate, self._router.partition(aggregate, key))
        path = f"/v1/commands/{aggregate}/{quote(key, safe='')}/{quote(command_id, safe='')}"
        try:
            answer = self._http.get(holder + path)
        except httpx.HTTPError as error:
            self._router.forget(aggregate)
            raise TableUnavailable(f"the worker at {holder} does not answer ({error!r}); ask again") from None
        if answer.status_code == 200:
            return self._commands.outcome_from_json(aggregate, answer.json())
        if answer.status_code == 202:
            told = answer.json()
            return Parked(told["cause"]) if "cause" in told else None  # else it is scheduled
        told = answer.json() if "json" in answer.headers.get("Content-Type", "") else {}
        if answer.status_code == 404 and told.get("error") == "UnknownCommand":
            return None
        detail = told.get("detail", f"the worker at {holder} answered {answer.status_code}")
        if answer.status_code in (404, 422):
            raise InvalidCommand(detail)
        self._router.forget(aggregate)
        raise TableUnavailable(detail)

    def close(self) -> None:
        """Closes the connections."""
        if "_http" in self.__dict__:
            self._http.close()
