"""`POST /v1/read`: rows of several aggregates, of any services, as they were at one moment.

All are read linearizably, again and again, until two passes find the same versions and nothing held. Versions only
grow, so all these rows existed together between the two passes. When the first participant of a two-phase commit
commits, each other one still holds its own part until it commits too; so if nothing is held, all of it is visible, or
nothing.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import replace
from functools import reduce
from typing import Any, NamedTuple

from pipeline.client.wire.read_options import Level, ReadOptions
from pipeline.errors import BadRequest, Contended, NotYet
from pipeline.model import Token
from pipeline.server.endpoint import Page, Pages, Reply, Request
from pipeline.server.endpoints.tables import READ
from pipeline.server.owner.forward import POSITION
from pipeline.server.pages.tables import KEYS_MAX, QueryApi

PAUSE_S = 0.02  # between passes, if something is held

Json = dict[str, Any]
Key = tuple[str, str]  # table and key


class Pass(NamedTuple):
    """The rows of all keys from one read; None for a key without a row."""

    rows: Mapping[Key, Json | None]
    token: Token


class SnapshotReadApi:
    """The page, on the tables of `api`."""

    def __init__(self, api: QueryApi) -> None:
        self._api = api

    def pages(self) -> Pages:
        """Return the pages."""
        return {READ: Page(self.read)}

    async def read(self, request: Request) -> Reply:
        """Return the rows in the order of the keys, null for a key without a row."""
        if unfit := request.query.keys() - {"wait"}:
            raise BadRequest(f"{sorted(unfit)[0]!r:.100} is not a parameter of {READ.path}; it has `wait`")
        asked, keys = replace(request.reading, level=Level.LINEARIZABLE), _keys(request.body)
        for table in {table for table, _ in keys}:
            self._api.check(table, asked)

        async def read(left_s: float) -> Pass:
            return await self._pass(request, keys, replace(asked, wait_s=left_s))

        now = await agreed(read, asked.wait_s)
        rows = [None if (row := now.rows[key]) is None else {"table": key[0], **row} for key in keys]
        return Reply(200, {"rows": rows}, {POSITION: str(now.token)} if now.token else {})

    async def _pass(self, request: Request, keys: list[Key], asked: ReadOptions) -> Pass:
        """Read every key once, linearizably."""
        parts = await self._api.several(request, keys, asked)
        rows: dict[Key, Json | None] = dict.fromkeys(keys)
        for (table, _), part in parts.items():
            rows |= {(table, row["key"]): row for row in part.rows}
        return Pass(rows, reduce(Token.__or__, (part.token for part in parts.values()), Token()))


async def agreed(read: Callable[[float], Awaitable[Pass]], wait_s: float) -> Pass:
    """Return a pass with the same versions as the one before it, and nothing held. `read(left_s)`: makes one pass.

    Raises Contended if there was none within `wait_s`, NotYet if the keys could not be read twice.
    """
    clock = asyncio.get_running_loop().time
    until_s = clock() + wait_s
    before: Pass | None = None
    now = await read(wait_s)
    while True:
        held = [f"{table}/{key}" for (table, key), row in now.rows.items() if row and row.get("pending")]
        if before is not None and not held and _versions(now) == _versions(before):
            return now
        if held:
            await asyncio.sleep(PAUSE_S)
        try:
            if clock() >= until_s:
                raise NotYet(f"the keys could not be read twice within {wait_s:g} s")
            following = await read(until_s - clock())
        except NotYet:
            if before is None and not held:
                raise
            why = f"something is held in {', '.join(held[:5])}" if held else "they change all the time"
            raise Contended(f"no moment within {wait_s:g} s at which the keys can be read as one: {why}") from None
        before, now = now, following


def _versions(found: Pass) -> list[int]:
    return [0 if row is None else row["version"] for row in found.rows.values()]


def _keys(body: Any) -> list[Key]:
    keys = body.get("keys") if isinstance(body, dict) else None
    if not isinstance(keys, list) or not 0 < len(keys) <= KEYS_MAX or not all(map(_is_key, keys)):
        raise BadRequest(f'the body must be {{"keys": [{{"table": …, "key": …}}, …]}}, with 1 to {KEYS_MAX} keys')
    return [(each["table"], each["key"]) for each in keys]


def _is_key(told: Any) -> bool:
    return (
        isinstance(told, dict)
        and told.keys() == {"table", "key"}
        and all(isinstance(each, str) and each for each in told.values())
    )
