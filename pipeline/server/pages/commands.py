"""Commands over HTTP: any worker takes commands for any aggregate, and tells what became of them."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any
from urllib.parse import quote, unquote_to_bytes

import faust
from aiohttp import web

from pipeline.client import AsyncClient
from pipeline.client.command_client import Options
from pipeline.client.commands import outcome_json
from pipeline.client.wire.as_of import parse_time
from pipeline.client.wire.from_json import parsed
from pipeline.client.wire.outcome import Outcome, outcome_of
from pipeline.engine.state.deadlines import deadline_key
from pipeline.engine.state.parked_table import key_prefix
from pipeline.engine.state.replies import reply_key
from pipeline.errors import BadRequest, InvalidCommand, NoReply, UndecodableRecord
from pipeline.flow.command_to_deadline import SCHEDULED
from pipeline.model import Rejected, ReplyMessage, TopicKind
from pipeline.server.owner.forward import Forwarding
from pipeline.server.problems import add_pages, answer, problem
from pipeline.server.reads.local_tables import LocalTables

WAIT_S, WAIT_S_MAX = 5.0, 60.0
LOOK_MAX = 1_000  # parked records that are searched for a command
CONFLICTS = ("version_conflict", "id_reused")


class CommandApi:
    """`POST /v1/commands/{aggregate}/{key}` and `GET /v1/commands/{aggregate}/{key}/{id}`.

    `client` is made when the first command comes: a worker that nobody sends commands to keeps no connection for it.
    """

    def __init__(self, client: Callable[[], AsyncClient], tables: LocalTables, forwarding: Forwarding) -> None:
        self._make, self._tables, self._forwarding = client, tables, forwarding
        self._client: AsyncClient | None = None

    def mount(self, app: faust.App) -> None:
        """Adds the pages to a Faust app's web server."""
        add_pages(
            app,
            get={"/v1/commands/{aggregate}/{key:[^/]+}/{id:[^/]+}": self.outcome},
            post={"/v1/commands/{aggregate}/{key:[^/]+}": self.send},
        )

    async def close(self) -> None:
        """Sends what is queued."""
        if self._client is not None:
            await self._client.close()

    async def _connected(self) -> AsyncClient:
        if self._client is None:
            made = await self._forwarding.blocking(self._make)
            if self._client is None:
                self._client = made
            else:
                await made.close()
        return self._client

    # --- pages --------------------------------------------------------------------------------------------------------

    async def send(self, request: web.Request) -> web.Response:
        """A command, its fields as JSON with its class's name as `type`."""
        aggregate, key = _in_path(request, "aggregate", "key")
        if request.content_type != "application/json":
            return problem(415, "send the command as application/json", "UnsupportedMediaType")
        due_ms = parse_time(request.query["at"]) if "at" in request.query else None
        body = parsed(await request.read())
        if not isinstance(body, dict) or not isinstance(body.get("type"), str):
            raise InvalidCommand("the body must be an object with the command's fields and its name as `type`")
        client = await self._connected()
        command = client.commands.from_json(aggregate, body["type"], {k: v for k, v in body.items() if k != "type"})
        return await self.perform(request, aggregate, key, command, request.rel_url.raw_path, due_ms)

    async def perform(
        self,
        request: web.Request,
        aggregate: str,
        key: str,
        command: Any,
        place: str = "",
        due_ms: int | None = None,
    ) -> web.Response:
        """Sends a command as the request's headers say, and tells what became of it. `place`: where to ask later."""
        wait_s, options = _preferred_wait_s(request), _options(request)
        options["at"] = due_ms
        client = await self._connected()
        try:
            if wait_s == 0 or _ms_to_come(due_ms) > 1000 * wait_s:
                command_id, position = await client.store(aggregate, key, command, **options)
                told = {"command_id": command_id, "position": position, "due_ms": due_ms}
                return answer(202, told, _location(place, command_id))
            return _told(await client.send(aggregate, key, command, wait=wait_s, **options))
        except NoReply as error:
            told = {"command_id": error.command_id, "position": error.stored, "due_ms": due_ms}
            told |= {"issued_ms": error.issued_ms, "detail": str(error)}
            if error.parked is not None:
                told["parked"] = error.parked
            return answer(202, told, _location(place, error.command_id))

    async def outcome(self, request: web.Request) -> web.Response:
        """What became of a command sent earlier: 404 while nothing is known of it."""
        aggregate, key, command_id = _in_path(request, "aggregate", "key", "id")
        client = await self._connected()
        client.commands.kind(aggregate)
        partition = await self._forwarding.partition(aggregate, key)
        if not self._tables.holds(aggregate, partition):
            path = request.rel_url.raw_path
            return await self._forwarding.pass_on(request, aggregate, partition, path, {})
        topic = TopicKind.REPLIES.topic(aggregate)
        if not self._tables.holds(topic, partition):
            return problem(404, f"{aggregate!r} does not remember its commands (idempotency=None)", "NotRemembered")
        reply: ReplyMessage | None = self._tables.value(topic, partition, reply_key(key.encode(), command_id))
        if reply is None and (cause := self._parked(client, aggregate, partition, key, command_id)) is not None:
            return answer(202, {"outcome": "parked", "command_id": command_id, "cause": cause})
        if reply is None and (due_ms := self._due_ms(aggregate, partition, key, command_id)) is not None:
            return answer(202, {"command_id": command_id, "due_ms": due_ms, "detail": "it is scheduled"})
        if reply is None:
            return problem(
                404, f"nothing is known of the command {command_id!r} to {aggregate} {key!r}", "UnknownCommand"
            )
        return answer(200, outcome_json(outcome_of(reply, client.commands.events)))

    def _due_ms(self, aggregate: str, partition: int, key: str, command_id: str) -> int | None:
        """When a scheduled command that has not been decided is due; None where there is none."""
        topic = TopicKind.DEADLINES.topic(aggregate)
        if not self._tables.holds(topic, partition):
            return None
        row = self._tables.value(topic, partition, deadline_key(key.encode(), SCHEDULED + command_id))
        return None if row is None else int(row.due_ms)

    def _parked(self, client: AsyncClient, aggregate: str, partition: int, key: str, command_id: str) -> str | None:
        """Why a command waits, if it does; only the first of a long queue are looked at."""
        service = self._forwarding.router.topology.service_of(aggregate).name
        queue = TopicKind.QUEUE.topic(f"{service}.{TopicKind.COMMAND.topic(aggregate)}")
        prefix = key_prefix(key.encode())
        for _, entry in self._tables.pairs(queue, partition, prefix, prefix, LOOK_MAX):
            with suppress(UndecodableRecord):
                if client.commands.kind(aggregate).decode(entry.value).id == command_id:
                    return entry.cause or "it waits behind a parked record of its key"
        return None


