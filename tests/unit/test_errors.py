"""The bases of errors: what a caller can do, the HTTP status, and what never parks a record."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer

from pipeline import errors
from pipeline.errors import BadInput, NeedsOperator, NotFound, PipelineError, Retryable
from pipeline.flow.functions.raised import is_topologys
from pipeline.server.web import as_problems

BASES = (Retryable, BadInput, NotFound, NeedsOperator)
# Neither: sending again needs the id; bytes are nobody's input; what needs a copy that lacks events, belongs to another
# partition, or cannot be upcast, is parked.
OTHERS = {
    errors.NoReply,
    errors.UndecodableRecord,
    errors.NotKnownYet,
    errors.CopyHeld,
    errors.Misplaced,
    errors.UpcastFailed,
}
STATUS = {
    404: ["UnknownTable", "UnknownAggregate", "UnknownKey", "NoHistory", "NoDeadlines", "NotParked"],
    400: ["BadRequest", "InvalidMoment", "InvalidToken", "NoSuchConsistency"],
    409: ["CopyHeld"],
    410: ["HistoryIncomplete"],
    422: ["ForeignToken", "InvalidCommand", "EncodeError"],
    500: ["FoldError", "UpcastFailed", "TopologyError", "SchemaError"],
    503: [
        "TableUnavailable",
        "Contended",
        "Overloaded",
        "BrokerUnreachable",
        "LaneFatal",
        "TopicError",
        "StoreDamaged",
    ],
    504: ["NotYet"],
}


def every(base: type[PipelineError]) -> Iterator[type[PipelineError]]:
    for cls in base.__subclasses__():
        if cls.__module__ == errors.__name__:
            yield cls
            yield from every(cls)


def test_a_caller_can_tell_what_to_do_about_each_error() -> None:
    for cls in set(every(PipelineError)) - set(BASES) - OTHERS:
        assert any(issubclass(cls, base) for base in BASES), cls
    assert not any(issubclass(cls, BASES) for cls in OTHERS)
    for cls in every(Retryable):
        assert not issubclass(cls, (BadInput, NotFound, NeedsOperator)), cls


@pytest.mark.parametrize(("status", "name"), [(status, name) for status, names in STATUS.items() for name in names])
def test_an_error_that_leaves_a_page_has_its_status(status: int, name: str) -> None:
    async def page(_: web.Request) -> web.Response:
        raise getattr(errors, name)("what, where, cure")

    async def asked() -> tuple[int, str | None, str]:
        app = web.Application(middlewares=[as_problems])
        app.add_routes([web.get("/", page)])
        async with TestClient(TestServer(app)) as client:
            response = await client.get("/")
            return response.status, response.headers.get("Retry-After"), (await response.json())["error"]

    assert asyncio.run(asked()) == (status, "1" if status == 503 else None, name)


def test_trouble_of_the_engine_parks_no_record() -> None:
    """A topic that is gone, as the producer says in the middle of a fold, is no fault of the record."""
    for cls in (errors.TopicError, errors.LaneFatal, errors.StateDirectoryError, errors.Overloaded):
        assert not is_topologys(cls("x"))
    for cls in (errors.EncodeError, errors.TopologyError, errors.UndecodableRecord, ValueError):
        assert is_topologys(cls("x"))
