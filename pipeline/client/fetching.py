"""Asks a worker what became of a command: over HTTP, at the one that owns the aggregate."""

from __future__ import annotations

import time
from functools import cached_property
from urllib.parse import quote

from pipeline.adapters.kafka import admin
from pipeline.adapters.kafka.owners import Router
from pipeline.client.commands import Commands
from pipeline.client.drive import Driver
from pipeline.client.owner_request import OwnerRequest, problem_of
from pipeline.client.wire.outcome import Outcome
from pipeline.errors import InvalidCommand, TableUnavailable
from pipeline.model import Parked
from pipeline.topology import Topology


class Fetching:
    """Finds the worker and asks it. Connects when it is first used."""

    def __init__(self, bootstrap: str, topology: Topology, commands: Commands) -> None:
        self._bootstrap, self._topology, self._commands = bootstrap, topology, commands
        self._driver = Driver()

    @cached_property
    def _router(self) -> Router:
        return Router(admin(self._bootstrap), self._topology)

    def outcome(self, aggregate: str, key: str, command_id: str) -> Outcome | Parked | None:
        """See Client.outcome."""
        self._commands.kind(aggregate)
        partition = self._router.partition(aggregate, key)
        path = f"/v1/commands/{aggregate}/{quote(key, safe='')}/{quote(command_id, safe='')}"
        answer = self._driver.run(OwnerRequest(self._router, time.monotonic, 0).steps(aggregate, partition, path, {}))
        if answer.status == 200:
            return self._commands.outcome_from_json(aggregate, answer.body)
        if answer.status == 202:
            return Parked(answer.body["cause"]) if "cause" in answer.body else None  # else it is scheduled
        if answer.status == 404 and answer.body.get("error") == "UnknownCommand":
            return None
        detail = str(problem_of(answer))
        raise InvalidCommand(detail) if answer.status in (404, 422) else TableUnavailable(detail)

    def close(self) -> None:
        """Closes the connections."""
        self._driver.close()