def _ms_to_come(due_ms: int | None) -> float:
    return 0 if due_ms is None else due_ms - time.time() * 1000


def _told(outcome: Outcome) -> web.Response:
    if not isinstance(outcome, Rejected):
        return answer(200, outcome_json(outcome), {"ETag": f'"{outcome.version}"'})
    detail = "another version is there, or the id stands for another command" if outcome.reason in CONFLICTS else ""
    told = outcome_json(outcome)
    return problem(409, detail or f"the aggregate rejects the command: {outcome.reason}", "Rejected", **told)


def _in_path(request: web.Request, *names: str) -> list[str]:
    """Parts of the path. InvalidCommand where it is not UTF-8, as nobody else would read the same from it."""
    try:
        unquote_to_bytes(request.rel_url.raw_path).decode()
    except UnicodeDecodeError as error:
        raise InvalidCommand(f"the path is not UTF-8: {error}") from None
    return [request.match_info[name] for name in names]


def _location(place: str, command_id: str) -> dict[str, str]:
    """Where the outcome is to be asked for."""
    return {"Location": f"{place}/{quote(command_id, safe='')}"} if place else {}


def _preferred_wait_s(request: web.Request) -> float:
    """`Prefer: wait=5`; `respond-async` alone waits for nothing."""
    prefer = ", ".join(request.headers.getall("Prefer", ()))
    found = re.search(r"\bwait\s*=\s*\"?([0-9]{1,5})\"?", prefer)
    if found:
        return min(float(found[1]), WAIT_S_MAX)
    return 0.0 if re.search(r"\brespond-async\b", prefer) else WAIT_S


def _options(request: web.Request) -> Options:
    """What the headers say of the command."""
    options = Options(expected_version=_expected_version(request))
    if (quoted := request.headers.get("Idempotency-Key")) is not None:
        found = re.fullmatch(r'"([^"]+)"|([^"]+)', quoted.strip())
        if not found:
            raise BadRequest(f"Idempotency-Key must be a text that is not empty, not {quoted!r:.100}")
        options["command_id"] = found[1] or found[2]
    if correlation_id := request.headers.get("X-Correlation-Id"):
        options["correlation_id"] = correlation_id
    if (issued := request.headers.get("X-Issued-At")) is not None:
        if not re.fullmatch(r"[0-9]{1,15}", issued):
            raise BadRequest(f"X-Issued-At must be milliseconds since the epoch, not {issued!r:.100}")
        options["issued_ms"] = int(issued)
    return options


def _expected_version(request: web.Request) -> int | None:
    """`If-Match: "7"`, or 7."""
    wanted = request.headers.get("If-Match")
    if wanted is None:
        return None
    found = re.fullmatch(r'\s*"?([0-9]{1,18})"?\s*', wanted)
    if not found:
        raise BadRequest(f"If-Match must be a version, as a number, not {wanted!r:.100}")
    return int(found[1])
