"""Commands over HTTP: any worker takes commands for any aggregate, and returns their outcomes."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any

from pipeline.client import AsyncClient
from pipeline.client.command_client import Options
from pipeline.client.commands import outcome_json
from pipeline.client.wire.outcome import Accepted, Outcome, outcome_of
from pipeline.engine.state.deadlines import deadline_key
from pipeline.engine.state.replies import reply_key
from pipeline.engine.state.row_keys import join_key
from pipeline.errors import BadRequest, InvalidCommand, NoReply, UndecodableRecord, UnknownAggregate
from pipeline.flow.command_to_deadline import SCHEDULED
from pipeline.model import Rejected, ReplyMessage, TopicKind
from pipeline.server.endpoint import Page, Pages, Reply, Request, problem
from pipeline.server.endpoints.aggregates import OUTCOME, SEND
from pipeline.server.entity_tags import Tags
from pipeline.server.owner.dispatch import Dispatcher
from pipeline.server.reads.local_tables import LocalTables
from pipeline.server.replies import location, outcome_reply, unknown_reply

LOOK_MAX = 1_000  # parked records of a key that are searched for a command
Version = Callable[[Request, str, str], Awaitable[int]]  # of an aggregate and key


class CommandApi:
    """`POST /v1/commands/{aggregate}/{key}` and `GET /v1/commands/{aggregate}/{key}/{id}`.

    `client` is called on the first command, so a worker without commands keeps no connection for them. `version` looks
    an aggregate's version up.
    """

    def __init__(
        self, client: Callable[[], AsyncClient], tables: LocalTables, dispatcher: Dispatcher, version: Version
    ) -> None:
        self._make, self._tables, self._dispatcher, self._version = client, tables, dispatcher, version
        self._client: AsyncClient | None = None

    def pages(self) -> Pages:
        """Return the pages."""
        return {SEND: Page(self.send), OUTCOME: Page(self.outcome, self._check)}

    async def close(self) -> None:
        """Send what is queued."""
        if self._client is not None:
            await self._client.close()

    async def _connected(self) -> AsyncClient:
        if self._client is None:
            made = await self._dispatcher.blocking(self._make)
            if self._client is None:
                self._client = made
            else:
                await made.close()
        return self._client

    # --- pages --------------------------------------------------------------------------------------------------------

    async def send(self, request: Request) -> Reply:
        """Send a command: its fields as JSON, with its class's name as `type`."""
        aggregate, key = request.parts["aggregate"], request.parts["key"]
        client = await self._connected()
        command = client.commands.from_tagged_json(aggregate, request.body)
        return await self.perform(request, aggregate, key, command, request.path, request["at"])

    async def perform(
        self, request: Request, aggregate: str, key: str, command: Any, place: str = "", due_ms: int | None = None
    ) -> Reply:
        """Send a command with the headers' options; return its outcome. `place`: where to ask for it later."""
        wait_s, options = request["Prefer"], _options(request)
        options["at"] = due_ms
        client = await self._connected()
        expected = await self._expected(request, aggregate, key, due_ms)
        if isinstance(expected, Accepted | Rejected):
            return outcome_reply(expected)
        options["expected_version"] = expected
        try:
            if wait_s == 0 or _ms_to_come(due_ms) > 1000 * wait_s:
                command_id, position = await client.store(aggregate, key, command, **options)
                told = {"command_id": command_id, "position": position, "due_ms": due_ms}
                return Reply(202, told, location(place, command_id))
            return outcome_reply(await client.send(aggregate, key, command, wait=wait_s, **options))
        except NoReply as error:
            return unknown_reply(error, place, due_ms=due_ms)

    async def _expected(self, request: Request, aggregate: str, key: str, due_ms: int | None) -> int | Outcome | None:
        """Return the version that If-Match and If-None-Match leave to the command; None for any.

        One version, or none at all, is decided with the command. For all else the version is looked up, and the command
        expects that one if it will do. If it will not do, or the command's id has an outcome, return that.
        """
        wanted: Tags | None = request["If-Match"]
        unwanted: Tags | None = request["If-None-Match"]
        if wanted is None and unwanted is None:
            return None
        if unwanted is None and wanted is not None and len(wanted.names) == 1:
            return int(wanted.names[0])
        if wanted is None and unwanted is not None and unwanted.is_any:
            return 0
        if _ms_to_come(due_ms) > 0 and (wanted is None or not wanted.is_any or unwanted is not None):
            raise BadRequest("give one version in If-Match with a command that is decided later, or *")
        version = await self._version(request, aggregate, key)
        if (known := await self._known(request, aggregate, key)) is not None:
            return known
        there = str(version) if version else None
        if (wanted is None or wanted.has(there) or str(version) in wanted.names) and not (
            unwanted and unwanted.has(there)
        ):
            return None if unwanted is None and wanted is not None and wanted.is_any else version  # events stay
        expected = " and ".join(
            f"{what}{tags}" for what, tags in (("", wanted), ("not ", unwanted)) if tags is not None
        )
        return Rejected("version_conflict", {"expected": expected, "actual": str(version)})

    async def _known(self, request: Request, aggregate: str, key: str) -> Outcome | None:
        """Return the outcome of the command that was sent before under the request's id, if it has one."""
        command_id, client = request["Idempotency-Key"], await self._connected()
        if command_id is None:
            return None
        try:
            found = await client.outcome(aggregate, key, command_id)
        except InvalidCommand:  # it keeps no replies
            return None
        return found if isinstance(found, Accepted | Rejected) else None

    def _check(self, request: Request) -> None:
        name, services = request.parts["aggregate"], self._dispatcher.topology.services.values()
        known = {aggregate.name for service in services for aggregate in service.addressed}
        if name not in known:
            raise UnknownAggregate(f"no aggregate {name!r}; there are {', '.join(sorted(known))}")

    async def outcome(self, request: Request) -> Reply:
        """Return the outcome of an earlier command; 404 while it is unknown."""
        aggregate, key, command_id = (request.parts[name] for name in ("aggregate", "key", "id"))
        client, partition = await self._connected(), request.partition
        topic = TopicKind.REPLIES.topic(aggregate)
        if not self._tables.holds(topic, partition):
            return problem(404, f"{aggregate!r} does not keep replies (idempotency=None)", "NotRemembered")
        reply: ReplyMessage | None = self._tables.value(topic, partition, reply_key(key.encode(), command_id))
        if reply is None and (cause := self._parked(client, aggregate, partition, key, command_id)) is not None:
            return Reply(202, {"outcome": "parked", "command_id": command_id, "cause": cause})
        if reply is None and (due_ms := self._due_ms(aggregate, partition, key, command_id)) is not None:
            return Reply(202, {"command_id": command_id, "due_ms": due_ms, "detail": "it is scheduled"})
        if reply is None:
            return problem(404, f"the command {command_id!r} to {aggregate} {key!r} is unknown", "UnknownCommand")
        return Reply(200, outcome_json(outcome_of(reply, client.commands.events, client.commands.mark)))

    def _due_ms(self, aggregate: str, partition: int, key: str, command_id: str) -> int | None:
        """Return when a scheduled command is due; None if there is no such command, or it is decided."""
        topic = TopicKind.DEADLINES.topic(aggregate)
        if not self._tables.holds(topic, partition):
            return None
        row = self._tables.value(topic, partition, deadline_key(key.encode(), SCHEDULED + command_id))
        return None if row is None else int(row.due_ms)

    def _parked(self, client: AsyncClient, aggregate: str, partition: int, key: str, command_id: str) -> str | None:
        """Return why a command waits, if it does. Looks only at the first records of a long queue."""
        service = self._dispatcher.topology.service_of(aggregate).name
        queue = TopicKind.QUEUE.topic(f"{service}.{TopicKind.COMMAND.topic(aggregate)}")
        prefix = join_key(key.encode())
        for _, entry in self._tables.pairs(queue, partition, prefix, prefix, LOOK_MAX):
            with suppress(UndecodableRecord):
                if client.commands.kind(aggregate).decode(entry.value).id == command_id:
                    return entry.cause or "it waits behind a parked record of its key"
        return None


def _ms_to_come(due_ms: int | None) -> float:
    return 0 if due_ms is None else due_ms - time.time() * 1000


def _options(request: Request) -> Options:
    """Return the command's options from the headers."""
    options = Options()
    if request["Idempotency-Key"] is not None:
        options["command_id"] = request["Idempotency-Key"]
    if request["X-Correlation-Id"]:
        options["correlation_id"] = request["X-Correlation-Id"]
    if request["X-Issued-At"] is not None:
        options["issued_ms"] = request["X-Issued-At"]
    return options
