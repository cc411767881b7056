"""Reads are counted once, at the worker that was asked, by consistency and by what came of them."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

from pipeline.client.wire.read_options import Level, ReadOptions, parse_read_options
from pipeline.errors import TableUnavailable
from pipeline.model import Token
from pipeline.server.endpoint import At, Page, Reply, Request
from pipeline.server.endpoints.tables import ROW, STATUS
from pipeline.server.owner.dispatch import Dispatcher
from pipeline.server.owner.forward import FORWARDED
from pipeline.server.reads.timings import consistency_of

READ = replace(ROW, at=At.ANY)


def counted(*requests: Request, page: Any = None, endpoint: Any = READ) -> dict[tuple[str, int], int]:
    """How many reads of which kind a worker counts."""

    async def found(_: Request) -> Reply:
        return Reply(200, {})

    async def scenario() -> Dispatcher:
        forwarding: Any = SimpleNamespace(router=SimpleNamespace(topology=None))
        dispatcher = Dispatcher(SimpleNamespace(), forwarding)  # type: ignore[arg-type]
        for request in requests:
            with suppress(TableUnavailable):
                await dispatcher.answer(endpoint, Page(page or found), request)
        return dispatcher

    kinds = asyncio.run(scenario()).read_timings.by_kind
    return {kind: sum(histogram.counts) for kind, histogram in kinds.items()}


def reading(query: dict[str, str], **headers: str) -> Request:
    return Request(reading=parse_read_options(query), headers=headers)


def test_each_consistency_is_counted_apart() -> None:
    asked = [{}, {}, {"at_least": "users.command/3@7"}, *({"consistency": level.value} for level in Level)]
    found = counted(*map(reading, asked))
    assert found == {
        ("owner", 200): 3,
        ("at_least", 200): 1,
        ("eventual", 200): 1,
        ("linearizable", 200): 1,
        ("fresh", 200): 1,
    }


def test_what_another_worker_has_counted_and_what_is_no_read_is_not() -> None:
    assert counted(reading({}, **{FORWARDED: "1"})) == {}
    assert counted(reading({}), endpoint=STATUS) == {}


def test_a_read_that_fails_is_counted_by_its_status() -> None:
    async def away(_: Request) -> Reply:
        raise TableUnavailable("the partition moves")

    async def nothing(_: Request) -> Reply:
        return Reply(404, {})

    assert counted(reading({}), page=away) == {("owner", 503): 1}
    assert counted(reading({}), page=nothing) == {("owner", 404): 1}


def test_a_fresh_read_with_a_token_is_a_fresh_one() -> None:
    assert consistency_of(ReadOptions(Level.FRESH, Token("users.command/3@7"))) == "fresh"
