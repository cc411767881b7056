"""Sagas over HTTP: the progress of their instances, and the operators' actions."""

from __future__ import annotations

import asyncio
from collections.abc import Collection
from functools import partial
from typing import Any, NamedTuple

from pipeline.adapters.json.writing import row_json, to_json
from pipeline.client.wire.as_of import iso
from pipeline.errors import BadRequest, TableUnavailable, UnknownKey
from pipeline.model import Intervention, Saga, StateMessage, Summary
from pipeline.server.endpoint import Page, Pages, Place, Reply, Request
from pipeline.server.endpoints.operators import INTERVENE, SAGA, SAGAS, SAGAS_OF
from pipeline.server.operator_input import audit_text
from pipeline.server.owner.dispatch import Dispatcher
from pipeline.server.pages.commands import CommandApi
from pipeline.server.reads.local_tables import LocalTables

ROWS = 1_000  # read at once

Json = dict[str, Any]


class Instance(NamedTuple):
    """One instance. `since_ms`: when its last event happened."""

    saga: str
    key: str
    summary: Summary
    since_ms: int

    def as_json(self) -> Json:
        """Return the instance as JSON."""
        return {"saga": self.saga, "key": self.key, **to_json(self.summary), "since": iso(self.since_ms)}


class Listing(NamedTuple):
    """Which instances to list: those with these statuses, after the key `after`, at most `limit`."""

    states: Collection[str]
    after: str
    limit: int

    def query(self) -> dict[str, str]:
        """Return the selection as query parameters of a forwarded request."""
        return {"state": ",".join(self.states), "limit": str(self.limit)}


class SagaApi:
    """`GET /v1/sagas`, `/v1/sagas/{saga}` and `/v1/sagas/{saga}/{key}`, and `POST` to its `/retry`, `/skip`, … ."""

    def __init__(self, tables: LocalTables, dispatcher: Dispatcher, commands: CommandApi) -> None:
        self._tables, self._dispatcher, self._commands = tables, dispatcher, commands
        self._topology = dispatcher.topology

    def pages(self) -> Pages:
        """Return the pages."""
        return {
            SAGAS: Page(self.instances),
            SAGAS_OF: Page(self.instances, self._check),
            SAGA: Page(self.instance, self._check),
            **{each: Page(partial(self.act, action), self._check) for action, each in INTERVENE.items()},
        }

    def _check(self, request: Request) -> None:
        self._topology.saga(request.parts["saga"])

    # --- pages --------------------------------------------------------------------------------------------------------

    async def instances(self, request: Request) -> Reply:
        """Return instances by saga and key; those in flight unless `state` is given.

        Unless a saga is named, partitions that cannot be reached are listed in `unavailable`.
        """
        topology, name = self._topology, request.parts.get("saga")
        sagas = [topology.saga(name)] if name else [topology.sagas[each] for each in sorted(topology.sagas)]
        states, limit = request["state"], request["limit"]
        after_saga, _, after_key = request["after"].partition("/")
        only = request["partition"] if name else None
        found: list[Json] = []
        unavailable: list[str] = []
        for saga in sagas:
            if saga.name < after_saga:
                continue
            wanted = Listing(states, after_key if saga.name == after_saga else "", limit - len(found))
            count = await self._dispatcher.blocking(partial(self._dispatcher.router.partitions, saga.name))
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
                return Reply(200, {"sagas": found, "next": token, "unavailable": unavailable})
        return Reply(200, {"sagas": found, "next": None, "unavailable": unavailable})

    async def instance(self, request: Request) -> Reply:
        """Return the progress and state of one instance."""
        saga, key, partition = self._topology.saga(request.parts["saga"]), request.parts["key"], request.partition
        value: StateMessage | None = self._tables.value(saga.name, partition, key.encode())
        if value is None:
            raise UnknownKey(f"no saga {saga.name!r} {key!r} has begun")
        return Reply(
            200, {**instance_of(saga, key, value).as_json(), "version": value.version, "state": row_json(value)["row"]}
        )

    async def act(self, action: str, request: Request) -> Reply:
        """Send an operator's action to a saga as a command; the reply is a command's, 409 if it is refused."""
        body = request.body
        if not isinstance(body, dict) or body.keys() - {"by", "why"}:
            raise BadRequest('the body must be {"by": "…", "why": "…"}')
        asked = Intervention(action, audit_text(body, "by"), audit_text(body, "why"))
        return await self._commands.perform(request, request.parts["saga"], request.parts["key"], asked)

    # --- of one partition ---------------------------------------------------------------------------------------------

    async def _part(self, request: Request, saga: Saga[Any], partition: int, wanted: Listing) -> list[Json]:
        """Return the instances of one partition, in the order of their keys."""
        query = {"partition": str(partition), **wanted.query()}
        query |= {"after": f"{saga.name}/{wanted.after}"} if wanted.after else {}
        return await self._dispatcher.share(
            request,
            Place(saga.name, partition),
            lambda: self._dispatcher.blocking(lambda: self._local(saga, partition, wanted)),
            lambda reply: reply.body["sagas"],
            SAGAS_OF,
            {"saga": saga.name},
            query,
        )

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
    """Return the instance in a row of the saga's table."""
    return Instance(saga.name, key, saga.summary(value.body), value.time_ms)
