"""Commands over HTTP: any worker takes commands for any aggregate, and tells what became of them."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any
from urllib.parse import quote, unquote_to_bytes

import faust
from aiohttp import web

from pipeline.client import AsyncClient
from pipeline.client.commands import outcome_json
from pipeline.client.from_json import parsed
from pipeline.client.outcome import Outcome, outcome_of
from pipeline.errors import InvalidCommand, NoReply
from pipeline.model import Rejected, ReplyMessage, TopicKind
from pipeline.query.forward import Forwarding
from pipeline.query.local import LocalTables
from pipeline.query.problems import BadRequest, add_pages, answer, problem
from pipeline.runtime.answers import answer_key

WAIT_S, WAIT_S_MAX = 5.0, 60.0
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
            get={"/v1/commands/{aggregate}/{key}/{id}": self.outcome},
            post={"/v1/commands/{aggregate}/{key}": self.send},
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
        wait_s, expected = _preferred_wait_s(request), _expected_version(request)
        body = parsed(await request.read())
        if not isinstance(body, dict) or not isinstance(body.get("type"), str):
            raise InvalidCommand("the body must be an object with the command's fields and its name as `type`")
        client = await self._connected()
        command = client.commands.from_json(aggregate, body["type"], {k: v for k, v in body.items() if k != "type"})
        options: dict[str, Any] = {
            "command_id": request.headers.get("Idempotency-Key", "").strip('"'),
            "correlation_id": request.headers.get("X-Correlation-Id", ""),
            "expected_version": expected,
        }
        if wait_s == 0:
            command_id = str(await client.send(aggregate, key, command, **options))
            return answer(
                202,
                {"command_id": command_id},
                {"Location": f"{request.rel_url.raw_path}/{quote(command_id, safe='')}"},
            )
        try:
            outcome = await client.send(aggregate, key, command, wait=wait_s, **options)
        except NoReply as error:
            body = {"command_id": error.command_id, "position": error.stored, "detail": str(error)}
            return answer(202, body, {"Location": f"{request.rel_url.raw_path}/{quote(error.command_id, safe='')}"})
        assert not isinstance(outcome, str)
        return _told(outcome)

    async def outcome(self, request: web.Request) -> web.Response:
        """What became of a command sent earlier: 404 while nothing is known of it."""
        aggregate, key, command_id = _in_path(request, "aggregate", "key", "id")
        client = await self._connected()
        client.commands.kind(aggregate)
        partition = await self._forwarding.partition(aggregate, key)
        if not self._tables.holds(aggregate, partition):
            path = request.rel_url.raw_path
            status, body, kind = await self._forwarding.fetch(request, aggregate, partition, path, {})
            return answer(status, body, kind=kind)
        reply: ReplyMessage | None = self._tables.value(
            TopicKind.ANSWERS.topic(aggregate), partition, answer_key(key.encode(), command_id)
        )
        if reply is None:
            return problem(
                404, f"nothing is known of the command {command_id!r} to {aggregate} {key!r}", "UnknownCommand"
            )
        return answer(200, outcome_json(outcome_of(reply, client.commands.events)))


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


def _preferred_wait_s(request: web.Request) -> float:
    """`Prefer: wait=5`; `respond-async` waits for nothing."""
    prefer = request.headers.get("Prefer", "")
    if re.search(r"\brespond-async\b", prefer):
        return 0.0
    found = re.search(r"\bwait\s*=\s*\"?([0-9]{1,5})\"?", prefer)
    return min(float(found[1]), WAIT_S_MAX) if found else WAIT_S


def _expected_version(request: web.Request) -> int | None:
    """`If-Match: "7"`, or 7."""
    wanted = request.headers.get("If-Match")
    if wanted is None or wanted.strip() == "*":
        return None
    found = re.fullmatch(r'\s*"?([0-9]{1,18})"?\s*', wanted)
    if not found:
        raise BadRequest(f"If-Match must be a version, as a number, not {wanted!r:.100}")
    return int(found[1])
