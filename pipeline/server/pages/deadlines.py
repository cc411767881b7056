"""Deadlines over HTTP: what is still due for an aggregate, and when."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pipeline.adapters.json.writing import to_json
from pipeline.engine.state.deadlines import deadline_key, parts
from pipeline.engine.state.table import RowCodec
from pipeline.flow.command_to_deadline import SCHEDULED
from pipeline.model import NEVER, CommandMessage, DeadlineMessage, TopicKind
from pipeline.server.endpoint import Page, Pages, Reply, Request
from pipeline.server.endpoints.aggregates import DEADLINES
from pipeline.server.reads.local_tables import LocalTables
from pipeline.topology import Topology

SHOWN_MAX = 1_000  # for one aggregate


class DeadlineApi:
    """`GET /v1/deadlines/{aggregate}/{key}`. `commands`: the command codec of each aggregate owned here."""

    def __init__(self, commands: Mapping[str, RowCodec], tables: LocalTables, topology: Topology) -> None:
        self._commands, self._tables, self._topology = commands, tables, topology

    def pages(self) -> Pages:
        """Return the pages."""
        return {DEADLINES: Page(self.deadlines, self._check)}

    def _check(self, request: Request) -> None:
        self._topology.with_deadlines(request.parts["aggregate"])

    async def deadlines(self, request: Request) -> Reply:
        """Return deadlines and scheduled commands, in order of time."""
        name, key, partition = request.parts["aggregate"], request.parts["key"], request.partition
        prefix = deadline_key(key.encode(), "")
        found = self._tables.pairs(TopicKind.DEADLINES.topic(name), partition, prefix, prefix, SHOWN_MAX + 1)
        told = [self._told(name, row_key, row) for row_key, row in found[:SHOWN_MAX]]
        told.sort(key=lambda each: (each["due_ms"] or 0, each["name"]))
        return Reply(200, {"aggregate": name, "key": key, "deadlines": told, "complete": len(found) <= SHOWN_MAX})

    def _told(self, aggregate: str, row_key: bytes, row: DeadlineMessage) -> dict[str, Any]:
        command: CommandMessage = self._commands[aggregate].decode(row.command)
        kind, _, name = parts(row_key)[1].partition(":")
        return {
            "kind": "scheduled" if f"{kind}:" == SCHEDULED else kind,
            "name": name,
            "due_ms": None if row.due_ms == NEVER else row.due_ms,
            "command_id": command.id,
            "correlation_id": command.correlation_id,
            "command": to_json(command.body, tagged=True),
        }
