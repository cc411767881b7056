"""Sagas over HTTP: where their instances stand, and a person's hand."""

from __future__ import annotations

import asyncio
from collections.abc import Collection
from functools import partial
from typing import Any, NamedTuple
from urllib.parse import quote

import faust
from aiohttp import web

from pipeline.client.owner_request import Answer, problem_of
from pipeline.client.wire.as_of import iso
from pipeline.client.wire.from_json import parsed
from pipeline.errors import BadRequest, TableUnavailable, UnknownKey
from pipeline.model import Intervention, Saga, StateMessage, Summary
from pipeline.model.saga.saga import ACTIONS, IN_FLIGHT, STATUSES
from pipeline.server.operator_input import audit_text, int_param
from pipeline.server.owner.forward import Forwarding
from pipeline.server.pages.commands import CommandApi
from pipeline.server.problems import add_pages, answer, key_in_path, problem
from pipeline.server.reads.local_tables import LocalTables, row_json

LIMIT, LIMIT_MAX = 100, 1_000
ROWS = 1_000  # looked at together

Json = dict[str, Any]


class Instance(NamedTuple):
    """One instance. `since_ms`: when something last happened to it."""

    saga: str
    key: str
    summary: Summary
    since_ms: int

    def as_json(self) -> Json:
        """For machines."""
        return {"saga": self.saga, "key": self.key, **self.summary._asdict(), "since": iso(self.since_ms)}


class Listing(NamedTuple):
    """Which instances are asked for: of those statuses, behind the key `after`, at most `limit`."""

    states: Collection[str]
    after: str
    limit: int

    def query(self) -> dict[str, str]:
        """The selection as query parameters of a forwarded request."""
        return {"state": ",".join(self.states), "limit": str(self.limit)}


class SagaApi:
    """`GET /v1/sagas`, `/v1/sagas/{saga}` and `/v1/sagas/{saga}/{key}`, and `POST` to its `/retry`, `/skip`, … ."""

    def __init__(self, tables: LocalTables, forwarding: Forwarding, commands: CommandApi) -> None:
        self._tables, self._forwarding, self._commands = tables, forwarding, commands
        self._router = forwarding.router

    def mount(self, app: faust.App) -> None:
        """Adds the pages to a Faust app's web server."""
        one = "/v1/sagas/{saga}/{key:[^/]+}"
        add_pages(
            app,
            get={"/v1/sagas": self.instances, "/v1/sagas/{saga}": self.instances, one: self.instance},
            post={f"{one}/{action}": partial(self.act, action) for action in ACTIONS},
        )

    # --- pages --------------------------------------------------------------------------------------------------------

    async def instances(self, request: web.Request) -> web.Response:
        """Those in the states asked for, by saga and key; all that are in flight where no `state` is named.

        `unavailable` names the partitions that nobody can be asked about just now, where no saga is named.
        """
        topology, name = self._router.topology, request.match_info.get("saga")
        sagas = [topology.saga(name)] if name else [topology.sagas[each] for each in sorted(topology.sagas)]
        states, limit = _states(request), int_param(request.query.get("limit", str(LIMIT)), 1, LIMIT_MAX)
        after_saga, _, after_key = request.query.get("after", "").partition("/")
        only = int_param(request.query["partition"], 0, 2**31 - 1) if name and "partition" in request.query else None
        found: list[Json] = []
        unavailable: list[str] = []
        for saga in sagas:
            if saga.name < after_saga:
                continue
            wanted = Listing(states, after_key if saga.name == after_saga else "", limit - len(found))
            count = await self._forwarding.blocking(partial(self._router.partitions, saga.name))
            places = range(count) if only is None else [only]
            parts = [self._part(request, saga, n, wanted) for n in places]
            listed: list[Json] = []
            for n, part in zip(places, await asyncio.gather(*parts, return_exceptions=True), strict=True):
                if isinstance(part, TableUnavailable) and not name:
                    unavailable.append(f"{saga.name}-{n}")
                elif isinstance(part, BaseException):
                    raise part
                else:
                    listed += part
            found += sorted(listed, key=lambda each: each["key"].encode())[: wanted.limit]
            if len(found) == limit:
                token = f"{saga.name}/{found[-1]['key']}"
                return answer(200, {"sagas": found, "next": token, "unavailable": unavailable})
        return answer(200, {"sagas": found, "next": None, "unavailable": unavailable})

    async def instance(self, request: web.Request) -> web.Response:
        """Where one stands, with its state."""
        saga, key = self._router.topology.saga(request.match_info["saga"]), key_in_path(request)
        partition = await self._forwarding.partition(saga.name, key)
        if not self._tables.holds(saga.name, partition):
            return await self._forwarding.pass_on(request, saga.name, partition, request.rel_url.raw_path, {})
        value: StateMessage | None = self._tables.value(saga.name, partition, key.encode())
        if value is None:
            raise UnknownKey(f"no saga {saga.name!r} {key!r} has begun")
        return answer(
            200, {**instance_of(saga, key, value).as_json(), "version": value.version, "state": row_json(value)["row"]}
        )

    async def act(self, action: str, request: web.Request) -> web.Response:
        """What a person asks of a saga, as a command to it; answered as commands are, 409 where it is refused."""
        saga, key = self._router.topology.saga(request.match_info["saga"]), key_in_path(request)
        if request.content_type != "application/json":
            return problem(415, "send `by` and `why` as application/json", "UnsupportedMediaType")
        body = parsed(await request.read())
        if not isinstance(body, dict) or body.keys() - {"by", "why"}:
            raise BadRequest('the body must be {"by": "…", "why": "…"}')
        asked = Intervention(action, audit_text(body, "by"), audit_text(body, "why"))
        return await self._commands.perform(request, saga.name, key, asked)

    # --- here or elsewhere --------------------------------------------------------------------------------------------

    async def _part(self, request: web.Request, saga: Saga[Any], partition: int, wanted: Listing) -> list[Json]:
        """The instances of one partition, in the order of their keys."""
        if self._tables.holds(saga.name, partition):
            return await self._forwarding.blocking(lambda: self._local(saga, partition, wanted))
        query = {"partition": str(partition), **wanted.query()}
        query |= {"after": f"{saga.name}/{wanted.after}"} if wanted.after else {}
        path = f"/v1/sagas/{quote(saga.name)}"
        status, body, _, headers = await self._forwarding.fetch(request, saga.name, partition, path, query)
        if error := problem_of(Answer(status, body, headers), "that holds the partition"):
            raise error
        listed: list[Json] = body["sagas"]
        return listed

    def _local(self, saga: Saga[Any], partition: int, wanted: Listing) -> list[Json]:
        found: list[Json] = []
        start = wanted.after.encode() + b"\0" if wanted.after else b""
        while rows := self._tables.pairs(saga.name, partition, b"", start, ROWS):
            for key, value in rows:
                each = instance_of(saga, key.decode(), value)
                if each.summary.status in wanted.states:
                    found.append(each.as_json())
                    if len(found) == wanted.limit:
                        return found
            start = rows[-1][0] + b"\0"
        return found


def instance_of(saga: Saga[Any], key: str, value: StateMessage) -> Instance:
    """The instance that a row of the saga's table is."""
    return Instance(saga.name, key, saga.summary(value.body), value.time_ms)


def _states(request: web.Request) -> list[str]:
    states = [state for each in request.query.getall("state", []) for state in each.split(",")]
    if unknown := [state for state in states if state not in STATUSES]:
        raise BadRequest(f"state={unknown[0]!r:.100} is not known; there are {', '.join(STATUSES)}")
    return states or list(IN_FLIGHT)
